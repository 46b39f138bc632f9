"""Whole runs: the scheduler's core with users and GPUs that do not exist."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.scenario.scenario import Scenario
from scheduler.simulator.report import report
from scheduler.simulator.world import Run, World
from tests.unit.scenario.scenarios import small

pytestmark = pytest.mark.unit

STORM = {"kind": "failure-storm", "at": "5m", "share": 0.5, "over": 20}
RECLAIM = {"kind": "spot-reclaim", "at": "5m", "share": 0.4, "notice": "120s"}
CROWD = {"at": "5m", "sessions": 200, "over": 20}


def run(scenario: Scenario, *, exact: bool = False) -> Run:
    return World(scenario, exact=exact).run()


def in_time(done: Run) -> float:
    return report(small(), done, (), exact=False).in_time


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pool__gpus": 4},
        {"workload__crowds": [CROWD]},
        {"workload__crowds": [CROWD], "pool__rules": {"queue_limit": 500}},
        {"pool__disturbances": [STORM]},
        {"pool__disturbances": [RECLAIM]},
        {"pool__disturbances": [{"kind": "wear", "mean": "0.5h"}]},
        {"pool__policy": "spread"},
    ],
    ids=["calm", "too few", "crowd", "long queue", "storm", "reclaim", "wear", "spread"],
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_session_that_came_was_served_turned_away_left_or_is_there(
    changes: dict[str, object], seed: int
) -> None:
    done = run(small(seed=seed, **changes))
    counts = done.counts
    assert counts.comes > 50
    assert counts.lost == 0
    assert counts.comes == (counts.leaves + counts.turned_away + counts.impatient + done.present)


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = (run(small(pool__disturbances=[STORM, RECLAIM])) for _ in range(2))
    assert replace(first, wall_s=0) == replace(second, wall_s=0)


def test_another_seed_gives_another() -> None:
    assert run(small(seed=1)).points != run(small(seed=2)).points


def test_no_run_takes_less_than_the_bound() -> None:
    done = run(small())
    assert done.counts.bound_s > 0
    assert done.gpu_s >= done.counts.bound_s


def test_the_gpus_follow_the_sessions() -> None:
    done = run(small(duration="1.5h", workload__crowds=[{**CROWD, "sessions": 60}]))
    before, crowded, after = (
        next(p.gpus for p in done.points if p.at >= 60 * minute) for minute in (4, 10, 85)
    )
    assert before < crowded
    assert after < crowded


def test_short_batches_save_gpus_and_cost_no_chunk_its_time() -> None:
    model = {"chunk_ms": 110, "chunk_jitter_ms": 1.5}
    gains = {2: 1.33, 3: 1.5, 4: 1.6}
    alone, batched = (
        run(small(duration="30m", pool__model={**model, "batch_gains": each}), exact=True)
        for each in ({}, gains)
    )
    assert batched.gpu_s < 0.95 * alone.gpu_s
    assert in_time(batched) > in_time(alone) - 0.002


def test_sessions_that_pause_for_long_are_parked_and_come_back() -> None:
    done = run(small(duration="0.5h"))
    assert done.counts.parks > 20
    assert done.counts.restores > 20


def test_sessions_of_gpus_that_died_go_on_elsewhere() -> None:
    done = run(small(pool__disturbances=[STORM]))
    assert done.deaths >= 2
    assert len(done.counts.gaps) >= 3
    assert done.counts.skipped >= len(done.counts.gaps)


def test_gpus_with_a_notice_are_emptied_before_they_go() -> None:
    done = run(small(pool__disturbances=[RECLAIM]))
    assert done.counts.moves > 0
    assert len(done.counts.gaps) == 0


def test_too_few_gpus_are_felt_as_waiting() -> None:
    enough = report(small(), run(small()), (), exact=False)
    scarce = report(small(), run(small(pool__gpus=4)), (), exact=False)
    assert scarce.wait.p95 > 10 > enough.wait.p95


@pytest.mark.parametrize("chunk_ms", [110, 280, 600])
def test_extrapolated_and_played_runs_agree(chunk_ms: float) -> None:
    scenario = small(pool__model__chunk_ms=chunk_ms)
    extrapolated, played = run(scenario), run(scenario, exact=True)
    assert extrapolated.gpu_s == played.gpu_s
    assert in_time(extrapolated) == pytest.approx(in_time(played), abs=0.003)
