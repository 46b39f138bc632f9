"""One WebRTC client that shows nothing: it joins, commands, and counts packets."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCSessionDescription,
)
from aiortc.codecs import depayload
from aiortc.rtp import HeaderExtensionsMap, RtpPacket

from tests.bench.media import packets
from tests.bench.media.clients.reactor_wire import WAIT_S, Conversation, Place, Routes
from tests.bench.media.clients.tap import Tap

_MIME: Final = {"vp8": "video/VP8", "h264": "video/H264"}


@dataclass(frozen=True, slots=True)
class Joined:
    """How joining went."""

    session_id: str
    answer_ms: float
    """From the first request to the answer."""
    open_ms: float
    """From the first request to open data channels and a connected transport."""


class PacketTrack(MediaStreamTrack):
    """A camera whose frames were encoded before."""

    kind = "video"

    def __init__(self, frames: Sequence[bytes], rate: float) -> None:
        super().__init__()
        self._frames = itertools.cycle(frames)
        self._rate = rate
        self._count = 0
        # Cameras do not start in step.
        self._began = time.monotonic() + random.random() / rate

    async def recv(self) -> Any:
        """Returns the next frame when it is time."""
        due = self._began + self._count / self._rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        packet = av.Packet(next(self._frames))
        packet.time_base = Fraction(1, packets.CLOCK_HZ)
        packet.pts = round(self._count / self._rate * packets.CLOCK_HZ)
        self._count += 1
        return packet


class NullPeer:
    """A client of one session."""

    def __init__(self, http: aiohttp.ClientSession, place: Place, codec: str) -> None:
        self._routes = Routes(http, place)
        # Without this aiortc asks a public STUN server, for seconds where there is none.
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._codec = codec
        self._tap: Tap | None = None
        self._asking: asyncio.Task[None] | None = None
        self._living: asyncio.Task[None] | None = None
        self._acks: list[float] = []
        self._unanswered = 0
        self._kept: list[tuple[int, bytes, int]] = []
        self.started = False
        """Whether its stream runs."""

    @property
    def session_id(self) -> str:
        """The session it made."""
        return self._routes.session_id

    async def join(self, camera: PacketTrack | None = None) -> Joined:
        """Creates a session and connects to it."""
        began = time.perf_counter()
        await self._routes.create()
        peer, connected = self._peer, asyncio.Event()
        tracks = []
        if camera is not None:
            sending = peer.addTransceiver(camera, direction="sendonly")
            sending.setCodecPreferences(_codecs(self._codec))
            tracks.append((sending, {"name": "camera", "direction": "sendonly"}))
        receiving = peer.addTransceiver("video", direction="recvonly")
        receiving.setCodecPreferences(_codecs(self._codec))
        tracks.append((receiving, {"name": "main_video", "direction": "recvonly"}))
        self._talk = Conversation(peer.createDataChannel("data"), peer.createDataChannel("control"))

        @peer.on("connectionstatechange")
        def _changed() -> None:
            if peer.connectionState == "connected":
                connected.set()

        await peer.setLocalDescription(await peer.createOffer())
        mapping = [{"mid": str(each.mid), "kind": "video", **track} for each, track in tracks]
        answer = await self._routes.negotiate(peer.localDescription.sdp, mapping)
        answered = time.perf_counter()
        self._ignored = frozenset(
            codec.payloadType for codec in _rtx_types(peer.localDescription.sdp)
        )
        await peer.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        async with asyncio.timeout(WAIT_S):
            await connected.wait()
            await self._talk.open.wait()
        opened = time.perf_counter()
        self._tap = Tap(receiving.receiver.transport)
        self._living = asyncio.create_task(self._talk.live())
        return Joined(self.session_id, (answered - began) * 1e3, (opened - began) * 1e3)

    async def stage(self, clip: Path | None, *, live: bool) -> None:
        """Brings a session of ours to where `start` begins it."""
        if live:
            await self._talk.publish("camera")
            await self._talk.ask("set_mode", {"mode": "live"}, "state")
        elif clip is not None:
            file = await self._routes.upload(clip)
            await self._talk.ask("set_mode", {"mode": "file"}, "state")
            await self._talk.ask("set_video", {}, "video_accepted", {"video": file})
        await self._talk.ask("set_prompt", {"prompt": "begin"}, "state")

    def begin(self, *, whole: bool, commands_hz: float) -> None:
        """Begins to note packets, and to send commands, so many a second."""
        self._tapped.begin(whole=whole)
        self._acks, self._unanswered = [], 0
        if commands_hz > 0:
            self._asking = asyncio.create_task(self._ask(commands_hz))

    async def start(self) -> int:
        """Starts the stream; returns when `start` was sent, in ns, once a packet has come."""
        self._tapped.first.clear()
        sent = time.monotonic_ns()
        self._talk.send("start", {})
        if self._tapped._noted is None:
            self._tapped.begin(whole=False)
        async with asyncio.timeout(WAIT_S):
            await self._tapped.first.wait()
        self.started = True
        return sent

    async def end(self) -> dict[str, Any]:
        """Ends what `begin` began; returns what came."""
        if self._asking is not None:
            self._asking.cancel()
            with suppress(asyncio.CancelledError):
                await self._asking
            self._asking = None
        self._kept = self._tapped.end()
        parsed = (packets.parse(*noted) for noted in self._kept)
        stream = packets.stream([each for each in parsed if each is not None], self._ignored)
        return {
            "frames": [
                [f.timestamp, f.first_ns, f.last_ns, f.packets, f.size, f.complete]
                for f in stream.frames
            ],
            "lost": stream.lost,
            "bytes": stream.bytes,
            "acks_ms": [round(each, 3) for each in self._acks],
            "unanswered": self._unanswered,
            "session_id": self.session_id,
        }

    def payloads(self) -> dict[int, bytes]:
        """Returns the encoded frames of what was kept whole, by unwrapped timestamp."""
        able = [
            codec
            for codec in self._peer.getTransceivers()[-1]._codecs
            if codec.mimeType == _MIME[self._codec]
        ]
        types = {codec.payloadType for codec in able}
        parts: dict[int, dict[int, bytes]] = {}
        wanted: int | None = None
        extensions = HeaderExtensionsMap()
        times: dict[int, int] = {}
        last: int | None = None
        for _, data, _ in self._kept:
            clear = self._tapped.decrypted(data)
            if clear is None:
                continue
            packet = RtpPacket.parse(clear, extensions)
            if packet.payload_type not in types or not packet.payload:
                continue
            wanted = packet.ssrc if wanted is None else wanted
            if packet.ssrc != wanted:
                continue
            if packet.timestamp not in times:
                step = 0 if last is None else (packet.timestamp - last + 2**31) % 2**32 - 2**31
                times[packet.timestamp] = packet.timestamp if last is None else last + step
                last = times[packet.timestamp]
            part = depayload(able[0], packet.payload)
            parts.setdefault(times[packet.timestamp], {})[packet.sequence_number] = part
        return {timestamp: _joined(found) for timestamp, found in sorted(parts.items())}

    async def close(self) -> None:
        """Leaves, and ends the session."""
        if self._living is not None:
            self._living.cancel()
        with suppress(aiohttp.ClientError):
            await self._routes.end()
        await self._peer.close()

    @property
    def _tapped(self) -> Tap:
        if self._tap is None:
            raise RuntimeError("join first")
        return self._tap

    async def _ask(self, hz: float) -> None:
        """Sends prompts, at times that no period of the server can fall in step with."""
        for number in itertools.count():
            await asyncio.sleep(random.uniform(0.5, 1.5) / hz)
            prompt = f"{self.session_id}-{number}"
            coming = self._talk.answer(partial(_shows, prompt))
            began = time.perf_counter()
            self._unanswered += 1
            self._talk.send("set_prompt", {"prompt": prompt})
            await coming
            self._unanswered -= 1
            self._acks.append((time.perf_counter() - began) * 1e3)


def _shows(prompt: str, said: dict[str, Any]) -> bool:
    return bool(said["type"] == "state" and said["data"].get("current_prompt") == prompt)


def _codecs(name: str) -> list[Any]:
    able: Any = RTCRtpReceiver.getCapabilities("video")
    return [each for each in able.codecs if each.mimeType == _MIME[name]]


def _rtx_types(sdp: str) -> list[Any]:
    from aiortc.sdp import SessionDescription

    media = SessionDescription.parse(sdp).media
    return [codec for each in media for codec in each.rtp.codecs if codec.name == "rtx"]


def _joined(found: dict[int, bytes]) -> bytes:
    """Puts the parts of a frame in order, across the wrap of the sequence numbers."""
    numbers = sorted(found)
    if numbers[-1] - numbers[0] > 2**15:
        numbers.sort(key=lambda number: (number + 2**15) % 2**16)
    return b"".join(found[number] for number in numbers)
