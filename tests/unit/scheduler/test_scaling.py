"""The goal of a cluster that grows and shrinks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.scaling import Scaler, ScalingRules

pytestmark = pytest.mark.unit

RULES = ScalingRules(least=2, most=10, shrink_after=300.0)


def test_it_grows_at_once_and_shrinks_when_less_was_enough_for_a_while() -> None:
    scaler = Scaler(RULES)
    assert scaler.goal(3, 0.0) == 3
    assert scaler.goal(7, 1.0) == 7
    assert scaler.goal(4, 2.0) == 7
    assert scaler.goal(3, 200.0) == 7
    assert scaler.goal(3, 301.5) == 4
    assert scaler.goal(3, 501.0) == 3


def test_a_dip_is_no_reason_to_shrink() -> None:
    scaler = Scaler(RULES)
    assert scaler.goal(5, 0.0) == 5
    assert scaler.goal(2, 100.0) == 5
    assert scaler.goal(5, 200.0) == 5
    assert scaler.goal(2, 450.0) == 5


def test_the_bounds_hold() -> None:
    assert Scaler(RULES).goal(0, 0.0) == 2
    assert Scaler(RULES).goal(99, 0.0) == 10


@given(st.lists(st.tuples(st.floats(0, 200), st.integers(0, 20)), max_size=50))
def test_the_goal_is_the_peak_of_the_window(steps: list[tuple[float, int]]) -> None:
    scaler, now = Scaler(RULES), 0.0
    told: list[tuple[float, int]] = []
    for pause, wanted in steps:
        now += pause
        told.append((now, min(max(wanted, 2), 10)))
        window = [goal for at, goal in told if at > now - RULES.shrink_after]
        assert scaler.goal(wanted, now) == max(window)
