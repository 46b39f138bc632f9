"""Outputs: encodings of a session's main_video, each frame encoded just before it is due.

Encoding late is what makes a keyframe request, a bitrate change, a reset or a new
viewer's codec act within about a tenth of a second, and spreads the CPU load evenly.

A session that is a `PacketSource` has its frames encoded already: they are fetched at the
same moments, and everything else is as with an encoder.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

import structlog

from model_actor.engine.clock import PlayoutClock
from model_actor.engine.store import FinishedFrame, FrameStore
from model_actor.media.encoder import Encoded, EncoderSettings, VideoEncoder
from model_actor.plugin import PacketSource

LEAD_S = 0.12
"""A frame is encoded at most this long before it is due."""
KEYFRAME_INTERVAL_S = 0.5
"""Shortest time between two keyframes of an output that somebody asked for."""
SKIP_AFTER_S = 0.5
"""An output that is this far behind the clock goes on at the frame that is due now."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class EncodedOutput:
    """One frame of an output, on its way to the gateways."""

    frame: FinishedFrame
    encoded: Encoded
    started_at: float
    finished_at: float
    held: bool
    """Made for a viewer who joined while the picture holds."""


class Picture(Protocol):
    """What an output shows: the session's frames and its clock."""

    @property
    def store(self) -> FrameStore:
        """The frames that wait to be shown."""

    @property
    def clock(self) -> PlayoutClock | None:
        """The play-out clock; None before the first report."""

    @property
    def state(self) -> object:
        """What the model keeps for the session; it may bring the packets."""


class _Encoding(Protocol):
    """How frames become packets. Calls of one output never overlap."""

    async def encode(self, frame: FinishedFrame, bitrate: int, *, keyframe: bool) -> Encoded:
        """Returns the packet of a frame; a keyframe where that is asked for."""

    def close(self) -> None:
        """Releases what is held; another frame would begin a new stream."""


class _Encoder:
    """Encodes on the threads of the actor."""

    def __init__(self, settings: EncoderSettings, threads: Executor) -> None:
        self._settings = settings
        self._threads = threads
        self._encoder: VideoEncoder | None = None

    async def encode(self, frame: FinishedFrame, bitrate: int, *, keyframe: bool) -> Encoded:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._run, frame, bitrate, keyframe)

    def close(self) -> None:
        if self._encoder is not None:
            self._encoder.close()
            self._encoder = None

    def _run(self, frame: FinishedFrame, bitrate: int, keyframe: bool) -> Encoded:
        encoder = self._encoder
        if encoder is None:
            encoder = self._encoder = VideoEncoder(self._settings)
        encoder.set_bitrate(bitrate)
        return encoder.encode(frame.image, keyframe=keyframe)


class _Fetcher:
    """Takes packets from where they are. A thread would cost more than the packet does."""

    def __init__(self, settings: EncoderSettings, source: PacketSource) -> None:
        self._settings = settings
        self._source = source

    async def encode(self, frame: FinishedFrame, bitrate: int, *, keyframe: bool) -> Encoded:
        del keyframe
        size = round(bitrate / 8 / self._settings.frame_rate)
        data = self._source.packet(self._settings.codec, frame.frame, size)
        return Encoded(data, keyframe=True)

    def close(self) -> None:
        """There is nothing to release."""


class Output:
    """One encoding of one session, read by any number of viewers."""

    def __init__(
        self,
        settings: EncoderSettings,
        picture: Picture,
        threads: Executor,
        emit: Callable[[Output, EncodedOutput], None],
    ) -> None:
        """Prepares the output; `run` makes its frames.

        Args:
            settings: Codec, size, rate.
            picture: The session's frames, clock and model state.
            threads: Where encoding runs.
            emit: Called on the loop with every encoded frame.
        """
        self.settings = settings
        self.skipped = 0
        """Frames left out because the output had fallen behind the clock."""
        self.failed = 0
        """Frames left out because they could not be encoded."""
        self._failing = False
        self._picture = picture
        self._emit = emit
        source = picture.state
        self._encoding: _Encoding = (
            _Fetcher(settings, source)
            if isinstance(source, PacketSource)
            else _Encoder(settings, threads)
        )
        # In the middle of a run it begins at what is due next; a later run from its start.
        clock = picture.clock
        now = asyncio.get_running_loop().time()
        self._position = (0, 0) if clock is None else (clock.run, clock.played(now))
        self._keyframe_wanted = True
        self._keyframe_at = float("-inf")
        self._bitrate = settings.bitrate
        self._run: int | None = None
        """Run of the frame encoded last."""
        self._changed = asyncio.Event()

    @property
    def position(self) -> tuple[int, int]:
        """(run, frame) of the next frame to encode."""
        return self._position

    def demand(self, *, keyframe: bool, bitrate: int) -> None:
        """Takes in what viewers need: a keyframe, another bitrate (0: the same)."""
        if bitrate:
            self._bitrate = bitrate
        self._keyframe_wanted |= keyframe
        self._changed.set()

    def wake(self) -> None:
        """Frames, clock or run changed."""
        self._changed.set()

    async def run(self) -> None:
        """Encodes until cancelled; then releases the encoder."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                now = loop.time()
                frame, start = self._next(now)
                if frame is not None and start <= now:
                    await self._encode(frame, held=False)
                    continue
                key_due = self._keyframe_at + KEYFRAME_INTERVAL_S
                held = self._picture.store.held
                idle = frame is None or start - now > LEAD_S
                if self._keyframe_wanted and held is not None and idle:
                    if key_due <= now:
                        await self._encode(held, held=True)
                        continue
                    start = min(start, key_due)
                await self._wait(start - now)
        finally:
            self._encoding.close()

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if seconds == float("inf") else max(0.0, seconds)):
                await self._changed.wait()
        self._changed.clear()

    def _next(self, now: float) -> tuple[FinishedFrame | None, float]:
        """Returns the next frame to encode and when to begin; (None, inf) when there is none."""
        clock = self._picture.clock
        if clock is None:
            return None, float("inf")
        if self._position[0] != clock.run:
            self._position = (clock.run, 0)
        run, index = self._position
        earliest = self._picture.store.begin(run)
        if clock.due(index) < now - SKIP_AFTER_S:
            earliest = max(earliest, min(clock.played(now), self._picture.store.end))
        if earliest > index:
            self.skipped += earliest - index
            self._position = (run, index) = (run, earliest)
        frame = self._picture.store.get(run, index)
        if frame is None:
            return None, float("inf")
        return frame, clock.due(index) - LEAD_S

    async def _encode(self, frame: FinishedFrame, *, held: bool) -> None:
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        keyframe = self._keyframe_wanted and (started_at - self._keyframe_at >= KEYFRAME_INTERVAL_S)
        if frame.run != self._run:
            # A run owes nothing to the one before: it can be decoded from its start although
            # what was encoded last may not have been sent, and a replay is equal bit by bit.
            self._encoding.close()
            self._run = frame.run
        try:
            encoded = await self._encoding.encode(frame, self._bitrate, keyframe=keyframe)
        except Exception as error:
            self._begin_anew(error)
            return
        finally:
            if not held:
                self._position = (frame.run, frame.frame + 1)
        self._failing = False
        finished_at = loop.time()
        if encoded.keyframe:
            self._keyframe_at = finished_at
            self._keyframe_wanted = False
        self._emit(self, EncodedOutput(frame, encoded, started_at, finished_at, held))

    def _begin_anew(self, error: Exception) -> None:
        """Gives up a frame, and the encoder with it; a broken one must not end the output."""
        self.failed += 1
        if not self._failing:
            codec = self.settings.codec.value
            log.warning("output.failed", codec=codec, error=type(error).__name__)
        self._failing = True
        self._encoding.close()
        self._keyframe_wanted = True
        self._keyframe_at = asyncio.get_running_loop().time()
