"""Scenarios and the plans that are drawn from them, for all seeds and sizes."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.scenario.durations import seconds, text
from sdk_adapters.harness.plan import Act, Deals, Plan, PlannedVisit, plan
from tests.unit.scenario.scenarios import small

pytestmark = pytest.mark.properties

SEEDS = st.integers(0, 2**31)
BRISK: dict[str, Any] = {
    "duration": "4m",
    "warm_up": "30s",
    "workload__arrivals": {"kind": "poisson", "per_minute": 15},
    "workload__session": {"kind": "exponential", "mean": "1m"},
    "workload__think": {"kind": "exponential", "mean": "2s"},
    "workload__play": {"kind": "exponential", "mean": "15s"},
    "workload__pause": {"kind": "exponential", "mean": "5s"},
    "workload__prompts_per_minute": 6,
}
"""Sixty or so sessions that do a lot."""


def drawn(processes: int = 1, **changes: Any) -> Plan:
    return plan(small(**{**BRISK, **changes}), processes=processes)


def shape(visit: PlannedVisit) -> list[Act]:
    """What it does but for prompts, in order."""
    return [step.act for step in visit.steps if step.act is not Act.PROMPT]


@given(st.floats(0, 1e9, allow_nan=False))
@settings(deadline=None)
def test_a_duration_that_is_written_and_read_is_the_same(duration_s: float) -> None:
    assert seconds(text(duration_s)) == duration_s


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_the_same_seed_draws_the_same_plan(seed: int) -> None:
    assert drawn(seed=seed) == drawn(seed=seed)


@given(SEEDS, st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_every_plan_can_be_played(seed: int, processes: int) -> None:
    made = drawn(processes, seed=seed)
    assert [visit.number for visit in made.visits] == list(range(len(made.visits)))
    assert [v.arrival_s for v in made.visits] == sorted(v.arrival_s for v in made.visits)
    for visit in made.visits:
        times = [step.at_s for step in visit.steps]
        assert times == sorted(times)
        assert all(visit.arrival_s <= at < min(visit.leave_s, made.end_s) for at in times)
        alternating = [Act.START, *(Act.PAUSE, Act.RESUME) * len(times)]
        assert shape(visit) == alternating[: len(shape(visit))]
        playing = False
        for step in visit.steps:
            playing = step.act is not Act.PAUSE
            assert bool(step.prompt) == (step.act in (Act.START, Act.PROMPT))
            assert playing or step.act is Act.PAUSE


@given(SEEDS, st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_the_processes_share_the_sessions_evenly(seed: int, processes: int) -> None:
    made = drawn(processes, seed=seed)
    parts = [made.of(process) for process in range(processes)]
    assert sorted(v.number for part in parts for v in part) == [v.number for v in made.visits]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(
    SEEDS,
    st.sampled_from(
        [
            ("load__wires", {"grpc": 1, "webrtc": 3}, {"wire"}),
            ("load__codecs", {"vp8": 1}, {"codec"}),
            ("load__decode", 0.5, {"decoded"}),
            ("load__networks", [{"name": "far", "share": 1, "delay_ms": 80}], {"network"}),
            ("workload__live_share", 0.2, {"live"}),
            ("workload__session", {"kind": "fixed", "value": "45s"}, {"leave_s", "steps"}),
            ("workload__think", {"kind": "fixed", "value": "1s"}, {"steps"}),
            ("workload__pause", {"kind": "fixed", "value": "9s"}, {"steps"}),
            ("workload__prompts_per_minute", 1, {"steps"}),
        ]
    ),
)
@settings(max_examples=60, deadline=None)
def test_a_change_of_one_distribution_leaves_all_else_as_it_was(
    seed: int, change: tuple[str, Any, set[str]]
) -> None:
    key, value, touched = change
    before, after = drawn(seed=seed), drawn(seed=seed, **{key: value})
    fields = {name for name in PlannedVisit.__slots__ if name not in touched}
    for old, new in zip(before.visits, after.visits, strict=True):
        assert all(getattr(old, name) == getattr(new, name) for name in fields)


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_another_rate_of_prompts_moves_no_start_and_no_pause(seed: int) -> None:
    before, after = (drawn(seed=seed, workload__prompts_per_minute=rate) for rate in (0, 20))
    for old, new in zip(before.visits, after.visits, strict=True):
        kept = [(step.at_s, step.act) for step in new.steps if step.act is not Act.PROMPT]
        assert kept == [(step.at_s, step.act) for step in old.steps]


@given(SEEDS, st.integers(1, 400), st.floats(0.05, 0.95))
@settings(deadline=None)
def test_shares_hold_for_any_number_of_sessions(seed: int, count: int, share: float) -> None:
    deals = Deals(seed)
    dealt = [deals.of(number) for number in range(count)]
    for purpose in dealt[0]:
        below = sum(each[purpose] < share for each in dealt)
        # The discrepancy of such a sequence grows with the logarithm of its length.
        assert abs(below - share * count) <= 1 + math.log2(count + 1)


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_what_is_dealt_for_one_purpose_says_nothing_of_another(seed: int) -> None:
    deals = Deals(seed)
    corners = Counter(
        tuple(value < 0.5 for value in deals.of(number).values()) for number in range(1600)
    )
    assert len(corners) == 16
    assert max(corners.values()) - min(corners.values()) <= 25
