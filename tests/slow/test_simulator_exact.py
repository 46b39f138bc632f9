"""Fifty GPUs for an hour: extrapolated chunks against every chunk."""

from __future__ import annotations

import pytest

from scheduler.simulator.report import report
from scheduler.simulator.world import World
from tests.unit.scenario.scenarios import small

pytestmark = pytest.mark.slow

TENTH_OF_A_POINT = 0.001


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("chunk_ms", "connected"), [(280, 220), (110, 500), (600, 75)])
def test_extrapolated_chunks_are_in_time_as_often_as_played_ones(
    chunk_ms: float, connected: int
) -> None:
    scenario = small(
        duration="1h",
        pool__gpus=50,
        pool__model__chunk_ms=chunk_ms,
        workload__arrivals__connected=connected,
        workload__session={"kind": "lognormal", "mean": "30m"},
        workload__play={"kind": "exponential", "mean": "9m"},
        workload__pause={"kind": "exponential", "mean": "7m"},
    )
    extrapolated, played = (
        report(scenario, World(scenario, exact=exact).run(), (), exact=exact)
        for exact in (False, True)
    )
    assert played.chunks > 100_000
    assert played.in_time < 1
    assert abs(extrapolated.in_time - played.in_time) <= TENTH_OF_A_POINT
