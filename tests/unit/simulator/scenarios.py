"""Small scenarios for these tests."""

from __future__ import annotations

from typing import Any

from scheduler.simulator.scenario import Scenario, parse


def small(**changes: Any) -> Scenario:
    """Returns a quarter of an hour of forty sessions on a dozen GPUs, with changes.

    Args:
        changes: Values by their path, parts joined by two underscores.
    """
    document: dict[str, Any] = {
        "name": "small",
        "hours": 0.25,
        "warm_up_minutes": 10,
        "workload": {
            "arrivals": {"kind": "steady", "connected": 40},
            "session_minutes": {"kind": "lognormal", "mean": 6},
            "play_minutes": {"kind": "exponential", "mean": 2},
            "pause_minutes": {"kind": "exponential", "mean": 1.5},
        },
        "pool": {"gpus": 20, "model": {"chunk_ms": 280}},
    }
    for path, value in changes.items():
        *parts, last = path.split("__")
        place = document
        for part in parts:
            place = place.setdefault(part, {})
        place[last] = value
    return parse(document, "a test")
