"""The outputs of one session: which gateways want which, and sending them their packets."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, cast

from model_actor.engine.encoder_pool import EncoderPool
from model_actor.engine.outputs import EncodedOutput, Output, Picture
from model_actor.engine.tracing import ChunkSpan
from model_actor.media.codec import Codec
from model_actor.media.encoder import EncoderSettings
from model_actor.plugin import ModelInfo
from sana_gateway.v1 import media_pb2
from sana_gateway_internal.v1 import stream_pb2

CODECS = {media_pb2.CODEC_H264: Codec.H264, media_pb2.CODEC_VP8: Codec.VP8}
"""The codecs that outputs are made in."""

Key = tuple[int, int]
"""Codec and rung."""


@dataclass(frozen=True, slots=True)
class _Rung:
    shrink: int
    """The picture has this part of the model's width and height."""
    share: float
    """Of the configured bitrate to begin with."""


RUNGS = {0: _Rung(1, 1.0), 1: _Rung(2, 0.2)}
"""Main and low. A fifth of 2.5 Mbit/s lies amid the 0.2 to 1.2 that low is asked for, so that
an encoder made for it reaches all of them without a keyframe."""


class GatewayLink(Protocol):
    """One gateway's pair of streams, as a session sees it. Neither call blocks."""

    @property
    def gateway_id(self) -> str:
        """The gateway."""

    def control(self, response: stream_pb2.ControlResponse) -> None:
        """Sends on the control stream; never dropped."""

    def media(self, packet: stream_pb2.VideoPacket, due_at: float) -> bool:
        """Sends on the media stream; False when the packet was dropped for want of room.

        Args:
            packet: A frame of an output.
            due_at: When the frame is due, in seconds of the event loop.
        """


@dataclass(slots=True)
class _Slot:
    output: Output
    gateways: set[str] = field(default_factory=set)
    recorders: set[str] = field(default_factory=set)
    """Gateways that record it."""

    def note_recorder(self, gateway_id: str, *, recorded: bool) -> None:
        """A gateway records it, or does no more."""
        self.recorders.discard(gateway_id)
        if recorded:
            self.recorders.add(gateway_id)
        self.output.recorded = bool(self.recorders)


class SessionOutputs:
    """Encodes each output once, for all gateways that want it."""

    def __init__(
        self,
        session_id: str,
        epoch: int,
        info: ModelInfo,
        picture: Picture,
        *,
        bitrate: int,
        encoders: EncoderPool,
        link: Callable[[str], GatewayLink | None],
        span: Callable[[int, int], ChunkSpan | None],
        is_void: Callable[[int], bool],
        on_encoded: Callable[[], None],
    ) -> None:
        """Prepares; nothing is encoded before a gateway wants it.

        Args:
            session_id: Whose outputs.
            epoch: Of its lease.
            info: Size and rate.
            picture: What the outputs show.
            bitrate: Bits per second to begin with.
            encoders: What encodes, and where.
            link: Finds a gateway that takes part.
            span: Finds the span of a (run, chunk).
            is_void: Tells whether a run was abandoned.
            on_encoded: Called when some output has encoded a frame.
        """
        self._session_id = session_id
        self._epoch = epoch
        self._info = info
        self._picture = picture
        self._bitrate = bitrate
        self._encoders = encoders
        self._link = link
        self._span = span
        self._is_void = is_void
        self._on_encoded = on_encoded
        self._slots: dict[Key, _Slot] = {}
        self._encoded_to = (0, 0)
        """(run, frame) of the last frame that some output has encoded."""
        self._encoded_s = 0.0

    def demand(self, gateway_id: str, demand: stream_pb2.OutputDemand) -> None:
        """Takes in what a gateway wants of an output."""
        key = (demand.output.codec, demand.output.rung)
        codec = CODECS.get(demand.output.codec)
        if codec is None or demand.output.rung not in RUNGS:
            return
        if not demand.wanted:
            self._release(key, gateway_id)
            return
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = self._open(key, codec)
        slot.gateways.add(gateway_id)
        slot.note_recorder(gateway_id, recorded=demand.recorded)
        slot.output.demand(keyframe=demand.keyframe, bitrate=demand.bitrate)

    def pace(self, info: ModelInfo) -> None:
        """Encodes for the rate of `info` from now on."""
        self._info = info
        for slot in self._slots.values():
            slot.output.pace(info.frame_rate)

    def leave(self, gateway_id: str) -> None:
        """A gateway takes part no longer."""
        for key in list(self._slots):
            self._release(key, gateway_id)

    def reached(self, run: int) -> int:
        """Returns the first frame of a run that some output has still to encode."""
        positions = [slot.output.position for slot in self._slots.values()]
        return min((frame if at == run else 0 for at, frame in positions), default=sys.maxsize)

    def wake(self) -> None:
        """Frames, clock or run changed."""
        for slot in self._slots.values():
            slot.output.wake()

    def close(self) -> None:
        """Ends all outputs."""
        for key in list(self._slots):
            self._end(key)

    def take_encoded(self) -> float:
        """Returns the seconds of the picture that were encoded since the last call."""
        encoded, self._encoded_s = self._encoded_s, 0.0
        return encoded

    def _open(self, key: Key, codec: Codec) -> _Slot:
        info, rung = self._info, RUNGS[key[1]]
        bitrate = max(1, round(self._bitrate * rung.share))
        settings = EncoderSettings(
            codec, info.width, info.height, info.frame_rate, bitrate, rung.shrink
        )
        return _Slot(
            Output(settings, self._picture, self._encoders, lambda _, made: self._emit(key, made))
        )

    def _release(self, key: Key, gateway_id: str) -> None:
        slot = self._slots.get(key)
        if slot is not None:
            slot.gateways.discard(gateway_id)
            slot.note_recorder(gateway_id, recorded=False)
            if not slot.gateways:
                self._end(key)

    def _end(self, key: Key) -> None:
        self._slots.pop(key).output.close()

    def _emit(self, key: Key, made: EncodedOutput) -> None:
        self._on_encoded()
        frame = made.frame
        if not made.held and (frame.run, frame.frame) > self._encoded_to:
            self._encoded_to = (frame.run, frame.frame)
            self._encoded_s += 1 / self._info.frame_rate
        slot = self._slots.get(key)
        if slot is None or (self._is_void(frame.run) and not made.held):
            return
        packet = stream_pb2.VideoPacket(
            session_id=self._session_id,
            output=stream_pb2.Output(codec=cast("media_pb2.Codec.ValueType", key[0]), rung=key[1]),
            epoch=self._epoch,
            run=frame.run,
            chunk=frame.chunk,
            frame=frame.frame,
            keyframe=made.encoded.keyframe,
            data=made.encoded.data,
            source_us=frame.source_us,
            held=made.held,
        )
        for gateway_id in slot.gateways:
            link = self._link(gateway_id)
            if link is not None and not link.media(packet, made.due_at):
                slot.output.demand(keyframe=True, bitrate=0)
        span = None if made.held else self._span(frame.run, frame.chunk)
        if span is not None:
            to_wall = time.time() - asyncio.get_running_loop().time()
            span.encoded(made.started_at + to_wall, made.finished_at + to_wall)
            span.sent(time.time())
