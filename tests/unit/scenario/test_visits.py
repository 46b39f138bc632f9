"""Who comes when."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from scheduler.core.errors import ConfigurationError
from scheduler.scenario.scenario import Scenario
from scheduler.scenario.visits import Visit, visits
from scheduler.scenario.workload import Diurnal, connected
from tests.unit.scenario.scenarios import small

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
    after = plans(small(workload__pause={"kind": "fixed", "value": "9m"}))
    assert [plan[:5] for plan in before] == [plan[:5] for plan in after]
    assert {plan[5] for plan in after} == {540.0}


def test_arrivals_come_in_order_within_the_run() -> None:
    times = [visit.at for visit in visits(small())]
    assert times == sorted(times)
    assert times[0] >= -600
    assert times[-1] < 900


def test_as_many_are_connected_as_the_scenario_says() -> None:
    found = list(visits(small(duration="2h", workload__arrivals__connected=400)))
    for moment in (0.0, 3600.0, 7000.0):
        there = sum(visit.at <= moment < visit.at + visit.length for visit in found)
        assert there == pytest.approx(400, rel=0.15)


def test_the_day_has_its_peak_and_its_trough() -> None:
    level = connected(Diurnal(kind="diurnal", connected=100, trough=0.4, peak_hour=20))
    assert level(20 * 3600.0) == pytest.approx(100)
    assert level(8 * 3600.0) == pytest.approx(40)


def test_a_crowd_comes_beside_the_others() -> None:
    crowd = {"at": "5m", "sessions": 300, "over": 30}
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


def test_constant_arrivals_are_equally_far_apart() -> None:
    arrivals = {"kind": "constant", "per_minute": 4}
    found = list(visits(small(workload__arrivals=arrivals)))
    assert [visit.at for visit in found[:3]] == [-592.5, -577.5, -562.5]
    assert len(found) == 100


def test_random_arrivals_come_at_their_rate() -> None:
    arrivals = {"kind": "poisson", "per_minute": 20}
    found = list(visits(small(duration="2h", workload__arrivals=arrivals)))
    assert len(found) == pytest.approx(20 * 130, rel=0.06)
    gaps = [later.at - earlier.at for earlier, later in pairwise(found)]
    # Of random gaps a share of 1/e is longer than their mean.
    assert sum(gap > 3 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.03)


def test_a_ramp_rises_and_stays() -> None:
    ramp = {"kind": "ramp", "from_per_minute": 0, "to_per_minute": 30, "over": "1h"}
    found = [v.at for v in visits(small(duration="3h", workload__arrivals=ramp))]
    assert found[0] >= 0
    thirds = [sum(3600 * n <= at < 3600 * (n + 1) for at in found) for n in range(3)]
    assert thirds == [pytest.approx(900, rel=0.1), *[pytest.approx(1800, rel=0.1)] * 2]


def test_without_arrivals_there_are_only_crowds() -> None:
    crowd = {"at": "1m", "sessions": 7, "over": "1s"}
    found = list(visits(small(workload__arrivals=None, workload__crowds=[crowd])))
    assert len(found) == 7
    assert all(60 <= visit.at < 61 for visit in found)


def test_whoever_leaves_is_followed_at_once() -> None:
    found = list(
        visits(
            small(
                workload__arrivals={"kind": "level", "connected": 2, "over": "10s"},
                workload__session={"kind": "fixed", "value": "5m"},
            )
        )
    )
    assert [visit.at for visit in found[:4]] == [-600, -595, -300, -295]
    assert {visit.length for visit in found} == {300}
