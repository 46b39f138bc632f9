"""Where a session's windows come from: the staged clip, or the camera.

The clip's next window is read ahead of time, so that it is there when its turn comes.
The camera's decoder lives only while a live run wants frames: packets that arrive at
other times are a sign of life and nothing more.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass

import structlog

from model_actor.media.camera import CameraDecoder, CameraPacket
from model_actor.media.clip import ClipDecoder, ClipFacts
from model_actor.media.frames import FrameBlock
from model_actor.media.workers import DecodeWorkers
from model_actor.plugin import ModelInfo
from scheduler.core.errors import SanaGatewayError
from scheduler.core.run import WindowPlan
from scheduler.process.storage import Storage

log = structlog.get_logger(__name__)

STALL_S = 0.25
"""A camera without a packet for this long has stalled."""
REOPEN_S = 1.0
"""Pause before a decoder that could not be had is asked for again."""


@dataclass(frozen=True, slots=True)
class StagedClip:
    """An accepted clip."""

    decoder: ClipDecoder
    facts: ClipFacts


async def open_clip(
    storage: Storage, workers: DecodeWorkers, key: str, info: ModelInfo
) -> StagedClip:
    """Fetches an upload into an unlinked spool file and probes it.

    Raises:
        ClipRefusedError: It is no video that we take; the text says why.
        ClipFailedError: The decode workers die of it.
        LimitError: Too many clips and cameras are open.
        StorageError: It is not there, or not complete.
    """
    with tempfile.TemporaryFile(prefix="sana-clip-") as spool:
        await storage.fetch(key, spool.fileno())
        decoder = await workers.open_clip(
            spool.fileno(),
            width=info.width,
            height=info.height,
            minimum_frames=info.geometry.first_window,
            window=info.geometry.window,
        )
    return StagedClip(decoder, decoder.facts)


class ClipSource:
    """The staged clip of a session, and its next window."""

    def __init__(self, on_ready: Callable[[], None]) -> None:
        """Prepares an empty stage; `on_ready` is called when a window has been read."""
        self._on_ready = on_ready
        self._clip: StagedClip | None = None
        self._ready: tuple[int, FrameBlock] | None = None
        self._wanted: int | None = None
        self._reading: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self.failed = False
        """The clip could not be read on; the run must end."""

    def stage(self, clip: StagedClip | None) -> None:
        """Replaces the staged clip; None clears the stage. The old one is released meanwhile."""
        self.want(None)
        old, self._clip = self._clip, clip
        self.failed = False
        if old is not None:
            task = asyncio.create_task(self._release(old, self._reading))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
            self._reading = None

    def want(self, first_frame: int | None, count: int = 0) -> None:
        """Begins to read a window, unless it is being read or there; None wants none."""
        if first_frame == self._wanted:
            return
        self._drop_ready()
        self._wanted = first_frame
        previous = self._reading
        if previous is not None:
            previous.cancel()
        if first_frame is not None and self._clip is not None:
            self._reading = asyncio.create_task(
                self._read(self._clip, first_frame, count, previous)
            )

    def is_ready(self, plan: WindowPlan) -> bool:
        """Tells whether the window of a plan has been read."""
        return self._ready is not None and self._ready[0] == plan.first_frame

    def take(self) -> FrameBlock:
        """Hands out the window that was read; it is the caller's to release."""
        assert self._ready is not None  # noqa: S101 - guarded by is_ready
        block, self._ready = self._ready[1], None
        self._wanted = None
        return block

    async def close(self) -> None:
        """Releases everything."""
        self.stage(None)
        await asyncio.gather(*self._leaving, return_exceptions=True)

    async def _read(
        self,
        clip: StagedClip,
        first_frame: int,
        count: int,
        previous: asyncio.Task[None] | None,
    ) -> None:
        if previous is not None:
            await asyncio.wait([previous])
        try:
            block = await clip.decoder.read(first_frame, count)
        except Exception as error:  # whatever it was, the clip cannot go on
            log.warning("clip.failed", error=type(error).__name__)
            self.failed = True
            self._wanted = None
        else:
            if self._wanted == first_frame:
                self._ready = (first_frame, block)
            else:
                block.release()
        self._on_ready()

    async def _release(self, clip: StagedClip, reading: asyncio.Task[None] | None) -> None:
        if reading is not None:
            await asyncio.wait([reading])
        await clip.decoder.close()

    def _drop_ready(self) -> None:
        if self._ready is not None:
            self._ready[1].release()
            self._ready = None


class CameraSource:
    """The camera of a session."""

    def __init__(
        self,
        workers: DecodeWorkers,
        info: ModelInfo,
        *,
        on_frames: Callable[[], None],
        on_keyframe_needed: Callable[[], None],
        on_flow: Callable[..., None],
    ) -> None:
        """Prepares the camera.

        Args:
            workers: Where decoding happens.
            info: Size and rate to fit the frames to.
            on_frames: More frames wait.
            on_keyframe_needed: The publisher should be asked for a keyframe.
            on_flow: Called with `flowing=`: packets began, or stopped, to arrive.
        """
        self._workers = workers
        self._info = info
        self._taken_us: int | None = None
        """Frames up to this capture time are left out; None: whatever comes is taken."""
        self._on_frames = on_frames
        self._on_keyframe_needed = on_keyframe_needed
        self._on_flow = on_flow
        self._decoder: CameraDecoder | None = None
        self._switching: asyncio.Task[None] | None = None
        self._wanted = False
        self._flowing = False
        self._stall_timer: asyncio.TimerHandle | None = None

    @property
    def available(self) -> int:
        """Frames that wait, at the model's rate."""
        return 0 if self._decoder is None else self._decoder.available

    def take(self, count: int) -> FrameBlock:
        """Hands out the oldest `count` frames; they are the caller's to release."""
        assert self._decoder is not None  # noqa: S101 - guarded by available
        return self._decoder.take(count)

    def skip_to(self, taken_us: int) -> None:
        """Leaves out frames that were captured up to then: another actor has taken them."""
        self._taken_us = taken_us
        self._skip()

    def packet(self, packet: CameraPacket) -> None:
        """Takes in an encoded frame."""
        if self._decoder is not None:
            self._decoder.push(packet)
        self._sign_of_life()

    def pace(self, info: ModelInfo) -> None:
        """Gives frames at the rate of `info` from now on."""
        self._info = info
        if self._decoder is not None:
            self._decoder.pace(info.frame_rate)

    def gone(self) -> None:
        """Nobody publishes any more."""
        self._stalled()

    def want(self, wanted: bool) -> None:
        """Says whether a run needs frames now; the first ones follow a fresh keyframe."""
        if wanted == self._wanted:
            return
        self._wanted = wanted
        self._switching = asyncio.create_task(self._switch(self._switching))

    async def close(self) -> None:
        """Releases everything."""
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        self.want(wanted=False)
        if self._switching is not None:
            await self._switching

    async def _switch(self, previous: asyncio.Task[None] | None) -> None:
        if previous is not None:
            await asyncio.wait([previous])
        while self._wanted and self._decoder is None:
            try:
                self._decoder = await self._workers.open_camera(
                    width=self._info.width,
                    height=self._info.height,
                    frame_rate=self._info.frame_rate,
                    on_keyframe_needed=self._on_keyframe_needed,
                    on_frames=self._came,
                    window=self._info.geometry.first_window,
                )
            except (SanaGatewayError, OSError) as error:
                # All decoders or descriptors are in use: the run waits like for a camera.
                log.warning("camera.no_decoder", error=type(error).__name__)
                await asyncio.sleep(REOPEN_S)
        if not self._wanted and self._decoder is not None:
            decoder, self._decoder = self._decoder, None
            log.info("camera.closed", **asdict(decoder.stats))
            await decoder.close()

    def _came(self) -> None:
        self._skip()
        self._on_frames()

    def _skip(self) -> None:
        decoder = self._decoder
        if self._taken_us is not None and decoder is not None and decoder.skip_to(self._taken_us):
            self._taken_us = None

    def _sign_of_life(self) -> None:
        loop = asyncio.get_running_loop()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        self._stall_timer = loop.call_later(STALL_S, self._stalled)
        if not self._flowing:
            self._flowing = True
            self._on_flow(flowing=True)

    def _stalled(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        if self._flowing:
            self._flowing = False
            self._on_flow(flowing=False)
