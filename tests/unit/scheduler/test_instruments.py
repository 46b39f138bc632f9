"""Exemplars and queues."""

from __future__ import annotations

from collections import deque

import pytest
from opentelemetry import trace
from prometheus_client.registry import REGISTRY

from scheduler.process.instruments import Queues, exemplar, exemplar_of, trace_id_of

pytestmark = pytest.mark.unit

TRACE = "0af7651916cd43dd8448eb211c80319c"


def context(flags: int) -> trace.SpanContext:
    return trace.SpanContext(
        int(TRACE, 16), 0xB7AD6B7169203331, is_remote=False, trace_flags=trace.TraceFlags(flags)
    )


def test_an_exemplar_is_the_trace_that_is_recorded() -> None:
    assert exemplar() is None
    with trace.use_span(trace.NonRecordingSpan(context(1))):
        assert exemplar() == {"trace_id": TRACE}
    with trace.use_span(trace.NonRecordingSpan(context(0))):
        assert exemplar() is None


def test_an_exemplar_may_be_of_a_trace_of_some_time_ago() -> None:
    assert exemplar_of(f"00-{TRACE}-b7ad6b7169203331-01") == {"trace_id": TRACE}
    assert exemplar_of(f"00-{TRACE}-b7ad6b7169203331-00") is None
    assert exemplar_of("nonsense") is None
    assert trace_id_of(f"00-{TRACE}-b7ad6b7169203331-00") == TRACE
    assert trace_id_of("") == ""


def told(queues: Queues) -> dict[str, float]:
    return {
        f"{sample.name.removeprefix('sana_gateway_queue_')} {sample.labels['queue']}": sample.value
        for family in queues.collect()
        for sample in family.samples
    }


def test_of_the_queues_of_a_kind_the_fullest_is_told_while_it_lives() -> None:
    queues = Queues()
    kind = queues.kind("test_queue", 5)
    queues.kind("never_made", 9)
    first, second = kind.watch(deque([1])), kind.watch(deque([1, 2, 3]))
    assert told(queues) == {"items test_queue": 3, "limit_items test_queue": 5}
    second.clear()
    assert told(queues)["items test_queue"] == 1
    del first
    assert told(queues)["items test_queue"] == 0
    assert queues.kind("test_queue") is kind


def test_a_queue_that_was_full_is_counted_from_zero_on() -> None:
    def count() -> float | None:
        return REGISTRY.get_sample_value(
            "sana_gateway_queue_overflows_total", {"queue": "test_overflow"}
        )

    kind = Queues().kind("test_overflow", 1)
    assert count() is None
    held = kind.watch(deque[int]())
    assert count() == 0
    kind.overflowed()
    assert count() == 1
    assert not held
