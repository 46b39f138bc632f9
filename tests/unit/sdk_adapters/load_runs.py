"""Runs of the load harness that never happened."""

from __future__ import annotations

from typing import Any

from scheduler.scenario.scenario import Scenario, parse
from sdk_adapters.harness.records import Measured, Outcome, Second, SessionRecord

MEASURED_S = (10.0, 40.0)


def scenario(**changes: Any) -> Scenario:
    """A scenario of 30 s after a warm-up of 10 s."""
    document = {
        "name": "made-up",
        "summary": "Nobody came.",
        "duration": 30,
        "warm_up": 10,
        "workload": {"crowds": [{"at": 0, "sessions": 2}]},
        **changes,
    }
    return parse(document, "made-up")


def record(number: int = 0, **changes: Any) -> SessionRecord:
    """A session that showed 480 frames in 20 s of the measured time."""
    counts = {
        "frames_shown": 480.0,
        "frames_lost": 0.0,
        "frames_repeated": 0.0,
        "freezes": 0.0,
        "frozen_s": 0.0,
        "playing_s": 20.0,
        "bytes": 1e6,
    }
    counts.update(changes.pop("counts", {}))
    values: dict[str, list[float]] = changes.pop("values", {"command_ack": [10.0, 20.0, 30.0]})
    fields: dict[str, Any] = {
        "process": 0,
        "wire": "grpc",
        "codec": "h264",
        "network": "clean",
        "live": False,
        "decoded": False,
        "planned_s": 12.0,
        "began_s": 12.001,
        "ended_s": 35.0,
        "session_id": f"session-{number}",
        "outcome": Outcome.COMPLETED,
        **changes,
    }
    made = SessionRecord(number=number, counts=counts, **fields)
    for metric, each in values.items():
        for value in each:
            made.add(metric, value)
    return made


def second(at_s: float, process: int = 0, **changes: Any) -> Second:
    """A second of a process that has little to do."""
    fields: dict[str, Any] = {
        "connected": 2,
        "playing": 1,
        "waiting": 0,
        "frames": 24,
        "lost": 0,
        "freezes": 0,
        "failures": 0,
        "cpu": 0.2,
        "lag_ms": 1.0,
        **changes,
    }
    return Second(process=process, at_s=at_s, **fields)


def measured(*sessions: SessionRecord, **changes: Any) -> Measured:
    """A run with these sessions."""
    fields: dict[str, Any] = {
        "began_at": "2026-11-23T00:00:00.000+00:00",
        "measured_s": MEASURED_S,
        "sessions": list(sessions),
        "seconds": [second(number + 0.002) for number in range(1, 41)],
        **changes,
    }
    return Measured(**fields)
