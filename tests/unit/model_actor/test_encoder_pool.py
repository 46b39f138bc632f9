"""The encoding threads: who goes first."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from model_actor.engine.encoder_pool import EncoderPool

pytestmark = pytest.mark.unit


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as threads:
        yield threads


class Busy:
    """Keeps the only thread of a pool busy until it is let go."""

    def __init__(self, pool: EncoderPool) -> None:
        self.go_on = threading.Event()
        begun = threading.Event()

        def wait() -> None:
            begun.set()
            assert self.go_on.wait(10)

        pool.submit(0.0, wait)
        assert begun.wait(10)


def test_what_is_due_sooner_goes_first_and_equals_in_the_order_they_came(
    threads: ThreadPoolExecutor,
) -> None:
    pool = EncoderPool(threads)
    busy = Busy(pool)
    done: list[str] = []
    wanted = [
        (3.0, "late"),
        (1.0, "soon"),
        (float("inf"), "whenever"),
        (1.0, "soon too"),
        (-2.0, "overdue"),
    ]
    jobs = [pool.submit(due_at, done.append, name) for due_at, name in wanted]
    busy.go_on.set()
    for job in jobs:
        job.result(10)
    assert done == ["overdue", "soon", "soon too", "late", "whenever"]


def test_a_job_that_is_cancelled_while_it_waits_never_runs(threads: ThreadPoolExecutor) -> None:
    pool = EncoderPool(threads)
    busy = Busy(pool)
    done: list[str] = []
    given_up = pool.submit(1.0, done.append, "given up")
    kept = pool.submit(2.0, done.append, "kept")
    assert given_up.cancel()
    busy.go_on.set()
    kept.result(10)
    assert done == ["kept"]
    with pytest.raises(CancelledError):
        given_up.result(0)


def test_a_job_that_fails_is_the_affair_of_who_asked(threads: ThreadPoolExecutor) -> None:
    pool = EncoderPool(threads)

    def fail() -> None:
        raise ValueError("broken")

    failed = pool.submit(1.0, fail)
    kept = pool.submit(2.0, lambda: 7)
    with pytest.raises(ValueError, match="broken"):
        failed.result(10)
    assert kept.result(10) == 7
