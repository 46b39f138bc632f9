"""Has OpenTelemetry record the spans of followed sessions; loaded only where that is needed.

Where traces go to a collector, followed spans that the ratio leaves out are recorded beside it
and not sent there. Where none is configured only they are recorded: every other span stays what
it is without tracing, one that costs nothing and passes its caller's context on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, Span, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from scheduler.process.followed_spans import SESSION, FollowedSpans

_NOTHING: Final = trace.NoOpTracer()


class FollowedSampler(Sampler):
    """Records what another sampler does, and the spans of followed sessions.

    Args:
        base: The other one.
        followed: The sessions.
    """

    def __init__(self, base: Sampler, followed: FollowedSpans) -> None:
        self._base = base
        self._followed = followed

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decides about one span."""
        base = self._base.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )
        session = self._followed.wanted(parent_context, kind, attributes)
        if session is None:
            return base
        # Not sampled: what is only recorded goes to no collector.
        left_out = base.decision is Decision.DROP
        decision = Decision.RECORD_ONLY if left_out else base.decision
        told = {**(attributes or {}), SESSION: session} if session else attributes
        return SamplingResult(decision, told, base.trace_state)

    def get_description(self) -> str:
        """Says what it does."""
        return f"Followed{{{self._base.get_description()}}}"


class FollowedProcessor(SpanProcessor):
    """Hands over the spans of followed sessions when they end."""

    def __init__(self, followed: FollowedSpans) -> None:
        self._followed = followed

    def on_end(self, span: ReadableSpan) -> None:
        """A span has ended."""
        self._followed.ended(span)


class FollowingProvider(trace.TracerProvider):
    """Makes tracers that record followed spans, and no others.

    Args:
        followed: The sessions.
    """

    def __init__(self, followed: FollowedSpans) -> None:
        self._followed = followed
        self._sdk = TracerProvider(
            sampler=FollowedSampler(ALWAYS_OFF, followed), shutdown_on_exit=False
        )
        self._sdk.add_span_processor(FollowedProcessor(followed))

    def get_tracer(self, *arguments: Any, **named: Any) -> trace.Tracer:  # noqa: ANN401 - as the SDK's
        """Returns a tracer."""
        return _FollowingTracer(self._sdk.get_tracer(*arguments, **named), self._followed)


class _FollowingTracer(trace.Tracer):
    """Records what is followed with one tracer, and leaves the rest to one that does nothing."""

    def __init__(self, recording: trace.Tracer, followed: FollowedSpans) -> None:
        self._recording = recording
        self._followed = followed

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        *others: Any,  # noqa: ANN401 - passed on
        **named: Any,  # noqa: ANN401 - passed on
    ) -> Span:
        tracer = self._of(context, kind, attributes)
        return tracer.start_span(name, context, kind, attributes, *others, **named)

    @contextmanager
    def start_as_current_span(  # type: ignore[override]  # ours decorate nothing
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        *others: Any,  # noqa: ANN401 - passed on
        **named: Any,  # noqa: ANN401 - passed on
    ) -> Iterator[Span]:
        tracer = self._of(context, kind, attributes)
        with tracer.start_as_current_span(
            name, context, kind, attributes, *others, **named
        ) as span:
            yield span

    def _of(self, context: Context | None, kind: SpanKind, attributes: Attributes) -> trace.Tracer:
        wanted = self._followed.wanted(context, kind, attributes)
        return _NOTHING if wanted is None else self._recording


def install(followed: FollowedSpans) -> None:
    """Has this process record followed spans; where a collector is configured, it does already."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(FollowingProvider(followed))
