"""The recordings of one process: who is recorded, and what is kept."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

import structlog

from gateway.ports import Clip
from gateway.recording.errors import ClipFailedError
from gateway.recording.expiry import SWEEP_S, Expiry
from gateway.recording.library import Library, MayUse
from gateway.recording.recorder import Recorded, Recorder
from gateway.recording.shelf import Shelf
from scheduler.process.storage import Storage
from scheduler.process.threads import MeasuredThreads

THREADS: Final = 2
"""Threads that remux."""
CLOSE_S: Final = 5.0
"""How long recordings may take to be stored when the gateway stops."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept, and how long."""

    session_bytes: int
    """What the segments of one recording may take; the oldest go first."""
    total_bytes: int
    """What all recordings may take; those whose sessions ended first go first."""
    kept_s: float
    """How long a recording is kept after its session has ended."""


class Recordings:
    """Records every session that is at an actor; see `gateway.recording.recorder`."""

    def __init__(
        self,
        storage: Storage,
        gateway_id: str,
        bounds: Bounds,
        may_use: MayUse,
        *,
        sweeps: bool = True,
    ) -> None:
        """Prepares; `run` removes what is too old.

        Args:
            storage: Where recordings are kept, shared by all gateways. The caller's.
            gateway_id: This process.
            bounds: What is kept.
            may_use: Decides who of a tenant may use what of it.
            sweeps: Whether this process removes what is too old or too much.
        """
        self._shelf = Shelf(storage)
        self._gateway_id = gateway_id
        self._bounds = bounds
        self._sweeps = sweeps
        self._expiry = Expiry(self._shelf, kept_s=bounds.kept_s, most_bytes=bounds.total_bytes)
        self._threads = MeasuredThreads(THREADS, "recording")
        self._recorders: dict[str, Recorder] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.library = Library(self._shelf, may_use)
        """What is served."""

    def bound(self, bounds: Bounds) -> None:
        """Changes what is kept, of what is recorded now, too: from the next segment and the next
        sweep on.
        """
        self._bounds = bounds
        self._expiry.kept_s, self._expiry.most_bytes = bounds.kept_s, bounds.total_bytes
        for recorder in self._recorders.values():
            recorder.most_bytes = bounds.session_bytes

    def opened(self, session: Recorded) -> None:
        """A session is at an actor: it is recorded from now on, if it was not before."""
        if session.session_id in self._recorders:
            return
        recorder = self._recorders[session.session_id] = Recorder(
            session,
            self._shelf,
            self._threads,
            gateway_id=self._gateway_id,
            most_bytes=self._bounds.session_bytes,
        )
        task = asyncio.create_task(recorder.run(), name=f"recorder of {session.session_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def ended(self, session_id: str) -> None:
        """A session has ended; its recording is kept for a while."""
        recorder = self._recorders.pop(session_id, None)
        if recorder is not None:
            recorder.end(over=True)

    def clip(self, session_id: str, duration_s: float | None) -> Clip:
        """Returns a part of a recording; see `Recorder.clip`.

        Raises:
            ClipFailedError: There is none.
        """
        recorder = self._recorders.get(session_id)
        if recorder is None:
            raise ClipFailedError("nothing has been recorded yet")
        return recorder.clip(duration_s)

    async def run(self) -> None:
        """Removes what is kept no longer, until cancelled."""
        while self._sweeps:
            await self._expiry.sweep(time.time())
            await asyncio.sleep(SWEEP_S)

    async def close(self) -> None:
        """Stores what was recorded. The sessions may go on through other gateways."""
        for recorder in self._recorders.values():
            recorder.end(over=False)
        self._recorders.clear()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_S)
            for task in late:
                _log.warning("recording.cut_off")
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown)
