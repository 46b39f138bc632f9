"""An uploaded clip, decoded window by window in a worker process."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import dataclass

from model_actor.media.errors import ClipFailedError, ClipRefusedError, WorkerLostError
from model_actor.media.frames import FrameBlock, SharedFrames
from model_actor.media.limits import Refusal, sentence
from model_actor.media.link import Lender, WorkerLink
from model_actor.media.wire import (
    ClipFacts,
    Kind,
    OpenClip,
    ReadWindow,
    Refused,
    unpack_times,
)
from scheduler.core.errors import InvariantError

__all__ = ["ClipDecoder", "ClipFacts", "FrameBlock"]

_BLOCKS = 3
"""One at the model, one that is handed over, one being decoded."""
_TRIES = 3
_RESTART_S = 1.0
"""A worker that died of a clip is replaced at most this often."""
_PROBE_TRIES = 2
"""A second worker tells a clip that kills decoders from a worker that was killed."""


@dataclass(slots=True)
class _Ahead:
    """A window that is being decoded, or was."""

    first: int
    count: int
    block: int
    times: asyncio.Task[tuple[int, ...]]


class ClipDecoder:
    """Reads a clip in order, one window ahead of its reader. Made by `DecodeWorkers`."""

    facts: ClipFacts
    """What the probe found out."""

    def __init__(
        self, lender: Lender, fd: int, size: tuple[int, int], block_frames: int, window: int
    ) -> None:
        """Takes over the descriptor."""
        self._lender = lender
        self._fd = fd
        self._size = size
        self._block_frames = block_frames
        self._window = window
        self._minimum_frames = 0
        self._shared = SharedFrames(*size, _BLOCKS * block_frames)
        self._free = list(range(_BLOCKS))
        self._ahead: _Ahead | None = None
        self._lock = asyncio.Lock()
        self._link: WorkerLink | None = None
        self._answer: asyncio.Future[tuple[Kind, bytes]] | None = None
        self._restarted = float("-inf")
        self._closed = False

    async def open(self, minimum_frames: int) -> None:
        """Probes; called once, by the pool.

        Raises:
            ClipRefusedError: The clip cannot be used.
        """
        self._minimum_frames = minimum_frames
        limits = self._lender.limits
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            raise self._refused(Refusal.NOT_VIDEO)
        if status.st_size > limits.max_bytes:
            raise self._refused(Refusal.TOO_MANY_BYTES)
        try:
            async with asyncio.timeout(limits.probe_s):
                self.facts = await self._probe()
        except TimeoutError as error:
            raise self._refused(Refusal.TOO_SLOW_TO_PROBE) from error

    async def read(self, first: int, count: int) -> FrameBlock:
        """Returns frames `first` to `first + count - 1` in the order of presentation.

        Beyond the end the last frame is repeated. Reading in order is fast, since the
        next window is decoded meanwhile; so is going back to 0.

        Args:
            first: Index of the first frame.
            count: Frames, at most the larger of `minimum_frames` and `window`.

        Raises:
            ClipFailedError: The clip can be decoded no further.
            InvariantError: Three windows are held already, or the clip is closed.
        """
        if first < 0 or not 0 < count <= self._block_frames:
            raise InvariantError("no such window")
        async with self._lock:
            ahead = self._ahead
            if ahead is None or (ahead.first, ahead.count) != (first, count):
                await self._drop_ahead()
                ahead = self._ahead = self._begin(first, count)
            try:
                times = await asyncio.shield(ahead.times)
            except asyncio.CancelledError:
                if ahead.times.cancelled():
                    raise ClipFailedError("the clip was closed") from None
                raise
            except BaseException:
                await self._drop_ahead()
                raise
            self._ahead = None
            after = first + count
            if after < self.facts.num_frames and self._free:
                self._ahead = self._begin(after, self._window)
        block = ahead.block
        frames = self._shared.view(block * self._block_frames, count)
        return FrameBlock(frames, times, lambda: self._free.append(block))

    async def close(self) -> None:
        """Ends the worker. Frames already read stay readable. Repeating it is no error."""
        if self._closed:
            return
        self._closed = True
        if self._ahead is not None:
            self._ahead.times.cancel()
            await asyncio.gather(self._ahead.times, return_exceptions=True)
        self._drop_link()
        self._shared.close()
        os.close(self._fd)
        self._lender.forget(self)

    def _begin(self, first: int, count: int) -> _Ahead:
        if self._closed:
            raise InvariantError("the clip is closed")
        if not self._free:
            raise InvariantError("all windows of the clip are held")
        block = min(self._free)
        self._free.remove(block)
        times = asyncio.create_task(self._decode(first, count, block))
        # A failure that nobody waits for is met again by the next read.
        times.add_done_callback(lambda task: task.cancelled() or task.exception())
        return _Ahead(first, count, block, times)

    async def _drop_ahead(self) -> None:
        if self._ahead is not None:
            await asyncio.wait({self._ahead.times})
            self._free.append(self._ahead.block)
            self._ahead = None

    async def _decode(self, first: int, count: int, block: int) -> tuple[int, ...]:
        """Has a window decoded, by another worker if need be."""
        order = ReadWindow(first, count, block * self._block_frames)
        for left in reversed(range(_TRIES)):
            try:
                if self._link is None or self._link.lost:
                    await self._replace_worker()
                async with asyncio.timeout(self._lender.limits.window_s):
                    kind, payload = await self._ask(Kind.READ, order.pack())
                times = _times(kind, payload, count)
            except TimeoutError as error:
                self._drop_link()
                raise ClipFailedError("decoding the clip took too long") from error
            except WorkerLostError as error:
                self._lender.crashes += 1
                self._drop_link()
                if not left:
                    raise ClipFailedError("the decoder of the clip failed repeatedly") from error
            else:
                return times
        raise InvariantError("unreachable")

    async def _replace_worker(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._restarted + _RESTART_S - loop.time()))
        self._restarted = loop.time()
        self._drop_link()
        async with asyncio.timeout(self._lender.limits.probe_s):
            facts = await self._open_once()
        if facts != self.facts:
            raise ClipFailedError("the clip has changed")

    async def _probe(self) -> ClipFacts:
        for _ in range(_PROBE_TRIES):
            try:
                return await self._open_once()
            except WorkerLostError:
                self._lender.crashes += 1
                self._drop_link()
        raise self._refused(Refusal.TOO_DEMANDING)

    async def _open_once(self) -> ClipFacts:
        link = await self._lender.lease()
        self._link = link
        link.on_message = self._received
        link.on_lost = self._lost
        order = OpenClip(*self._size, self._shared.slots, self._minimum_frames)
        kind, payload = await self._ask(Kind.OPEN_CLIP, order.pack(), (self._fd, self._shared.fd))
        if kind is Kind.FACTS:
            return ClipFacts.unpack(payload)
        if kind is not Kind.REFUSED:
            raise WorkerLostError("a decode worker broke its protocol")
        refused = Refused.unpack(payload)
        raise self._refused(refused.refusal, refused.value)

    async def _ask(
        self, kind: Kind, payload: bytes, descriptors: tuple[int, ...] = ()
    ) -> tuple[Kind, bytes]:
        if self._link is None or self._link.lost:
            raise WorkerLostError("the decode worker is gone")
        self._answer = asyncio.get_running_loop().create_future()
        self._link.send(kind, payload, descriptors)
        return await self._answer

    def _received(self, kind: Kind, payload: bytes) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((kind, payload))

    def _lost(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(WorkerLostError("the decode worker is gone"))

    def _drop_link(self) -> None:
        if self._link is not None:
            self._lender.discard(self._link)
            self._link = None

    def _refused(self, refusal: Refusal, value: int = 0) -> ClipRefusedError:
        limits = self._lender.limits
        return ClipRefusedError(
            sentence(refusal, limits, minimum_frames=self._minimum_frames, value=value)
        )


def _times(kind: Kind, payload: bytes, count: int) -> tuple[int, ...]:
    times = unpack_times(payload) if kind is Kind.WINDOW else ()
    if len(times) != count:
        raise WorkerLostError("a decode worker broke its protocol")
    return times
