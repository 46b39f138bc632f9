"""Reports of load tests that never happened, with something in every part."""

from __future__ import annotations

from typing import Any

from scheduler.scenario.load import Bounds, Slo
from sdk_adapters.harness.records import Event, Footprint, Outcome, Scrape
from sdk_adapters.harness.report.build import Facts, build
from sdk_adapters.harness.report.model import Hardware, LoadReport, Service
from sdk_adapters.harness.slo import judged
from tests.unit.sdk_adapters.load_runs import measured, record, scenario, second

LEVELS = {
    "sessions_active": 1.0,
    "sessions_resident": 2.0,
    "sessions_parked": 0.0,
    "sessions_queued": 0.0,
    "queue_age": 0.0,
    "batch_fill": 1.5,
    "deadline_misses": 0.25,
    "gateway_cpu_per_session": 0.018,
    "loop_lag": 3.0,
}
WAITS = {
    "join": [80.0, 120.0],
    "join_request": [20.0, 30.0],
    "start_to_first_frame": [250.0, 900.0],
    "prompt_to_pixels": [700.0],
    "glass_to_glass": [1400.0],
    "command_ack": [8.0, 40.0],
    "chunk_interval": [1000.0, 1004.0],
    "frame_lateness": [0.5, 9.0],
}


def full(slo: Slo | None = None, **changes: Any) -> LoadReport:
    """A report of three sessions, with charts, events, breakdowns and failures.

    Args:
        slo: What is asked of it.
        changes: Of the run, `load_runs.measured`.
    """
    sessions = (
        record(0, values=WAITS, trace_ids=["a" * 32]),
        record(1, wire="webrtc", live=True, values=WAITS, counts={"freezes": 2, "frozen_s": 0.5}),
        record(2, outcome=Outcome.LOST, failure="actor_lost"),
    )
    pairs = {name: (values[0], values[-1]) for name, values in WAITS.items()}
    fields: dict[str, Any] = {
        "seconds": [second(n + 0.002, values=pairs if n % 3 else {}) for n in range(1, 41)],
        "scrapes": [
            Scrape(float(n), dict(LEVELS), {"gateway": Footprint(200.0 + n, 40)})
            for n in range(0, 40, 2)
        ],
        "events": [Event(20.0, "kill -9 of an actor"), Event(22.5, "drained")],
        **changes,
    }
    facts = Facts(
        service=Service(version="1.2", model="simulated", video="canned", config={"actors": "2"}),
        generator=Hardware(cpu="A CPU", cores=2, memory_gb=8, system="Linux"),
        versions={"python": "3.11"},
        commit="abcdef",
    )
    return judged(build(measured(*sessions, **fields), scenario(), facts), slo or {})


def empty() -> LoadReport:
    """A report of a run to which nobody came, and which nobody watched."""
    return build(measured(seconds=[]), scenario(), Facts())


def bounds(**asked: float) -> Bounds:
    """What is asked of a metric."""
    return Bounds(**asked)
