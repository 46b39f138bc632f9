"""Pools of threads that say how busy they are."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from prometheus_client import Gauge, Histogram

_THREADS: Final = Gauge("sana_gateway_threads", "Threads of a pool.", ("pool",))
_BUSY: Final = Gauge("sana_gateway_busy_threads", "Threads of a pool that work.", ("pool",))
_WAITS: Final = Histogram(
    "sana_gateway_thread_wait_seconds",
    "How long work waited for a thread of a pool.",
    ("pool",),
    buckets=(0.0002, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0),
)
_R = TypeVar("_R")


class MeasuredThreads(ThreadPoolExecutor):
    """An executor whose use is measured. What waits for it is bounded by who submits.

    Args:
        threads: How many.
        pool: What it is called, one of a few names; its threads are, too.
    """

    def __init__(self, threads: int, pool: str) -> None:
        super().__init__(threads, thread_name_prefix=pool)
        self._size = threads
        self._total, self._busy = _THREADS.labels(pool), _BUSY.labels(pool)
        self._waits = _WAITS.labels(pool)
        self._total.inc(threads)

    def submit(
        self,
        fn: Callable[..., _R],
        /,
        *args: Any,  # noqa: ANN401 - as the base class has it
        **kwargs: Any,  # noqa: ANN401
    ) -> Future[_R]:
        """Has a thread do some work; see `Executor.submit`."""
        asked = time.perf_counter()

        def measured() -> _R:
            self._waits.observe(time.perf_counter() - asked)
            with self._busy.track_inprogress():
                return fn(*args, **kwargs)

        return super().submit(measured)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the threads; see `Executor.shutdown`."""
        gone, self._size = self._size, 0
        self._total.dec(gone)
        super().shutdown(wait, cancel_futures=cancel_futures)
