"""A camera over WebRTC: packets that were cut before the run, sent when they are due."""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Final

import av
from aiortc.codecs import get_encoder

from sdk_adapters.harness.generator.source import Camera, Reel

KEPT: Final = 512
"""Packets that can be sent again."""
_RTP: Final = struct.Struct("!BBHII")
_MIME: Final = {"h264": "video/H264", "vp8": "video/VP8"}


class Published:
    """Sends a camera until `close`."""

    def __init__(
        self, camera: Camera, ssrc: int, kind: int, send: Callable[[bytes], None], codec: str
    ) -> None:
        """Begins.

        Args:
            camera: What to send.
            ssrc: The stream, as the offer names it.
            kind: Payload type.
            send: Encrypts and sends a packet, at once.
            codec: `h264` or `vp8`.
        """
        self.camera = camera
        self.first_at: float | None = None
        """When the first frame was captured: the service counts its times from there."""
        self._ssrc = ssrc
        self._kind = kind
        self._send = send
        self._packets = packets(camera.reel, codec)
        self._sequence = secrets.randbits(15)
        self._offset = secrets.randbits(31)
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._task = asyncio.create_task(self._run())

    def again(self, sequences: Sequence[int]) -> None:
        """Sends packets again, as they were: what was not asked for within moments is gone."""
        for sequence in sequences:
            if (packet := self._kept.get(sequence)) is not None:
                self._send(packet)

    async def close(self) -> None:
        """Ends it."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        async for shot in self.camera.shots():
            if self.first_at is None:
                self.first_at = shot.captured_at
            ticks = round((shot.captured_at - self.first_at) * 90_000)
            timestamp = (self._offset + ticks) & 0xFFFFFFFF
            payloads = self._packets[shot.number]
            for index, payload in enumerate(payloads):
                kind = self._kind | (0x80 if index == len(payloads) - 1 else 0)
                head = _RTP.pack(0x80, kind, self._sequence, timestamp, self._ssrc)
                self._kept[self._sequence] = head + payload
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
                self._send(head + payload)
                self._sequence = (self._sequence + 1) & 0xFFFF


@lru_cache(maxsize=4)
def packets(reel: Reel, codec: str) -> tuple[tuple[bytes, ...], ...]:
    """Returns the RTP payloads of every frame of a loop, as aiortc cuts them."""
    encoder: Any = get_encoder(SimpleNamespace(mimeType=_MIME[codec]))  # type: ignore[arg-type]
    cut = []
    for number, data in enumerate(reel.frames):
        packet = av.Packet(data)
        packet.time_base, packet.pts = Fraction(1, 90_000), number
        payloads, _ = encoder.pack(packet)
        cut.append(tuple(payloads))
    return tuple(cut)
