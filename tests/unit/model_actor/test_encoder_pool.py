"""The encoding threads: who goes first."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import TypeVar

import pytest

from model_actor.engine.encoder_pool import EncoderPool

pytestmark = pytest.mark.unit
_T = TypeVar("_T")


@pytest.fixture
def pool() -> Iterator[EncoderPool]:
    pool = EncoderPool(1)
    yield pool
    pool.close()


class Busy:
    """Keeps the only thread of a pool busy until it is let go."""

    def __init__(self, pool: EncoderPool) -> None:
        self.go_on = threading.Event()
        begun = threading.Event()

        def wait() -> None:
            begun.set()
            assert self.go_on.wait(10)

        pool.submit(0.0, wait, lambda _: None)
        assert begun.wait(10)


def result(pool: EncoderPool, function: Callable[[], _T]) -> _T | Exception:
    """What is delivered of a job."""
    delivered: SimpleQueue[_T | Exception] = SimpleQueue()
    pool.submit(0.0, function, delivered.put)
    return delivered.get(timeout=30)


def test_what_is_due_sooner_goes_first_and_equals_in_the_order_they_came(
    pool: EncoderPool,
) -> None:
    busy = Busy(pool)
    done: SimpleQueue[str | Exception] = SimpleQueue()
    wanted = [
        (3.0, "late"),
        (1.0, "soon"),
        (float("inf"), "whenever"),
        (1.0, "soon too"),
        (-2.0, "overdue"),
    ]
    for due_at, name in wanted:
        pool.submit(due_at, functools.partial(str, name), done.put)
    busy.go_on.set()
    order = [done.get(timeout=30) for _ in wanted]
    assert order == ["overdue", "soon", "soon too", "late", "whenever"]


def test_a_closed_pool_ends_what_runs_and_drops_what_waits(pool: EncoderPool) -> None:
    busy = Busy(pool)
    done: list[object] = []
    dropped = threading.Event()
    waits = functools.partial(str, "dropped")
    weakref.finalize(waits, dropped.set)
    pool.submit(1.0, waits, done.append)
    del waits
    closing = threading.Thread(target=pool.close)
    closing.start()
    assert dropped.wait(10)
    assert closing.is_alive(), "it waits for what runs"
    busy.go_on.set()
    closing.join(10)
    assert not closing.is_alive()
    assert done == []


def test_a_job_that_fails_is_the_affair_of_who_asked(pool: EncoderPool) -> None:
    def fail() -> None:
        raise ValueError("broken")

    failed = result(pool, fail)
    assert isinstance(failed, ValueError)
    assert result(pool, lambda: 7) == 7


def test_a_result_that_nobody_can_be_told_of_ends_no_thread(pool: EncoderPool) -> None:
    def gone(_: object) -> None:
        raise RuntimeError("the event loop is closed")

    pool.submit(0.0, lambda: 7, gone)
    assert result(pool, lambda: 8) == 8


def test_a_job_leaves_nothing_behind_while_its_thread_waits(pool: EncoderPool) -> None:
    class Frame: ...

    frame = Frame()
    gone = threading.Event()
    weakref.finalize(frame, gone.set)
    assert isinstance(result(pool, functools.partial(id, frame)), int)
    del frame
    assert gone.wait(10)
