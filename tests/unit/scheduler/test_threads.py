"""A pool of threads that says how busy it is."""

from __future__ import annotations

import threading

import pytest
from prometheus_client.registry import REGISTRY

from scheduler.process.threads import MeasuredThreads

pytestmark = pytest.mark.unit


def value(name: str, pool: str) -> float | None:
    return REGISTRY.get_sample_value(f"sana_gateway_{name}", {"pool": pool})


def test_threads_that_work_are_told_and_those_that_wait_measured() -> None:
    pool = MeasuredThreads(2, "test_pool")
    begun, over = threading.Event(), threading.Event()

    def work() -> int:
        begun.set()
        over.wait(10)
        return 7

    result = pool.submit(work)
    assert begun.wait(10)
    assert value("threads", "test_pool") == 2
    assert value("busy_threads", "test_pool") == 1
    over.set()
    assert result.result(10) == 7
    pool.shutdown()
    pool.shutdown()
    assert value("busy_threads", "test_pool") == 0
    assert value("threads", "test_pool") == 0
    assert value("thread_wait_seconds_count", "test_pool") == 1


def test_what_fails_frees_its_thread() -> None:
    pool = MeasuredThreads(1, "test_failing")
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 // 0).result(10)
    assert value("busy_threads", "test_failing") == 0
    pool.shutdown()
