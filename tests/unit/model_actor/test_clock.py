"""What the actor knows of time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_actor.engine.clock import Recent, WindowCost
from scheduler.core.chunks import Batching

pytestmark = pytest.mark.unit


def test_without_observations_what_was_expected_counts() -> None:
    assert Recent(0.3).quantile(0.5) == 0.3


@given(st.lists(st.floats(0, 10), min_size=1, max_size=60), st.integers(1, 20), st.floats(0.01, 1))
def test_a_quantile_is_not_exceeded_by_its_share(
    values: list[float], history: int, share: float
) -> None:
    recent = Recent(1.0, history)
    for value in values:
        recent.add(value)
    kept = values[-history:]
    found = recent.quantile(share)
    assert len(recent) == len(kept)
    assert found in kept
    assert sum(value <= found for value in kept) >= share * len(kept)
    assert sum(value < found for value in kept) < share * len(kept)


def test_the_cost_is_the_declared_one_until_windows_were_measured() -> None:
    cost = WindowCost(0.3)
    assert (cost.typical_s, cost.worst_s) == (0.3, 0.3)
    for seconds in (0.1, 0.2, 0.1, 0.1):
        cost.observe(seconds)
    assert cost.typical_s == 0.1
    assert cost.worst_s == 0.2
    for _ in range(128):
        cost.observe(0.05)
    assert cost.worst_s == 0.05, "only the recent past counts"


def test_first_windows_are_measured_apart() -> None:
    cost = WindowCost(0.24, first_share=33 / 24)
    assert cost.worst(first=True) == pytest.approx(0.33)
    for _ in range(4):
        cost.observe(0.5, first=True)
        cost.observe(0.2)
    assert (cost.worst(first=True), cost.worst(first=False), cost.typical_s) == (0.5, 0.2, 0.2)


def test_windows_with_fewer_steps_are_measured_apart() -> None:
    cost = WindowCost(0.24, first_share=33 / 24, max_batch=2, fewer_s={2: 0.12})
    assert cost.fewer_s == {}, "nothing was measured"
    assert cost.worst(first=True, steps=2) == pytest.approx(0.165)
    for _ in range(4):
        cost.observe(0.2)
        cost.observe(0.1, steps=2)
        cost.observe(0.05, size=2, steps=2)
    assert (cost.worst(first=False, steps=2), cost.typical_s) == (0.1, 0.2)
    assert cost.fewer_s == {2: 0.1}
    assert cost.batching().trial == 2, "batches are tried with all steps"


def test_one_window_of_a_hundred_may_be_slower_than_the_worst() -> None:
    cost = WindowCost(0.1)
    for number in range(120):
        cost.observe(9.0 if number == 60 else 0.1)
    assert cost.worst_s == 0.1
    cost.observe(9.0)
    assert cost.worst_s == 9.0


def test_gains_are_measured_against_windows_alone() -> None:
    cost = WindowCost(0.1, max_batch=2)
    assert cost.batching() == Batching()
    cost.observe(0.2)
    assert cost.batching() == Batching({}, trial=2)
    cost.observe(0.25, size=2)
    assert cost.batching().gains == pytest.approx({2: 1.6})
    cost.observe(0.45, size=2)
    assert cost.batching().gains == pytest.approx({2: 0.4 / 0.29})
    assert cost.batching().trial is None
    assert cost.typical_s == 0.2, "windows of a batch are no windows alone"


def test_gains_are_counted_on_once_they_were_measured_often() -> None:
    cost = WindowCost(0.1, max_batch=3)
    for number in range(WindowCost.SURE):
        assert cost.sure_gains == {}
        cost.observe(0.2)
        cost.observe(0.25, size=2)
        if number % 2:
            cost.observe(0.3, size=3)
    assert cost.sure_gains == pytest.approx({2: 1.6})


def test_first_windows_say_nothing_of_gains() -> None:
    cost = WindowCost(0.1, max_batch=2)
    cost.observe(0.2)
    cost.observe(0.3, first=True, size=2)
    assert cost.batching().trial == 2


def test_sizes_are_tried_one_after_another() -> None:
    cost = WindowCost(0.1, max_batch=4)
    cost.observe(0.2)
    for size in (2, 3, 4):
        assert cost.batching().trial == size
        cost.observe(0.2, size=size)
    assert cost.batching().trial is None


def test_a_size_that_was_not_worth_it_is_tried_again_in_a_while() -> None:
    cost = WindowCost(0.1, max_batch=3)
    cost.observe(0.2)
    cost.observe(0.4, size=2)
    cost.observe(0.3, size=3)
    assert cost.batching().trial is None
    for _ in range(WindowCost.TRY_AGAIN - 4):
        cost.observe(0.2)
    assert cost.batching().trial is None
    cost.observe(0.2)
    assert cost.batching().trial == 2, "3 is worth it"
