"""The encoding threads of an actor: whose frame is due soonest goes first.

Each job is put into a heap and one ticket into a queue; whichever thread takes a ticket runs
the most urgent job of that moment, without a detour over the event loop. Bare threads:
the futures and wake-ups of an executor take longer than everything else around a frame.
Bounded by construction: an output has one frame under way, and opens one encoder ahead.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

import structlog

from model_actor.media.encoding.choice import SOFTWARE, Libraries

log = structlog.get_logger(__name__)
_ResultT = TypeVar("_ResultT")
_Job = tuple[float, int, Callable[[], Any], Callable[[Any], object]]
"""Due time, number, what runs, who is told."""
_RUN, _END = True, False


class EncoderPool:
    """Runs encoders on threads that all sessions of an actor share."""

    def __init__(self, threads: int, libraries: Libraries = SOFTWARE) -> None:
        """Starts the threads.

        Args:
            threads: How many.
            libraries: What encodes.
        """
        self.libraries = libraries
        """What encodes."""
        self.threads = threads
        """How many threads there are."""
        self._busy_s = [0.0] * threads
        """CPU time of each; its own alone writes it."""
        self._jobs: list[_Job] = []
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._tickets: SimpleQueue[bool] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"encode_{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        due_at: float,
        function: Callable[[], _ResultT],
        deliver: Callable[[_ResultT | Exception], object],
    ) -> None:
        """Runs a function as soon as a thread is free and nothing more urgent waits.

        Args:
            due_at: When its result is needed, in seconds on any clock, the same in all calls.
                Equal ones run in the order of the calls.
            function: What runs.
            deliver: Called on the same thread, with what it returned or raised.
        """
        with self._lock:
            heapq.heappush(self._jobs, (due_at, next(self._numbers), function, deliver))
        self._tickets.put(_RUN)

    @property
    def waiting(self) -> int:
        """Jobs that wait for a thread."""
        return len(self._jobs)

    @property
    def busy_s(self) -> float:
        """CPU time that encoding has taken so far, in seconds."""
        return sum(self._busy_s)

    def close(self) -> None:
        """Drops what waits, and waits for what runs. Nothing may be submitted any more."""
        with self._lock:
            self._jobs.clear()
        for _ in self._threads:
            self._tickets.put(_END)
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        while self._tickets.get():
            with self._lock:
                if not self._jobs:
                    continue
                _, _, function, deliver = heapq.heappop(self._jobs)
            try:
                self._run_one(function, deliver)
            except Exception as error:  # whom to tell is gone: no affair of the others
                log.warning("encoder.undelivered", error=type(error).__name__)
            self._busy_s[number] = time.thread_time()
            # Or they would hold the frame until the next one comes.
            del function, deliver

    @staticmethod
    def _run_one(
        function: Callable[[], _ResultT], deliver: Callable[[_ResultT | Exception], object]
    ) -> None:
        try:
            result: _ResultT | Exception = function()
        except Exception as error:
            result = error
        deliver(result)
