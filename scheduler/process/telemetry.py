"""Distributed tracing, set up in the same way by every process of ours.

Spans go to an OTLP collector over gRPC; without one nothing is recorded, and a span
costs next to nothing. Those of sessions that an operator follows are recorded in either case
(`scheduler.process.followed_spans`). Trace context travels as one W3C `traceparent` string: in the
metadata of public calls and in a field of our internal messages.

Metrics and logs are elsewhere: each process keeps its own instruments, and
`scheduler.process.logging` puts the ids of the current span on every line.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from scheduler.core.errors import ConfigurationError, InvariantError
from scheduler.process.followed_spans import FOLLOWED

QUEUE: Final = 8192
"""Finished spans that wait for export; when full, the oldest are dropped."""
EXPORT_TIMEOUT_S: Final = 5.0
"""How long one export is tried before its spans are given up."""

_W3C: Final = TraceContextTextMapPropagator()
_HEADER: Final = "traceparent"
_TRACER: Final = trace.get_tracer("sana_gateway")


def configure_tracing(
    service: str, endpoint: str | None, *, instance: str, sample_ratio: float = 1.0
) -> None:
    """Sends the spans of this process to a collector. Called once, at start.

    Ray actors call it in their constructor: they share no memory with their maker.

    Args:
        service: `service.name`, for example `sana-gateway-actor`.
        endpoint: OTLP/gRPC address of the collector: `host:port` or `http://host:port` in
            plain text, `https://host:port` with TLS. None or "": nothing is recorded, contexts of
            callers are still passed on.
        instance: `service.instance.id`: tells the processes of one service apart.
        sample_ratio: Share of the traces begun here that is recorded, 0 to 1. Traces begun
            elsewhere follow their own decision.

    Raises:
        ConfigurationError: The ratio is not within 0 to 1.
        InvariantError: Tracing is configured already in this process.
    """
    if not endpoint:
        return
    if not 0.0 <= sample_ratio <= 1.0:
        raise ConfigurationError("the trace sample ratio must lie between 0 and 1")
    # A fifth of what a process takes to start, and others stream while it does.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    from scheduler.process.span_recording import FollowedProcessor, FollowedSampler

    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        raise InvariantError("tracing is configured already in this process")
    provider = TracerProvider(
        sampler=FollowedSampler(ParentBased(TraceIdRatioBased(sample_ratio)), FOLLOWED),
        resource=Resource.create({"service.name": service, "service.instance.id": instance}),
        # `shutdown` has a time limit; the one at interpreter exit has none.
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(
        endpoint=endpoint if "://" in endpoint else f"http://{endpoint}",
        timeout=EXPORT_TIMEOUT_S,
    )
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=QUEUE))
    provider.add_span_processor(FollowedProcessor(FOLLOWED))
    trace.set_tracer_provider(provider)


def shutdown(timeout_s: float = 3.0) -> bool:
    """Exports what is left and stops. Blocks for at most `timeout_s`.

    Returns:
        Whether it finished in time; False means that spans may be lost.
    """
    stop = getattr(trace.get_tracer_provider(), "shutdown", None)
    if stop is None:
        return True
    # The exporter's own limits do not bound the whole, so a thread that may be left does it.
    thread = threading.Thread(target=stop, name="tracing-shutdown", daemon=True)
    thread.start()
    thread.join(timeout_s)
    return not thread.is_alive()


def inject(context: Context | None = None) -> str:
    """Returns the W3C traceparent of a context, by default the current one; "" if it has none."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, context)
    return carrier.get(_HEADER, "")


def context_from(traceparent: str) -> Context:
    """Returns the context that a traceparent names; an empty one for "" or a malformed one."""
    return _W3C.extract({_HEADER: traceparent} if traceparent else {}, Context())


@contextmanager
def span(
    name: str,
    *,
    parent: Context | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Iterator[Span]:
    """Runs a block in a new current span.

    An exception marks the span with its class alone and goes on: the texts of foreign
    exceptions may quote what a user sent.

    Args:
        name: A constant; never anything a user sent.
        parent: Where the span belongs, by default the current context.
        kind: Its place at a process boundary, if any.
        attributes: What to know of it; never user content.
    """
    with _TRACER.start_as_current_span(
        name,
        context=parent,
        kind=kind,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except BaseException as error:
            current.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
