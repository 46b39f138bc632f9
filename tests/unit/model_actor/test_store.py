"""Finished frames waiting to be shown, and what the actor knows of the clock."""

from __future__ import annotations

import numpy as np
import pytest

from model_actor.engine.clock import PlayoutClock
from model_actor.engine.store import FinishedWindow, FrameStore
from scheduler.core.errors import InvariantError

pytestmark = pytest.mark.unit


def window(run: int, first: int, count: int, chunks: tuple[tuple[int, int], ...]) -> FinishedWindow:
    frames = np.arange(first, first + count, dtype=np.uint8)[:, None, None].repeat(4, 1)
    return FinishedWindow(run, first, frames, tuple(range(first, first + count)), chunks)


def test_a_frame_is_found_with_its_chunk_and_source_time() -> None:
    store = FrameStore()
    store.add(window(1, 0, 33, ((0, 0), (1, 9))))
    frame = store.get(1, 9)
    assert frame is not None
    assert (frame.chunk, frame.frame, frame.source_us, frame.image[0, 0]) == (1, 9, 9, 9)
    assert store.get(1, 8).chunk == 0  # type: ignore[union-attr]
    assert store.get(1, 33) is None
    assert store.get(2, 0) is None


def test_windows_of_a_run_follow_each_other() -> None:
    store = FrameStore()
    store.add(window(1, 0, 33, ((0, 0),)))
    with pytest.raises(InvariantError, match="does not follow"):
        store.add(window(1, 34, 24, ((2, 34),)))
    store.add(window(1, 33, 24, ((2, 33),)))
    assert (store.begin(1), store.end) == (0, 57)


def test_what_was_shown_is_freed_and_the_last_picture_is_held() -> None:
    store = FrameStore()
    store.add(window(1, 0, 33, ((0, 0), (1, 9))))
    store.add(window(1, 33, 24, ((2, 33),)))
    store.shown(1, 8)
    assert store.get(1, 0) is not None, "its window still has frames to show"
    store.shown(1, 32)
    store.release(1, 32)
    assert store.get(1, 32) is not None, "an output has still to encode it"
    store.release(1, 57)
    assert store.get(1, 32) is None
    assert store.begin(1) == 33, "the rest is not shown yet"
    assert store.held is not None
    assert (store.held.frame, store.held.image[0, 0]) == (32, 32)


def test_the_picture_that_another_actor_showed_last_is_held_until_one_is_shown_here() -> None:
    store = FrameStore()
    store.hold(window(1, 8, 1, ((0, 8),)).frame(8))
    assert store.held is not None
    assert (store.held.frame, store.held.image[0, 0]) == (8, 8)
    store.add(window(1, 9, 24, ((1, 9),)))
    assert store.held.frame == 8
    store.shown(1, 9)
    assert store.held.frame == 9
    store.hold(window(1, 8, 1, ((0, 8),)).frame(8))
    assert store.held.frame == 9


def test_windows_of_an_earlier_run_are_freed_with_the_first_that_is_shown_of_the_next() -> None:
    store = FrameStore()
    store.add(window(1, 0, 33, ((0, 0),)))
    store.add(window(2, 0, 33, ((0, 0), (1, 9))))
    store.shown(1, 32)
    store.shown(2, 8)
    store.release(2, 9)
    assert store.get(1, 32) is None
    assert store.get(2, 0) is not None


def test_the_held_picture_survives_its_run() -> None:
    store = FrameStore()
    store.add(window(1, 0, 33, ((0, 0), (1, 9))))
    store.shown(1, 8)
    store.abandon(2)
    assert store.get(1, 9) is None
    assert store.end == 0
    assert store.held is not None
    assert store.held.frame == 8


def test_the_held_picture_keeps_no_window_alive() -> None:
    store = FrameStore()
    store.add(window(1, 0, 33, ((0, 0), (1, 9))))
    store.shown(1, 32)
    assert store.held is not None
    assert store.held.image.base is None


def test_the_clock_tells_when_a_frame_is_due_and_how_many_have_been() -> None:
    clock = PlayoutClock(run=1, next_frame=9, due_at=100.0, frame_rate=24.0)
    assert clock.due(33) == pytest.approx(101.0)
    assert clock.played(99.9) == 9
    assert clock.played(100.0) == 10
    assert clock.played(100.0 + 1 / 24 + 1e-6) == 11


def test_a_clock_that_stands_shows_no_more_than_the_gateway_has_heard_of() -> None:
    clock = PlayoutClock(run=1, next_frame=30, due_at=100.0, frame_rate=24.0, end=33)
    assert clock.played(100.0) == 31
    assert clock.played(160.0) == 33
