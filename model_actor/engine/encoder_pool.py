"""The encoding threads of an actor: whose frame is due soonest goes first.

A queue in front of an executor. Each job puts itself into the heap and one ticket into the
executor; whichever thread takes a ticket runs the most urgent job of that moment, without a
detour over the event loop. Bounded by construction: an output has one frame under way, and
opens one encoder ahead.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from model_actor.media.encoding.choice import SOFTWARE, Libraries

_ResultT = TypeVar("_ResultT")


@dataclass(order=True, slots=True)
class _Job(Generic[_ResultT]):
    due_at: float
    number: int
    function: Callable[..., _ResultT] = field(compare=False)
    arguments: tuple[object, ...] = field(compare=False)
    future: Future[_ResultT] = field(compare=False)


class EncoderPool:
    """Runs encoders on threads that all sessions of an actor share."""

    def __init__(self, threads: Executor, libraries: Libraries = SOFTWARE) -> None:
        """Takes the threads, which stay the caller's.

        Args:
            threads: Where jobs run.
            libraries: What encodes.
        """
        self.libraries = libraries
        """What encodes."""
        self._threads = threads
        self._jobs: list[_Job[Any]] = []
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    def submit(
        self, due_at: float, function: Callable[..., _ResultT], *arguments: object
    ) -> Future[_ResultT]:
        """Runs a function as soon as a thread is free and nothing more urgent waits.

        Args:
            due_at: When its result is needed, in seconds on any clock, the same in all calls.
                Equal ones run in the order of the calls.
            function: What runs.
            arguments: What it is given.
        """
        job = _Job(due_at, next(self._numbers), function, arguments, Future[_ResultT]())
        with self._lock:
            heapq.heappush(self._jobs, job)
        self._threads.submit(self._run_one)
        return job.future

    def _run_one(self) -> None:
        with self._lock:
            job = heapq.heappop(self._jobs)
        if not job.future.set_running_or_notify_cancel():
            return
        try:
            result = job.function(*job.arguments)
        except BaseException as error:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)
