"""The pool for Prometheus: what operators and autoscalers go by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sana_gateway.v1 import pool_pb2

_PREFIX: Final = "sana_gateway_pool_"
_SIGNALS: Final = {
    "queue_age_seconds": ("queue_age_s", "Time that the first in the queue has waited."),
    "queued_sessions": ("queued", "Sessions that wait for a place."),
    "predicted_utilisation": (
        "predicted_utilisation",
        "Booked share of all compute that may be booked, with those who wait; over 1: short.",
    ),
    "miss_rate": ("miss_rate", "Share of chunks after their deadline, over the last minute."),
    "actors_wanted": ("actors_wanted", "Actors that the present demand needs."),
}
_STATES: Final = {
    value: name.removeprefix("LEASE_STATE_").lower()
    for name, value in pool_pb2.LeaseState.items()
    if value != pool_pb2.LEASE_STATE_UNSPECIFIED
}


class PoolCollector(Collector):
    """The pool as a gateway last heard of it; nothing while the scheduler is away.

    All gateways tell the same, as they ask the same scheduler: take the highest of them.

    Args:
        pool: Returns it.
    """

    def __init__(self, pool: Callable[[], pool_pb2.DescribePoolResponse | None]) -> None:
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        """Returns the signals, the actors by model and state, and the sessions by state."""
        pool = self._pool()
        if pool is None:
            return
        for name, (field, text) in _SIGNALS.items():
            yield GaugeMetricFamily(_PREFIX + name, text, value=getattr(pool.signals, field))
        actors = GaugeMetricFamily(_PREFIX + "actors", "Model actors.", labels=("model", "state"))
        running = Counter((actor.model, _state_of(actor)) for actor in pool.actors)
        for labels, count in sorted(running.items()):
            actors.add_metric(labels, count)
        yield actors
        sessions = GaugeMetricFamily(_PREFIX + "sessions", "Sessions.", labels=("state",))
        leases = Counter(session.state for session in pool.sessions)
        for value, state in _STATES.items():
            sessions.add_metric((state,), leases[value])
        yield sessions


def _state_of(actor: pool_pb2.Actor) -> str:
    if not actor.healthy:
        return "silent"
    return "draining" if actor.draining else "serving"
