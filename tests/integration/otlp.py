"""An OTLP receiver in the test's own process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2


@dataclass(frozen=True)
class Received:
    """One span, and the service that sent it."""

    service: str
    span: trace_pb2.Span

    @property
    def name(self) -> str:
        return self.span.name

    @property
    def trace(self) -> bytes:
        return self.span.trace_id

    @property
    def links(self) -> set[bytes]:
        """Traces that it links to."""
        return {link.trace_id for link in self.span.links}

    def attribute(self, key: str) -> object:
        """Returns an attribute; None when it has none of that name."""
        for pair in self.span.attributes:
            if pair.key == key:
                return getattr(pair.value, pair.value.WhichOneof("value"))
        return None


class OtlpReceiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Collects what processes export."""

    def __init__(self) -> None:
        self._spans: list[Received] = []
        self._changed = threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Export(  # noqa: N802 - the generated name
        self, request: trace_service_pb2.ExportTraceServiceRequest, _: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        with self._changed:
            for resource in request.resource_spans:
                named = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
                for scope in resource.scope_spans:
                    self._spans += [Received(named["service.name"], span) for span in scope.spans]
            self._changed.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self) -> list[Received]:
        """Returns what has come so far."""
        with self._changed:
            return list(self._spans)

    def wait(self, condition: Callable[[list[Received]], bool], timeout: float = 20.0) -> None:
        """Returns once a condition on all spans holds.

        Raises:
            TimeoutError: It does not; the text names the spans that came.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self._spans), timeout):
                names = sorted({span.name for span in self._spans})
                raise TimeoutError(f"spans so far: {', '.join(names)}")

    def close(self) -> None:
        """Stops."""
        self._server.stop(0)
