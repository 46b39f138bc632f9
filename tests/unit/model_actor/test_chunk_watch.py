"""Chunks that were made, for who follows them."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.registry import REGISTRY

from model_actor.chunk_watch import MOST, ChunkWatch
from model_actor.engine.tracing import WindowTiming
from sana_gateway_internal.v1 import stream_pb2

pytestmark = pytest.mark.unit


def chunk(index: int, first_frame: int = 0) -> stream_pb2.ChunkReady:
    return stream_pb2.ChunkReady(
        session_id="s", run=2, chunk=index, first_frame=first_frame, frames=24, frame_rate=24.0
    )


def made(watch: ChunkWatch, *chunks: stream_pb2.ChunkReady, **changes: Any) -> None:
    timing = WindowTiming(1_800_000_000.0, 1_800_000_000.1, compute_s=0.2, batch=3)
    told: dict[str, Any] = {"late": False, "timing": timing, "slack_s": None}
    watch.made(chunks, **{**told, **changes})


def value(name: str, model: str) -> float:
    return REGISTRY.get_sample_value(f"sana_gateway_{name}", {"model": model}) or 0.0


def test_chunks_are_counted_whether_or_not_anybody_follows() -> None:
    watch = ChunkWatch("counted")
    made(watch, chunk(0), chunk(1))
    made(watch, chunk(2), late=True)
    assert value("chunks_total", "counted") == 3
    assert value("late_chunks_total", "counted") == 1
    assert value("window_wait_seconds_count", "counted") == 2
    assert list(watch.take()) == []


def test_who_follows_is_told_how_each_stood_with_its_deadline() -> None:
    watch = ChunkWatch("followed")
    watch.watch(watched=True)
    made(watch, chunk(0), chunk(1, first_frame=12), slack_s=0.25)
    made(watch, chunk(2), late=True, slack_s=-0.1)
    first, second, third = watch.take()
    assert (first.session_id, first.run, first.chunk) == ("s", 2, 0)
    assert (first.slack_us, second.slack_us) == (250_000, 750_000)
    assert (third.slack_us, third.late, third.compute_us) == (-100_000, True, 200_000)
    assert first.begin_time.ToMilliseconds() == 1_800_000_000_100
    assert (first.wait_us, first.batch) == (100_000, 3)
    assert first.finish_time.seconds > 0
    assert list(watch.take()) == []


def test_no_more_are_told_at_once_than_fit() -> None:
    watch = ChunkWatch("bounded")
    watch.watch(watched=True)
    for index in range(MOST + 5):
        made(watch, chunk(index))
    assert len(list(watch.take())) == MOST


def test_what_waits_goes_with_the_last_who_follows() -> None:
    watch = ChunkWatch("left")
    watch.watch(watched=True)
    made(watch, chunk(0))
    watch.watch(watched=False)
    assert list(watch.take()) == []
