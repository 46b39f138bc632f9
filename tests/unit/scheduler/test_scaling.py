"""The goals of a cluster that grows and shrinks, and what makes of it what it should be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.scaling import (
    Changes,
    Highest,
    Scaler,
    ScalingRules,
    Stage,
    Standing,
    fit,
    share_out,
)

pytestmark = pytest.mark.unit

RULES = ScalingRules(least=2, most=10, shrink_after=300.0)


class Following(Scaler):
    """Has as many of one model as there should be."""

    running = 0

    def goal(self, wanted: int, now: float) -> int:
        self.running = self.goals({"m": wanted}, {"m": self.running}, now)["m"]
        return self.running


def test_the_highest_of_the_last_seconds_is_kept() -> None:
    highest = Highest(10.0)
    values = ((0.0, 5), (1.0, 3), (4.0, 4), (10.0, 1), (11.5, 1), (14.5, 2), (25.0, 0))
    assert [highest.push(value, now) for now, value in values] == [5, 5, 5, 4, 4, 2, 0]


def test_it_grows_at_once_and_shrinks_when_less_was_enough_for_a_while() -> None:
    scaler = Following(RULES, "m")
    assert scaler.goal(3, 0.0) == 3
    assert scaler.goal(7, 1.0) == 7
    assert scaler.goal(4, 2.0) == 7
    assert scaler.goal(3, 200.0) == 7
    assert scaler.goal(3, 301.5) == 4
    assert scaler.goal(3, 501.0) == 3


def test_a_dip_is_no_reason_to_shrink() -> None:
    scaler = Following(RULES, "m")
    assert scaler.goal(5, 0.0) == 5
    assert scaler.goal(2, 100.0) == 5
    assert scaler.goal(5, 200.0) == 5
    assert scaler.goal(2, 450.0) == 5


def test_the_bounds_hold() -> None:
    assert Following(RULES, "m").goal(0, 0.0) == 2
    assert Following(RULES, "m").goal(99, 0.0) == 10
    assert Scaler(RULES, "m").goals({"x": 1}, {}, 0.0) == {"x": 1, "m": 1}


def test_spares_are_kept_beyond_what_is_wanted() -> None:
    rules = ScalingRules(most=100, spare_share=0.1, spare=2)
    assert Scaler(rules, "m").goals({"m": 3, "x": 50}, {}, 0.0) == {"m": 5, "x": 55}


def test_what_has_gone_since_is_not_started_again_unless_it_is_wanted() -> None:
    scaler = Scaler(RULES, "m")
    scaler.begin({"m": 9}, 0.0)
    assert scaler.goals({"m": 4}, {"m": 9}, 1.0) == {"m": 9}
    assert scaler.goals({"m": 4}, {"m": 6}, 2.0) == {"m": 6}
    assert scaler.goals({"m": 4}, {"m": 3}, 3.0) == {"m": 4}
    assert scaler.goals({"m": 4}, {"m": 6}, 301.0) == {"m": 4}


def test_what_runs_goes_before_what_is_to_come_where_there_is_no_room_for_both() -> None:
    assert share_out(6, {"x": 5}, {"x": 5, "y": 5}) == {"x": 5, "y": 1}
    assert share_out(4, {"x": 5, "y": 2}, {"x": 5, "y": 2}) == {"x": 2, "y": 2}
    assert share_out(9, {}, {"x": 1, "y": 2}) == {"x": 1, "y": 2}


def standings(**stages: tuple[Stage, int]) -> list[Standing[str]]:
    return [Standing(key, stage, (use,)) for key, (stage, use) in stages.items()]


def test_what_is_shed_is_taken_back_before_others_are_started() -> None:
    there = standings(a=(Stage.SERVING, 3), b=(Stage.SHED, 1), c=(Stage.SHED, 2))
    assert fit(2, there, 9) == Changes(keep=("c",))
    assert fit(5, there, 9) == Changes(start=2, keep=("c", "b"))


def test_only_so_many_start_at_once() -> None:
    there = standings(a=(Stage.STARTING, 0), b=(Stage.STARTING, 0), c=(Stage.BOUND, 0))
    assert fit(9, there, 3) == Changes(start=1)


def test_what_has_not_begun_to_serve_goes_first_the_youngest_before_the_others() -> None:
    there = standings(
        a=(Stage.SERVING, 3),
        b=(Stage.STARTING, 0),
        c=(Stage.STARTING, 0),
        d=(Stage.SERVING, 1),
        e=(Stage.BOUND, 0),
    )
    assert fit(5, there, 9) == Changes()
    assert fit(4, there, 9) == Changes(drop=("c",))
    assert fit(2, there, 9) == Changes(drop=("b", "c"), shed=("d",))
    assert fit(0, there, 9) == Changes(drop=("b", "c"), shed=("d", "a"))


@given(st.lists(st.tuples(st.floats(0, 200), st.integers(0, 20)), max_size=50))
def test_the_goal_is_the_peak_of_the_window(steps: list[tuple[float, int]]) -> None:
    scaler, now = Following(RULES, "m"), 0.0
    told: list[tuple[float, int]] = []
    for pause, wanted in steps:
        now += pause
        told.append((now, min(max(wanted, 2), 10)))
        window = [goal for at, goal in told if at > now - RULES.shrink_after]
        assert scaler.goal(wanted, now) == max(window)
