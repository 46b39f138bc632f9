"""What every session of a load test will do."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from sdk_adapters.harness.plan import Act, plan
from sdk_adapters.harness.scenarios import read
from tests.unit.scenario.scenarios import small

pytestmark = pytest.mark.unit


def test_smoke_has_every_wire_with_every_mode_and_all_that_a_user_does() -> None:
    made = plan(read("smoke"), processes=2)
    kinds = [(visit.wire, visit.live) for visit in made.visits]
    assert {kind: kinds.count(kind) for kind in kinds} == dict.fromkeys(
        [("grpc", True), ("grpc", False), ("webrtc", True), ("webrtc", False)], 2
    )
    assert {visit.wire for visit in made.visits if visit.decoded} == {"grpc", "webrtc"}
    assert all({step.act for step in visit.steps} == {*Act} for visit in made.visits)
    assert max(visit.leave_s for visit in made.visits) < made.end_s


def test_times_begin_with_the_run_and_what_is_measured_with_the_end_of_the_warm_up() -> None:
    made = plan(
        small(
            duration="1m",
            warm_up="20s",
            workload__arrivals={"kind": "constant", "per_minute": 6},
            workload__crowds=[{"at": "5s", "sessions": 1, "over": "1ms"}],
        )
    )
    assert made.measured_s == (20, 80)
    arrivals = [visit.arrival_s for visit in made.visits]
    assert arrivals == pytest.approx([5, 15, 25, 25, 35, 45, 55, 65, 75], abs=0.001)


def test_prompts_come_as_often_as_the_scenario_says_while_it_plays() -> None:
    made = plan(
        small(
            duration="1h",
            warm_up="1s",
            workload__arrivals={"kind": "level", "connected": 20, "over": "1s"},
            workload__session={"kind": "fixed", "value": "2h"},
            workload__play={"kind": "fixed", "value": "30s"},
            workload__pause={"kind": "fixed", "value": "30s"},
            workload__prompts_per_minute=4,
        )
    )
    prompts = sum(step.act is Act.PROMPT for visit in made.visits for step in visit.steps)
    # Twenty sessions, half of an hour each.
    assert prompts == pytest.approx(20 * 30 * 4, rel=0.06)


def test_sessions_that_leave_before_they_start_do_nothing() -> None:
    made = plan(
        small(
            duration="10s",
            warm_up="10s",
            workload__session={"kind": "fixed", "value": "1s"},
            workload__think={"kind": "fixed", "value": "2s"},
        )
    )
    assert made.visits
    assert all(visit.steps == () for visit in made.visits)


def test_those_who_neither_play_nor_pause_for_long_press_keys_all_the_same() -> None:
    nothing = {"kind": "fixed", "value": 0}
    made = plan(
        small(
            duration="10s",
            warm_up=0,
            workload__arrivals={"kind": "level", "connected": 1},
            workload__think=nothing,
            workload__play=nothing,
            workload__pause=nothing,
            workload__prompts_per_minute=0,
        )
    )
    assert len(made.visits[0].steps) == pytest.approx(100, abs=1)


def test_what_a_trace_says_of_a_session_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "arrivals.csv"
    path.write_text("arrive_s,length_s,mode\n9,60,file\n")
    trace = {"kind": "trace", "path": str(path)}
    (visit,) = plan(small(warm_up="10s", workload__arrivals=trace)).visits
    assert (visit.arrival_s, visit.leave_s, visit.live) == (19, 79, False)


def test_a_plan_can_be_sent_to_another_process() -> None:
    made = plan(read("chaos"))
    assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301 - our own
