"""The pool as Prometheus sees it."""

from __future__ import annotations

import pytest
from prometheus_client.registry import CollectorRegistry

from sana_gateway.v1 import pool_pb2
from scheduler.metrics import PoolCollector

pytestmark = pytest.mark.unit

POOL = pool_pb2.DescribePoolResponse(
    actors=[
        pool_pb2.Actor(actor_id="a", model="painter", healthy=True),
        pool_pb2.Actor(actor_id="b", model="painter", healthy=True, draining=True),
        pool_pb2.Actor(actor_id="c", model="simulated", healthy=False, draining=True),
        pool_pb2.Actor(actor_id="d", model="painter", healthy=True),
    ],
    session_counts=[
        pool_pb2.SessionCount(state=pool_pb2.LEASE_STATE_QUEUED, count=1),
        pool_pb2.SessionCount(state=pool_pb2.LEASE_STATE_PARKED, count=2),
    ],
    signals=pool_pb2.PoolSignals(
        queue_age_s=2.5,
        queued=1,
        predicted_utilisation=1.25,
        miss_rate=0.01,
        actors_wanted=5,
        batch_fill=1.5,
    ),
)


def test_signals_actors_and_sessions_are_told() -> None:
    registry = CollectorRegistry()
    registry.register(PoolCollector(lambda: POOL))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"sana_gateway_pool_{name}", labels)

    assert value("queue_age_seconds") == 2.5
    assert value("queued_sessions") == 1
    assert value("predicted_utilisation") == 1.25
    assert value("miss_rate") == 0.01
    assert value("actors_wanted") == 5
    assert value("batch_fill") == 1.5
    assert value("actors", model="painter", state="serving") == 2
    assert value("actors", model="painter", state="draining") == 1
    assert value("actors", model="simulated", state="silent") == 1
    assert value("sessions", state="parked") == 2
    assert value("sessions", state="queued") == 1
    assert value("sessions", state="active") == 0


def test_nothing_is_told_while_the_scheduler_is_away() -> None:
    assert list(PoolCollector(lambda: None).collect()) == []
