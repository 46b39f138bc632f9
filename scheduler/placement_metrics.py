"""What the scheduler measures of itself."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Histogram

from scheduler.process.instruments import CALL_SECONDS

CALLS: Final = Histogram(
    "sana_gateway_placement_call_seconds",
    "Time to answer a call of a gateway or an actor; the life of one that is a stream.",
    ("method", "code"),
    buckets=CALL_SECONDS,
)
STEPS: Final = Histogram(
    "sana_gateway_scheduler_step_seconds",
    "Time to take in what happened in the pool, draw the conclusions and tell them.",
    buckets=(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1.0),
)
PLACE_WAIT: Final = Histogram(
    "sana_gateway_place_wait_seconds",
    "From asking for a place to having it.",
    buckets=(0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0),
)
REJECTED: Final = Counter(
    "sana_gateway_admissions_rejected",
    "Sessions that were refused a place, by the reason's code.",
    ("reason",),
)
EVENTS: Final = Counter(
    "sana_gateway_events", "Events of the pool's journal, by their kind.", ("kind",)
)
