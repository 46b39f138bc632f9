"""Who comes when."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler.core.errors import ConfigurationError
from scheduler.simulator.scenario import Diurnal, Scenario
from scheduler.simulator.workload import Visit, connected, visits
from tests.unit.simulator.scenarios import small

pytestmark = pytest.mark.unit


def plans(scenario: Scenario) -> list[tuple[float, ...]]:
    return [
        (v.at, v.length, v.live, v.think, v.spells.play(), v.spells.pause())
        for v in visits(scenario)
    ]


def test_the_same_seed_draws_the_same_users() -> None:
    assert plans(small(seed=4)) == plans(small(seed=4))


def test_another_seed_draws_others() -> None:
    assert plans(small(seed=4)) != plans(small(seed=5))


def test_a_change_of_the_pauses_changes_nothing_else() -> None:
    before = plans(small())
    after = plans(small(workload__pause_minutes={"kind": "fixed", "value": 9}))
    assert [plan[:5] for plan in before] == [plan[:5] for plan in after]
    assert {plan[5] for plan in after} == {540.0}


def test_arrivals_come_in_order_within_the_run() -> None:
    times = [visit.at for visit in visits(small())]
    assert times == sorted(times)
    assert times[0] >= -600
    assert times[-1] < 900


def test_as_many_are_connected_as_the_scenario_says() -> None:
    found = list(visits(small(hours=2, workload__arrivals__connected=400)))
    for moment in (0.0, 3600.0, 7000.0):
        there = sum(visit.at <= moment < visit.at + visit.length for visit in found)
        assert there == pytest.approx(400, rel=0.15)


def test_the_day_has_its_peak_and_its_trough() -> None:
    level = connected(Diurnal(kind="diurnal", connected=100, trough=0.4, peak_hour=20))
    assert level(20 * 3600.0) == pytest.approx(100)
    assert level(8 * 3600.0) == pytest.approx(40)


def test_a_crowd_comes_beside_the_others() -> None:
    crowd = {"at_minutes": 5, "sessions": 300, "over_seconds": 30}
    within = [v for v in visits(small(workload__crowds=[crowd])) if 300 <= v.at < 330]
    assert 300 <= len(within) < 320


def test_a_trace_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "arrivals.csv"
    path.write_text("arrive_s,length_s,mode\n9,60,file\n5,,live\n3,30,\n")
    found: list[Visit] = list(
        visits(small(workload__arrivals={"kind": "trace", "path": str(path)}))
    )
    assert [visit.at for visit in found] == [3, 5, 9]
    assert (found[0].length, found[2].length) == (30, 60)
    assert (found[1].live, found[2].live) == (True, False)


def test_what_is_no_trace_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "arrivals.csv"
    path.write_text("when\n9\n")
    with pytest.raises(ConfigurationError):
        list(visits(small(workload__arrivals={"kind": "trace", "path": str(path)})))
