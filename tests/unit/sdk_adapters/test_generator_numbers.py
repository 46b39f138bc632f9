"""Which frames came: every number counts once, whatever the order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdk_adapters.harness.generator.numbers import Numbers

pytestmark = pytest.mark.unit


def taken(frames: list[int], *, run: int = 1, numbers: Numbers | None = None) -> Numbers:
    """Takes frames as those do who follow a session."""
    numbers = numbers or Numbers()
    for frame in frames:
        if run == numbers.run and frame == numbers.next:
            numbers.next += 1
        else:
            numbers.unusual(run, frame, held=False, counts=True)
    return numbers


@given(st.lists(st.integers(0, 60), min_size=1, max_size=200))
def test_every_frame_counts_exactly_once(frames: list[int]) -> None:
    numbers = taken(frames)
    assert numbers.lost == max(frames) + 1 - len(set(frames))
    assert numbers.repeated == len(frames) - len(set(frames))


def test_who_joins_a_run_amid_has_lost_nothing_before() -> None:
    numbers = Numbers()
    numbers.amid = True
    taken([7, 8, 10], numbers=numbers)
    assert (numbers.lost, numbers.repeated) == (1, 0)
    # The next run is seen from its beginning.
    taken([2, 3], run=2, numbers=numbers)
    assert numbers.lost == 3


def test_runs_are_counted_apart() -> None:
    numbers = taken([0, 1, 3], run=1)
    taken([0, 1], run=2, numbers=numbers)
    assert (numbers.lost, numbers.repeated) == (1, 0)
    # What is told of a run that is over is nothing new.
    assert not numbers.unusual(1, 2, held=False, counts=True)


def test_of_a_run_that_is_complete_none_may_be_missing() -> None:
    numbers = taken([0, 1, 2])
    numbers.whole(5)
    numbers.over(counts=True)
    assert numbers.lost == 2
