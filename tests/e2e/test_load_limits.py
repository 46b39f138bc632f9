"""The load harness finds what a service can carry, and sees what it survives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scheduler.scenario.scenario import Scenario, parse
from sdk_adapters.harness import chaos
from sdk_adapters.harness.capacity import Trial, Wanted
from sdk_adapters.harness.capacity_run import find
from sdk_adapters.harness.deeds import Deed
from sdk_adapters.harness.running import Setting
from sdk_adapters.harness.search import Rules
from sdk_adapters.harness.stack import StackOptions, own_stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def scenario(**changes: Any) -> Scenario:
    """Users who play all the time, on a machine that has other things to do."""
    document = {
        "name": "limits",
        "duration": 10,
        "warm_up": 6,
        "workload": {
            "arrivals": {"kind": "level", "connected": 3, "over": 2},
            "session": {"kind": "fixed", "value": "1h"},
            "think": {"kind": "fixed", "value": 0.5},
            "play": {"kind": "fixed", "value": "1h"},
            "pause": {"kind": "fixed", "value": 1},
            "live_share": 0,
        },
        # Three play at once, and the measured cost may grow by a tenth before it is two.
        "pool": {"gpus": 1, "gpus_at_start": 1, "model": {"chunk_ms": 250, "chunk_jitter_ms": 0}},
        "load": {
            "wires": {"grpc": 1},
            "decode": 0,
            "clip": {"seconds": 60, "width": 160, "height": 88},
            "limits": {"generator_cpu": 1, "generator_lag_ms": 1000},
        },
        "slo": {"sessions_lost": {"total": 0}, "turned_away": {"share": 0}},
        **changes,
    }
    return parse(document, "here")


async def test_the_capacity_is_what_the_pool_computes_and_what_the_simulator_says(
    tmp_path: Path,
) -> None:
    asked, seen = scenario(), list[Trial]()
    async with own_stack(StackOptions(asked.spec), tmp_path) as stack:
        setting = Setting(stack.target, stack.service)
        wanted = Wanted.of(asked, rules=Rules(most=8))
        found = await find(wanted, setting, tmp_path, observe=seen.append)
        again = await find(wanted, setting, tmp_path, observe=seen.append)
    assert found.found.interval == (3, 4), [each.missed for each in seen]
    assert found.found.confirmed
    assert found.prediction.sessions == 3
    assert found.difference == 0
    assert again.trials == found.trials
    assert len(seen) == len(found.trials), "what was kept is not tried again"


async def test_nobody_is_lost_when_an_actor_and_a_gateway_are_killed(tmp_path: Path) -> None:
    pool = {"gpus": 2, "model": {"chunk_ms": 60, "chunk_jitter_ms": 0}}
    asked = scenario(duration=60, pool=pool)
    deeds = (Deed.KILL_ACTOR, Deed.KILL_GATEWAY)
    async with own_stack(StackOptions(asked.spec, killable=True), tmp_path) as stack:
        setting = Setting(stack.target, stack.service)
        came = await chaos.wreak(asked, setting, deeds, stack=stack)
    assert [(each.deed, each.failure) for each in came.done] == [(each, "") for each in deeds]
    assert came.done[0].affected > 0
    assert came.done[0].recovery_s is not None
    assert [each.standing for each in came.done] == [0, 0]
    assert len(came.report.events) == 2
    assert all(each.met for each in came.report.verdicts), came.report.verdicts
    assert came.report.metrics["sessions_lost"].value.total == 0  # type: ignore[union-attr]
