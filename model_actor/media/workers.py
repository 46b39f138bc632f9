"""Owns the decode workers: keeps warm spares, hands them out, kills and reaps them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

from model_actor.media.camera import CameraDecoder
from model_actor.media.clip import ClipDecoder
from model_actor.media.errors import WorkerLostError
from model_actor.media.fork_server import ForkServer
from model_actor.media.limits import DecodeLimits
from model_actor.media.link import WorkerLink
from scheduler.core.errors import InvariantError, LimitError

_ResultT = TypeVar("_ResultT")

_CLOSED = "the pool of decode workers is closed"
_RETRY_S = 1.0
"""Pause after a worker that did not even start."""


class _Closable(Protocol):
    async def close(self) -> None: ...


class DecodeWorkers:
    """A bounded pool of decode workers, one for each open clip or camera.

    A worker serves one clip or camera and is then killed: nothing of one session's
    video is left for another's.
    """

    def __init__(
        self, *, spare: int = 1, limits: DecodeLimits | None = None, most: int = 64
    ) -> None:
        """Makes an empty pool.

        Args:
            spare: Started workers to keep ready, so that opening takes milliseconds.
            limits: Bounds on clips and workers.
            most: Most workers in use at once.
        """
        self.limits = limits or DecodeLimits()
        self.crashes = 0
        """Workers that ended while in use."""
        self._spare = spare
        self._most = most
        self._idle: list[WorkerLink] = []
        self._starting: set[WorkerLink] = set()
        self._used: set[WorkerLink] = set()
        self._open: set[_Closable] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._refill: asyncio.Task[None] | None = None
        self._closed = False
        # One long-lived thread: the kernel ends workers when the thread that started
        # them ends, and starting or reaping a process takes longer than a loop may.
        self._spawner = ThreadPoolExecutor(1, thread_name_prefix="decode-workers")
        self._server = ForkServer(self.limits)

    @property
    def used(self) -> int:
        """Workers in use."""
        return len(self._used)

    @property
    def spare(self) -> int:
        """Workers that are ready."""
        return len(self._idle)

    @property
    def most(self) -> int:
        """Most workers in use at once."""
        return self._most

    async def start(self) -> None:
        """Starts the spare workers and waits for them.

        Raises:
            WorkerLostError: Workers do not start on this machine.
        """
        while len(self._idle) < self._spare:
            await self._add_spare()

    async def close(self) -> None:
        """Closes what is open and ends all workers; returns when they are gone."""
        self._closed = True
        for decoder in tuple(self._open):
            await decoder.close()
        if self._refill is not None:
            self._refill.cancel()
            await asyncio.gather(self._refill, return_exceptions=True)
        for link in [*self._idle, *self._starting, *self._used]:
            self.discard(link)
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(self._spawner, self._server.close)
        await asyncio.to_thread(self._spawner.shutdown)

    async def open_clip(
        self, fd: int, *, width: int, height: int, minimum_frames: int, window: int = 24
    ) -> ClipDecoder:
        """Probes a clip.

        Args:
            fd: Descriptor of the file, readable; it stays the caller's.
            width: Of the frames to deliver; even.
            height: Of the frames to deliver; even.
            minimum_frames: Fewest frames that it may have; also the largest window.
            window: Frames of every later window, decoded ahead.

        Raises:
            ClipRefusedError: It cannot be used.
            ClipFailedError: The workers die of it.
            LimitError: Too many clips and cameras are open.
        """
        decoder = ClipDecoder(
            self, os.dup(fd), (width, height), max(minimum_frames, window), window
        )
        self._open.add(decoder)
        try:
            await decoder.open(minimum_frames)
        except BaseException:
            await decoder.close()
            raise
        return decoder

    async def open_camera(
        self,
        *,
        width: int,
        height: int,
        frame_rate: float,
        on_keyframe_needed: Callable[[], None],
        on_frames: Callable[[], None],
        window: int = 33,
    ) -> CameraDecoder:
        """Opens a decoder for a camera and asks for a keyframe.

        Args:
            width: Of the frames to deliver; even.
            height: Of the frames to deliver; even.
            frame_rate: Frames per second to deliver.
            on_keyframe_needed: Called when the decoder can only go on from a keyframe,
                at most once in 500 ms.
            on_frames: Called when more frames are available.
            window: Most frames that are taken at once.

        Raises:
            LimitError: Too many clips and cameras are open.
        """
        decoder = CameraDecoder(
            self, (width, height), frame_rate, window, on_keyframe_needed, on_frames
        )
        self._open.add(decoder)
        try:
            await decoder.open()
        except BaseException:
            await decoder.close()
            raise
        return decoder

    async def lease(self) -> WorkerLink:
        """Hands out a ready worker, for a decoder of this package.

        Raises:
            LimitError: All are in use.
            WorkerLostError: It did not start.
        """
        if self._closed:
            raise InvariantError(_CLOSED)
        if len(self._used) >= self._most:
            raise LimitError("too many clips and cameras are open", retry_after_s=10.0)
        link = self._idle.pop() if self._idle else await self._spawn()
        self._used.add(link)
        link.on_lost = lambda: None
        if not self._refill or self._refill.done():
            self._refill_later()
        return link

    def discard(self, link: WorkerLink) -> None:
        """Kills a worker and has it reaped. Repeating it is no error."""
        known = link in self._used or link in self._starting or link in self._idle
        self._used.discard(link)
        self._starting.discard(link)
        if link in self._idle:
            self._idle.remove(link)
        link.kill()
        if known:
            self._own(self._reap(link))

    def forget(self, decoder: object) -> None:
        """Notes that a decoder is closed."""
        self._open = {other for other in self._open if other is not decoder}

    async def _reap(self, link: WorkerLink) -> None:
        await asyncio.get_running_loop().run_in_executor(self._spawner, link.reap)

    def _own(self, work: Coroutine[Any, Any, _ResultT]) -> asyncio.Task[_ResultT]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _refill_later(self) -> None:
        if not self._closed:
            self._refill = asyncio.create_task(self._fill())

    async def _fill(self) -> None:
        while len(self._idle) < self._spare:
            try:
                await self._add_spare()
            except (WorkerLostError, OSError):
                await asyncio.sleep(_RETRY_S)

    async def _add_spare(self) -> None:
        link = await self._spawn()
        self._idle.append(link)
        link.on_lost = partial(self._spare_lost, link)

    def _spare_lost(self, link: WorkerLink) -> None:
        self.discard(link)
        if not self._closed and (not self._refill or self._refill.done()):
            self._refill_later()

    async def _spawn(self) -> WorkerLink:
        """Starts a worker and waits until it is ready."""
        if self._closed:
            raise WorkerLostError(_CLOSED)
        launch = self._own(self._launch())
        try:
            link, control = await asyncio.shield(launch)
        except asyncio.CancelledError:
            with suppress(WorkerLostError, OSError):
                link, control = await launch
                control.close()
                self.discard(link)
            raise
        try:
            loop = asyncio.get_running_loop()
            await loop.create_unix_connection(lambda: link, sock=control)
            async with asyncio.timeout(self.limits.start_s):
                await asyncio.shield(link.ready)
        except TimeoutError as error:
            self.discard(link)
            raise WorkerLostError("a decode worker did not start in time") from error
        except BaseException:
            self.discard(link)
            raise
        if self._closed:
            # It was ready in the very moment in which `close` ended it.
            raise WorkerLostError(_CLOSED)
        self._starting.discard(link)
        return link

    async def _launch(self) -> tuple[WorkerLink, socket.socket]:
        """Starts the process of a worker. `close` waits for it: what comes too late is ended."""
        loop = asyncio.get_running_loop()
        process, control, descriptors = await loop.run_in_executor(self._spawner, self._server.fork)
        link = WorkerLink(process, descriptors)
        self._starting.add(link)
        if self._closed:
            control.close()
            self.discard(link)
            raise WorkerLostError(_CLOSED)
        return link, control
