"""Figures of the pool that decide nothing."""

from __future__ import annotations

import asyncio
import os

import pytest
from prometheus_client.registry import CollectorRegistry

from sana_gateway.v1 import pool_pb2
from sana_gateway_internal.v1 import placement_pb2
from scheduler.metrics import PoolCollector, ProcessInfo
from scheduler.pool_figures import PoolFigures
from scheduler.process.footprint import LAG_KEPT_S, Footprint, LoopLag, process_name

pytestmark = pytest.mark.unit


def beat(process: str = "", **counts: int) -> placement_pb2.Heartbeat:
    figures = pool_pb2.ProcessFigures(process=process, resident_bytes=10, open_descriptors=3)
    return placement_pb2.Heartbeat(process=figures if process else None, **counts)


def pool(*actors: str) -> pool_pb2.DescribePoolResponse:
    return pool_pb2.DescribePoolResponse(
        actors=[pool_pb2.Actor(actor_id=each, model="m", healthy=True) for each in actors]
    )


def test_what_actors_did_is_added_up_whoever_is_left() -> None:
    figures = PoolFigures(Footprint())
    figures.beat("a", beat(chunks=5, late_chunks=1, windows=8, batches=4))
    figures.beat("b", beat(chunks=2, windows=2, batches=2))
    figures.beat("a", beat(chunks=1, late_chunks=1))
    figures.forget("a")
    described = pool("b")
    figures.describe(described)
    signals = described.signals
    assert (signals.chunks, signals.late_chunks) == (8, 2)
    assert (signals.windows, signals.batches) == (10, 6)


def test_each_actor_has_its_process_until_it_is_gone() -> None:
    figures = PoolFigures(Footprint())
    figures.beat("a", beat("h:1:1"))
    figures.beat("b", beat("h:2:1"))
    figures.beat("c", beat())
    figures.forget("b")
    described = pool("a", "b", "c")
    figures.describe(described)
    assert [actor.process.process for actor in described.actors] == ["h:1:1", "", ""]
    assert described.scheduler.process == process_name()


def test_prometheus_sees_every_process_once() -> None:
    described = pool("a", "b")
    described.scheduler.process = "h:1:1"
    for actor, process in zip(described.actors, ("h:1:1", "h:2:1"), strict=True):
        actor.process.MergeFrom(
            pool_pb2.ProcessFigures(
                process=process, resident_bytes=7, open_descriptors=5, cpu_s=2.5, loop_lag_s=0.5
            )
        )
    described.signals.chunks = 12
    registry = CollectorRegistry()
    registry.register(PoolCollector(lambda: described))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"sana_gateway_pool_{name}", labels)

    assert value("chunks_total") == 12
    assert value("process_open_fds", role="actor", process="h:2:1") == 5
    assert value("process_cpu_seconds_total", role="actor", process="h:2:1") == 2.5
    assert value("process_loop_lag_seconds", role="actor", process="h:2:1") == 0.5
    # Scheduler and actor share this one.
    assert value("process_open_fds", role="head", process="h:1:1") is not None
    assert value("process_open_fds", role="actor", process="h:1:1") is None


def test_prometheus_sees_how_many_sessions_compute_and_have_a_place() -> None:
    described = pool("a", "b")
    for actor in described.actors:
        actor.sessions, actor.computing = 4, 3
    registry = CollectorRegistry()
    registry.register(PoolCollector(lambda: described))
    assert registry.get_sample_value("sana_gateway_pool_computing_sessions") == 6
    assert registry.get_sample_value("sana_gateway_pool_resident_sessions") == 8


def test_a_process_says_what_it_is() -> None:
    registry = CollectorRegistry()
    registry.register(ProcessInfo("media_worker"))
    (family,) = registry.collect()
    (sample,) = family.samples
    assert sample.labels["role"] == "media_worker"
    assert sample.labels["process"] == process_name()
    assert sample.labels["version"]


def test_a_footprint_is_that_of_this_process() -> None:
    figures = Footprint().figures()
    assert f":{os.getpid()}:" in figures.process
    assert figures.resident_bytes > 10_000_000
    assert figures.open_descriptors >= 3
    assert figures.cpu_s > 0


def test_descriptors_are_counted_once_a_second() -> None:
    now = 0.0
    footprint = Footprint(clock=lambda: now)
    before = footprint.figures().open_descriptors
    read, write = os.pipe()
    try:
        assert footprint.figures().open_descriptors == before
        now = 1.5
        assert footprint.figures().open_descriptors == before + 2
    finally:
        os.close(read)
        os.close(write)


async def test_the_lag_of_a_loop_that_was_held_up_is_told_for_a_while() -> None:
    loop, lag = asyncio.get_running_loop(), LoopLag()
    measuring = asyncio.create_task(lag.run())
    await asyncio.sleep(0)
    # Blocks the loop past the next timer: what a stall is.
    until = loop.time() + 0.6
    while loop.time() < until:
        pass
    for _ in range(4):
        await asyncio.sleep(0)
    worst = lag.worst_s(loop.time())
    measuring.cancel()
    await asyncio.gather(measuring, return_exceptions=True)
    assert worst >= 0.3
    assert lag.worst_s(loop.time() + LAG_KEPT_S + 1) == 0
