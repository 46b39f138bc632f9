"""Spans of sessions that somebody follows: recorded for it, bounded, told once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.trace import SpanKind

from sana_gateway.v1 import event_pb2
from scheduler.process.followed_spans import FollowedSpans, SpanReports
from scheduler.process.span_recording import (
    FollowedProcessor,
    FollowedSampler,
    FollowingProvider,
)
from scheduler.process.telemetry import context_from, inject

pytestmark = pytest.mark.unit

CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OF_S = {"session.id": "s"}


class Followed(FollowedSpans):
    """Spans whose tracer a test makes."""

    def __init__(self, *sessions: str, kept: int = 100) -> None:
        super().__init__(kept)
        self.reports = SpanReports("actor", "a1", self)
        self.reports.follow(sessions)
        self.tracer = FollowingProvider(self).get_tracer("sana_gateway.actor")

    def told(self) -> list[event_pb2.TraceSpan]:
        return [span for each in self.reports.take() for span in each.spans]

    def names(self) -> list[str]:
        return [span.name for span in self.told()]


class Exporter(SpanProcessor):
    """What would go to a collector."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            self.names.append(span.name)


@pytest.fixture
def exported() -> Iterator[tuple[Followed, Any, Exporter]]:
    """A process that sends the traces that its callers sample."""
    followed, exporter = Followed("s"), Exporter()
    provider = TracerProvider(FollowedSampler(ParentBased(ALWAYS_OFF), followed))
    provider.add_span_processor(exporter)
    provider.add_span_processor(FollowedProcessor(followed))
    yield followed, provider.get_tracer("sana_gateway.actor"), exporter
    provider.shutdown()


def below(span: trace.Span) -> Context:
    return trace.set_span_in_context(span, Context())


def test_a_span_of_a_followed_session_is_told_with_all_below_it() -> None:
    followed = Followed("s")
    attributes = {"session.id": "s", "chunk.index": 7, "booked": True}
    with followed.tracer.start_as_current_span("actor.chunk", attributes=attributes) as chunk:
        stage = followed.tracer.start_span("actor.stage.denoise", below(chunk), start_time=10**18)
        stage.end(10**18 + 2_500_000)
    first, second = followed.told()
    assert (first.name, second.name) == ("actor.stage.denoise", "actor.chunk")
    assert first.trace_id == second.trace_id
    assert first.parent_id == second.span_id
    assert first.duration_us == 2500
    assert first.begin_time.ToNanoseconds() == 10**18
    assert second.attributes == {"chunk.index": "7", "booked": "true"}
    assert (second.process, second.parent_id, second.error) == ("actor a1", "", "")
    assert followed.told() == [], "each is told once"


def test_what_nobody_follows_is_not_recorded_and_passes_its_callers_context_on() -> None:
    followed = Followed("s")
    parent = context_from(CLIENT)
    with followed.tracer.start_as_current_span(
        "actor.command", parent, attributes={"session.id": "another"}
    ) as span:
        assert not span.is_recording()
        assert inject() == CLIENT
    with followed.tracer.start_as_current_span("actor.command", parent, attributes=OF_S) as span:
        assert span.is_recording()
        assert inject().startswith(CLIENT[:36]), "it belongs to the trace of its caller"
        assert inject().endswith("-00"), "and nobody after it is to export it for that"
    assert followed.names() == ["actor.command"]


@pytest.mark.parametrize("sessions", [(), ("another",)])
def test_once_nobody_follows_nothing_is_kept(sessions: Sequence[str]) -> None:
    followed = Followed("s")
    followed.tracer.start_span("actor.chunk", attributes=OF_S).end()
    open_still = followed.tracer.start_span("actor.chunk", attributes=OF_S)
    followed.reports.follow(sessions)
    open_still.end()
    assert not followed.tracer.start_span("actor.chunk", attributes=OF_S).is_recording()
    followed.reports.follow(["s"])
    assert followed.told() == []


def test_what_is_over_the_bound_is_counted() -> None:
    followed = Followed("s", "t", kept=2)
    for session in ("s", "s", "s", "t"):
        followed.tracer.start_span("actor.chunk", attributes={"session.id": session}).end()
    told = {each.session_id: (len(each.spans), each.omitted) for each in followed.reports.take()}
    assert told == {"s": (2, 1), "t": (0, 1)}
    followed.tracer.start_span("actor.chunk", attributes=OF_S).end()
    assert len(followed.told()) == 1, "there is room again"


def test_a_call_is_of_the_session_that_it_was_about() -> None:
    """Who it is about is known once the call has said so, and calls name nobody."""
    followed = Followed("s")
    for name, session in (("gateway.execute", "s"), ("gateway.http", "another")):
        with followed.tracer.start_as_current_span(name, Context(), kind=SpanKind.SERVER):
            parent = context_from(inject())
            followed.tracer.start_span(
                "gateway.command", parent, SpanKind.SERVER, {"session.id": session}
            ).end()
    command, call = followed.told()
    assert (command.name, call.name) == ("gateway.command", "gateway.execute")
    assert command.parent_id == call.span_id


def test_errors_are_told_by_their_kind_alone() -> None:
    followed = Followed("s")
    with (
        pytest.raises(ValueError, match="a red fox"),
        followed.tracer.start_as_current_span("actor.command", attributes=OF_S),
    ):
        raise ValueError("a red fox")
    (span,) = followed.told()
    assert span.error == "ValueError"
    assert "fox" not in str(span)


def test_spans_of_others_may_hold_anything_and_are_not_told() -> None:
    followed = Followed("s")
    provider = FollowingProvider(followed)
    provider.get_tracer("aiohttp").start_span("GET /prompt", attributes=OF_S).end()
    assert followed.told() == []


def test_each_reporter_of_a_process_tells_what_it_is_asked_for_and_none_of_it_twice() -> None:
    followed = Followed("s")
    gateway = SpanReports("gateway", "g1", followed)
    gateway.follow(["s", "t"])
    for name, session in (("actor.chunk", "s"), ("gateway.command", "t")):
        followed.tracer.start_span(name, attributes={"session.id": session}).end()
    assert followed.names() == ["actor.chunk"]
    ((told,),) = [each.spans for each in gateway.take()]
    assert (told.name, told.process) == ("gateway.command", "gateway g1")
    followed.tracer.start_span("actor.chunk", attributes=OF_S).end()
    ((told,),) = [each.spans for each in gateway.take()]
    assert told.process == "actor", "whose it is, the gateway does not know"


def test_what_is_followed_alone_goes_to_no_collector(
    exported: tuple[Followed, Any, Exporter],
) -> None:
    followed, tracer, exporter = exported
    tracer.start_span("followed", attributes=OF_S).end()
    sampled = tracer.start_span("sampled", context_from(CLIENT), attributes=OF_S)
    tracer.start_span("below", below(sampled)).end()
    sampled.end()
    assert followed.names() == ["followed", "below", "sampled"]
    assert exporter.names == ["below", "sampled"]


def test_what_a_collector_gets_is_the_same_whether_or_not_somebody_follows() -> None:
    followed = Followed()
    sampler = FollowedSampler(ALWAYS_ON, followed)
    provider = TracerProvider(sampler)
    provider.add_span_processor(FollowedProcessor(followed))
    span = provider.get_tracer("sana_gateway").start_span("work", attributes=OF_S)
    assert span.get_span_context().trace_flags.sampled
    span.end()
    assert "AlwaysOn" in sampler.get_description()
    assert followed.told() == []


def test_the_first_that_is_followed_has_a_process_record() -> None:
    """Also where no collector is configured, and by tracers that were there before."""
    script = """
from opentelemetry import trace
tracer = trace.get_tracer("sana_gateway.actor")
from scheduler.process.followed_spans import SpanReports
from scheduler.process import telemetry
import sys, time
reports = SpanReports("actor", "a1")
reports.follow([])
assert "opentelemetry.sdk" not in sys.modules
reports.follow(["s"])
told, until = [], time.monotonic() + 60
while not told and time.monotonic() < until:
    time.sleep(0.01)
    tracer.start_span("actor.chunk", attributes={"session.id": "s"}).end()
    told = reports.take()
print([span.name for each in told for span in each.spans])
assert telemetry.shutdown()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "['actor.chunk']", done.stderr
