"""What a service exposes of itself, and the levels between two moments."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import generate_latest

from sana_gateway.v1 import pool_pb2
from scheduler.metrics import PoolCollector, ProcessInfo
from sdk_adapters.harness.exposed import Exposed, between, of_metrics, of_pool
from sdk_adapters.harness.metrics import METRICS

pytestmark = pytest.mark.unit

ACTOR = pool_pb2.ProcessFigures(
    process="host:7:1", resident_bytes=900_000_000, open_descriptors=40, cpu_s=3.0
)
SCHEDULER = pool_pb2.ProcessFigures(
    process="host:8:1", resident_bytes=100_000_000, open_descriptors=20, cpu_s=1.0
)


def pool(**signals: float) -> pool_pb2.DescribePoolResponse:
    """Two sessions on one actor, one of them computing, one parked, three queued."""
    return pool_pb2.DescribePoolResponse(
        actors=[
            pool_pb2.Actor(
                actor_id="a", model="m", healthy=True, sessions=2, computing=1, process=ACTOR
            )
        ],
        sessions=[pool_pb2.PooledSession(session_id="p", state=pool_pb2.LEASE_STATE_PARKED)],
        session_counts=[pool_pb2.SessionCount(state=pool_pb2.LEASE_STATE_PARKED, count=1)],
        signals=pool_pb2.PoolSignals(**{"queued": 3, "queue_age_s": 1.5, **signals}),
        scheduler=SCHEDULER,
    )


LEVELS = {
    "sessions_active": 1,
    "sessions_resident": 2,
    "sessions_parked": 1,
    "sessions_queued": 3,
    "queue_age": 1.5,
}


def gateway(described: pool_pb2.DescribePoolResponse | None) -> str:
    """What a gateway of the pool exposes."""
    registry = CollectorRegistry()
    registry.register(PoolCollector(lambda: described))
    registry.register(ProcessInfo("gateway"))
    return generate_latest(registry).decode()


def own(
    *, worker: str = "", cpu_s: float = 1.0, rss: float = 5e7, fds: int = 9, began: float = 100.0
) -> str:
    """What the client library tells of a process."""
    label = f'{{worker="{worker}"}}' if worker else ""
    return "".join(
        f"# TYPE {name} gauge\n{name}{label} {value}\n"
        for name, value in (
            ("process_cpu_seconds_total", cpu_s),
            ("process_resident_memory_bytes", rss),
            ("process_open_fds", fds),
            ("process_start_time_seconds", began),
        )
    )


def test_the_metrics_of_a_gateway_tell_of_the_pool_and_its_processes() -> None:
    exposed = of_metrics({"h:1": gateway(pool()) + own()}, 5.0)
    assert exposed.levels == LEVELS
    assert exposed.version
    assert exposed.processes["host:7:1"].rss_mb == 900
    assert exposed.processes["host:8:1"].descriptors == 20
    assert {each.rss_mb for each in exposed.processes.values()} == {900, 100, 50}


def test_a_description_of_the_pool_tells_the_same() -> None:
    exposed = of_pool(pool(), 5.0)
    assert exposed.levels == LEVELS
    assert exposed.processes.keys() == {"host:7:1", "host:8:1"}


def test_all_levels_are_metrics() -> None:
    assert of_metrics({"h:1": gateway(pool())}, 5.0).levels.keys() <= METRICS.keys()


def test_several_gateways_tell_of_one_pool() -> None:
    texts = {"h:1": gateway(pool()) + own(), "h:2": gateway(None)}
    assert of_metrics(texts, 5.0).levels == LEVELS


def test_workers_are_processes_of_their_own() -> None:
    text = own(worker="front_door") + own(worker="0", began=7) + own(worker="1", began=8)
    assert len(of_metrics({"h:1": text}, 5.0).processes) == 3


def test_what_cannot_be_read_is_passed_over() -> None:
    assert of_metrics({"h:1": "<html>{{{\n"}, 5.0).levels == {}


def exposed_at(at_s: float, *, cpu_s: float, **signals: float) -> Exposed:
    return of_metrics({"h:1": gateway(pool(**signals)) + own(cpu_s=cpu_s)}, at_s)


def test_shares_are_of_what_was_done_meanwhile() -> None:
    before = exposed_at(10.0, cpu_s=1.0, chunks=100, late_chunks=50, windows=100, batches=100)
    now = exposed_at(14.0, cpu_s=1.8, chunks=140, late_chunks=51, windows=140, batches=120)
    levels = between(before, now)
    assert levels["deadline_misses"] == pytest.approx(1 / 40)
    assert levels["batch_fill"] == pytest.approx(2.0)
    assert levels["gateway_cpu_per_session"] == pytest.approx(0.8 / 4 / 2)
    assert levels["queue_age"] == 1.5


def test_where_nothing_was_done_nothing_is_said() -> None:
    before = exposed_at(10.0, cpu_s=1.0, chunks=7, windows=7, batches=7)
    levels = between(before, exposed_at(14.0, cpu_s=1.0, chunks=7, windows=7, batches=7))
    assert not {"deadline_misses", "batch_fill", "loop_lag"} & levels.keys()


def test_a_scheduler_that_began_anew_counts_from_there() -> None:
    before = exposed_at(10.0, cpu_s=1.0, chunks=1000, late_chunks=10)
    now = exposed_at(14.0, cpu_s=1.0, chunks=20, late_chunks=5)
    assert between(before, now)["deadline_misses"] == pytest.approx(0.25)


def test_a_gateway_that_began_anew_is_another_process() -> None:
    before = of_metrics({"h:1": gateway(pool()) + own(worker="0", cpu_s=50, began=1)}, 10.0)
    now = of_metrics({"h:1": gateway(pool()) + own(worker="0", cpu_s=2, began=9)}, 12.0)
    assert "gateway_cpu_per_session" not in between(before, now)


def test_lag_is_of_what_was_seen_meanwhile() -> None:
    registry = CollectorRegistry()
    lag = Histogram(
        "sana_gateway_loop_lag_seconds", "Lag.", buckets=(0.01, 0.1, 1.0), registry=registry
    )

    def exposed(at_s: float) -> Exposed:
        return of_metrics({"h:1": generate_latest(registry).decode()}, at_s)

    for _ in range(50):
        lag.observe(0.9)
    before = exposed(1.0)
    for _ in range(100):
        lag.observe(0.001)
    calm = exposed(2.0)
    for _ in range(10):
        lag.observe(0.05)
    late = exposed(3.0)
    lag.observe(70.0)
    assert between(before, calm)["loop_lag"] == pytest.approx(9.9)
    assert between(calm, late)["loop_lag"] == pytest.approx(99.1)
    assert between(late, exposed(4.0))["loop_lag"] == 1000
    assert "loop_lag" not in between(late, late)
