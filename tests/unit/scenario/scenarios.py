"""Small scenarios for these tests."""

from __future__ import annotations

from typing import Any

from scheduler.scenario.scenario import Scenario, parse


def small(**changes: Any) -> Scenario:
    """Returns a quarter of an hour of forty sessions on a dozen GPUs, with changes.

    Args:
        changes: Values by their path, parts joined by two underscores.
    """
    document: dict[str, Any] = {
        "name": "small",
        "duration": "15m",
        "warm_up": "10m",
        "workload": {
            "arrivals": {"kind": "steady", "connected": 40},
            "session": {"kind": "lognormal", "mean": "6m"},
            "play": {"kind": "exponential", "mean": "2m"},
            "pause": {"kind": "exponential", "mean": "1.5m"},
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
