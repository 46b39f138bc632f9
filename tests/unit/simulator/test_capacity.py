"""The most sessions that a pool can serve, predicted."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.core.errors import ConfigurationError
from scheduler.scenario.pool import Targets
from scheduler.scenario.scenario import Scenario
from scheduler.simulator.capacity import Asked, asked_of, capacity, largest
from tests.unit.scenario.scenarios import small

pytestmark = pytest.mark.unit

ALWAYS = {"kind": "fixed", "value": "1h"}


def busy(gpus: int, chunk_ms: float, **changes: Any) -> Scenario:
    """Sessions that compute all the time."""
    return small(
        duration="1m",
        warm_up="40s",
        workload__session=ALWAYS,
        workload__play=ALWAYS,
        workload__think={"kind": "fixed", "value": "1s"},
        pool__gpus=gpus,
        pool__model={"chunk_ms": chunk_ms, "chunk_jitter_ms": 0},
        **changes,
    )


@pytest.mark.parametrize("guess", [1, 2, 7, 30, 31, 40, 100])
@pytest.mark.parametrize("true", [0, 1, 6, 7, 30, 63])
def test_the_search_finds_the_largest_wherever_it_begins(guess: int, true: int) -> None:
    tried: list[int] = []

    def holds(number: int) -> bool:
        tried.append(number)
        return number <= true

    assert largest(holds, guess, 1000) == true
    assert len(tried) == len(set(tried)) <= 12


def test_what_has_no_end_is_told() -> None:
    with pytest.raises(ConfigurationError, match="no end"):
        largest(lambda _: True, 3, 50)


@pytest.mark.parametrize(("gpus", "chunk_ms", "slots"), [(1, 280, 3), (2, 280, 3), (3, 110, 7)])
def test_sessions_that_always_compute_fill_every_slot_and_no_more(
    gpus: int, chunk_ms: float, slots: int
) -> None:
    found = capacity(busy(gpus, chunk_ms))
    assert (found.gpus, found.sessions) == (gpus, gpus * slots)


def test_sessions_that_pause_leave_room_for_others() -> None:
    half = {"kind": "exponential", "mean": "10s"}
    pausing = small(
        duration="2m",
        warm_up="1m",
        workload__session=ALWAYS,
        workload__play=half,
        workload__pause=half,
        pool={"gpus": 4, "model": {"chunk_ms": 280}},
        targets={"in_time": 0.95, "wait_p95_s": 3},
    )
    assert 12 < capacity(pausing).sessions < 36


def test_a_rate_that_no_gpu_can_hold_leaves_nobody() -> None:
    assert capacity(busy(2, 1400)).sessions == 0


def test_those_who_would_wait_for_ever_count_as_left_out() -> None:
    found = capacity(busy(1, 280))
    (beyond, *_) = [trial for trial in found.trials if trial.sessions == 4]
    assert beyond.in_time == 1
    assert beyond.left_out == pytest.approx(1 / 4)
    assert not beyond.holds


def test_those_who_are_turned_away_in_the_warm_up_count_as_well() -> None:
    found = capacity(busy(1, 280, pool__rules={"queue_limit": 1}))
    assert found.sessions == 3


def test_its_arrivals_and_disturbances_do_not_count() -> None:
    crowd = {"at": "10s", "sessions": 500}
    storm = {"kind": "failure-storm", "at": "10s", "share": 1}
    wild = busy(2, 280, workload__crowds=[crowd], pool__disturbances=[storm])
    assert capacity(wild) == capacity(busy(2, 280))


def test_what_is_not_asked_is_asked_as_usual() -> None:
    assert asked_of(Targets()) == Asked(0.99, 2.0, 0.0)
    assert asked_of(Targets(in_time=0.9, rejected=0.2)) == Asked(0.9, 2.0, 0.2)


def test_a_capacity_is_told_with_all_that_was_tried() -> None:
    told = capacity(busy(1, 280)).document()
    assert told["sessions"] == 3
    assert told["asked"] == {"in_time": 0.99, "wait_p95_s": 2.0, "left_out": 0.0}
    assert {trial["sessions"] for trial in told["trials"]} >= {3, 4}
