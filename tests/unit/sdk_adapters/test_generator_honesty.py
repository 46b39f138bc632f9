"""The generator watches itself: its CPU, its lag, what measuring costs, and who comes."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest

from scheduler.scenario import ConfigurationError, scenario
from sdk_adapters.harness.generator import Target
from sdk_adapters.harness.generator import pulse as pulses
from sdk_adapters.harness.generator.cost import noting_s
from sdk_adapters.harness.generator.generator import run as drive
from sdk_adapters.harness.generator.generator import verdict
from sdk_adapters.harness.generator.pulse import TICK_S, Pulse, watch_lag
from sdk_adapters.harness.generator.watching import Meter, Watching, Window
from sdk_adapters.harness.plan import plan
from sdk_adapters.harness.records import Event, Measured, Second, SessionRecord

pytestmark = pytest.mark.unit

ALWAYS = Window(0.0, 1e12)
LIMITS = {"most_cpu": 0.85, "most_lag_ms": 50.0}


def second(at_s: float, *, process: int = 0, cpu: float = 0.2, lag_ms: float = 3.0) -> Second:
    return Second(process, at_s, 1, 1, 0, 24, 0, 0, 0, cpu, lag_ms)


def run(*seconds: Second) -> Measured:
    return Measured("", (10.0, 110.0), seconds=list(seconds))


async def test_a_loop_that_is_blocked_is_seen_and_makes_the_run_invalid() -> None:
    pulse = Pulse(0, ALWAYS)
    watching = asyncio.create_task(watch_lag(pulse))
    await asyncio.sleep(2 * TICK_S)
    pulse.second((), 10.5)
    time.sleep(0.2)  # noqa: ASYNC251 - what must not happen
    await asyncio.sleep(2 * TICK_S)
    told = pulse.second((), 11.0)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    assert told.lag_ms >= 100.0
    p99_ms = pulse.lags.get_quantile_value(0.99)
    assert p99_ms is not None
    assert p99_ms >= 100.0
    measured = run(told)
    measured.lag_p99_ms[2] = p99_ms
    (reason,) = verdict(measured, **LIMITS)
    assert "process 2" in reason


def test_a_run_within_its_limits_is_valid() -> None:
    assert verdict(run(*(second(at) for at in range(11, 111))), **LIMITS) == []


@pytest.mark.parametrize(("stalls", "late"), [(1, False), (3, True)])
def test_one_short_stall_of_a_long_run_is_forgiven(stalls: int, late: bool) -> None:
    pulse = Pulse(0, ALWAYS)
    for look in range(1200 - 8 * stalls):
        pulse.late_by(0.001, 11.0 + look * TICK_S)
    for stall in range(stalls):
        pulse.late_by(0.4, 80.0 + stall)
    p99_ms = pulse.lags.get_quantile_value(0.99)
    assert p99_ms is not None
    assert (p99_ms > 50.0) is late


def test_what_happens_in_the_warm_up_is_forgiven() -> None:
    assert verdict(run(second(5.0, lag_ms=900.0, cpu=1.0), second(20.0)), **LIMITS) == []
    pulse = Pulse(0, Window(10.0, 20.0))
    pulse.late_by(0.9, 9.0)
    pulse.late_by(0.9, 20.0)
    assert pulse.lags.count == 0


def test_one_busy_process_among_idle_ones_makes_the_run_invalid() -> None:
    seconds = [second(at, process=process) for at in range(11, 111) for process in range(3)]
    seconds += [second(at, process=3, cpu=0.95 if 30 <= at < 42 else 0.1) for at in range(11, 111)]
    (reason,) = verdict(run(*seconds), **LIMITS)
    assert "process 3" in reason


def test_a_process_that_ended_early_makes_the_run_invalid() -> None:
    measured = run(second(20.0))
    measured.events = [Event(15.0, "generator process 1 ended early"), Event(16.0, "kill_actor")]
    assert verdict(measured, **LIMITS) == ["generator process 1 ended early"]


class Member:
    connected, waiting = True, False

    def __init__(self) -> None:
        record = SessionRecord(0, 0, "grpc", "h264", "", live=False, decoded=False, planned_s=0)
        self.watching = Watching(record, Window(0, 1e9), lambda *_: None, lambda _: None)


def test_a_second_counts_what_is_new_also_of_those_who_left() -> None:
    pulse, stays, leaves = Pulse(4, ALWAYS), Member(), Member()
    for each in (stays, leaves):
        each.watching.starts(0.0)
        for number in (0, 1, 4):
            each.watching.frame(1.0 + number, 1, number, 1.0 + number, 1)
    first = pulse.second([stays, leaves], 1.0)
    assert (first.process, first.connected, first.playing) == (4, 2, 2)
    assert (first.frames, first.lost, first.freezes) == (6, 4, 4)
    leaves.watching.frame(6.0, 1, 5, 6.0, 1)
    pulse.leaves(leaves.watching)
    pulse.add("join", 5.0)
    pulse.late += [1.0, 2.0, 3.0]
    last = pulse.second([stays], 2.0)
    assert (last.connected, last.frames, last.lost, last.freezes) == (1, 1, 0, 1)
    assert last.values == {"join": (5.0, 5.0), "frame_lateness": (2.0, pytest.approx(2.9))}
    assert pulse.second([stays], 3.0).values == {}


async def test_a_strict_run_that_would_leave_something_out_is_refused() -> None:
    document = {
        "name": "x",
        "workload": {"arrivals": {"kind": "constant", "per_minute": 1}},
        "load": {"strict": True, "networks": [{"name": "office", "share": 1, "turn_only": True}]},
    }
    # Nothing was asked at that address: it is refused before.
    with pytest.raises(ConfigurationError, match="network office: no TURN server"):
        await drive(plan(scenario.parse(document, "x")), Target(("h:1",)), observe=lambda _: None)


def test_the_cpu_of_a_second_is_of_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_s, at = [5.0], [100.0]
    monkeypatch.setattr(pulses.time, "process_time", lambda: cpu_s[0])
    monkeypatch.setattr(pulses.time, "monotonic", lambda: at[0])
    pulse = Pulse(0, ALWAYS)
    cpu_s[0], at[0] = 5.3, 100.5
    assert pulse.second((), 1.0).cpu == pytest.approx(0.6)
    at[0] = 102.5
    assert pulse.second((), 3.0).cpu == 0.0


def test_what_measuring_costs_is_known() -> None:
    cpu = iter(range(100))
    meter = Meter(lambda: float(next(cpu)))
    record = SessionRecord(0, 0, "grpc", "h264", "", live=False, decoded=False, planned_s=0)
    watching = Watching(record, Window(0, 1e9), lambda *_: None, lambda _: None, meter=meter)
    watching.arrivals += [(1.0, 1, 0, 1.0, 9, 0.0), (1.1, 1, 1, 1.1, 9, 0.0)]
    watching.settle()
    watching.settle()
    assert (meter.spent_s, watching.frames) == (1.0, 2)
    assert 1e-8 < noting_s() < 1e-4


def test_scenarios_without_limits_have_those_of_the_language() -> None:
    document = {"name": "x", "workload": {"arrivals": {"kind": "constant", "per_minute": 1}}}
    limits = scenario.parse(document, "x").load.limits
    assert (limits.generator_cpu, limits.generator_lag_ms) == (0.85, 50.0)
