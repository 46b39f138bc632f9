"""The same scenario with more or fewer sessions."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.core.errors import ConfigurationError
from scheduler.scenario.sizes import at_level, scaled
from scheduler.scenario.visits import visits
from tests.unit.scenario.scenarios import small

pytestmark = pytest.mark.unit

CROWD = {"at": "5m", "sessions": 50}


@pytest.mark.parametrize(
    "arrivals",
    [
        {"kind": "steady", "connected": 40},
        {"kind": "diurnal", "connected": 60},
        {"kind": "level", "connected": 40},
        {"kind": "constant", "per_minute": 8},
        {"kind": "poisson", "per_minute": 8},
        {"kind": "ramp", "from_per_minute": 4, "to_per_minute": 10, "over": "10m"},
        None,
    ],
    ids=lambda arrivals: arrivals["kind"] if arrivals else "crowds alone",
)
def test_a_scaled_scenario_has_so_many_times_the_sessions(arrivals: dict[str, Any] | None) -> None:
    scenario = small(duration="1h", workload__arrivals=arrivals, workload__crowds=[CROWD])
    before, after = (len(list(visits(each))) for each in (scenario, scaled(scenario, 3)))
    assert after / before == pytest.approx(3, rel=0.12)


def test_a_crowd_is_never_nobody() -> None:
    (crowd,) = scaled(small(workload__crowds=[CROWD]), 0.001).workload.crowds
    assert crowd.sessions == 1


def test_what_was_observed_is_not_scaled() -> None:
    trace = {"kind": "trace", "path": "them.csv"}
    with pytest.raises(ConfigurationError, match="observed"):
        scaled(small(workload__arrivals=trace), 2)


@pytest.mark.parametrize("by", [0, -1])
def test_nobody_is_no_size(by: float) -> None:
    with pytest.raises(ConfigurationError):
        scaled(small(), by)


def test_at_a_level_exactly_so_many_are_there_whenever_one_looks() -> None:
    found = list(visits(at_level(small(workload__crowds=[CROWD]), 17)))
    assert len(found) > 40
    for moment in range(0, 900, 7):
        assert sum(visit.at <= moment < visit.at + visit.length for visit in found) == 17
