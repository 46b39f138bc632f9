"""Tracing: W3C context in and out, spans without content, and what reaches a collector.

A process sets its tracer provider once and for all, so that whatever configures tracing
runs in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.proto.collector.trace.v1 import (
    trace_service_pb2 as otlp,
)
from opentelemetry.proto.collector.trace.v1 import (
    trace_service_pb2_grpc as otlp_grpc,
)
from opentelemetry.sdk.trace import TracerProvider

from scheduler.core.errors import ConfigurationError
from scheduler.process import telemetry

pytestmark = pytest.mark.unit

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def run(code: str) -> str:
    """Runs code in a process of its own and returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", f"from scheduler.process import telemetry\n{code}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Collector(otlp_grpc.TraceServiceServicer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.requests: list[otlp.ExportTraceServiceRequest] = []

    def Export(  # noqa: N802 - the name in the protocol
        self,
        request: otlp.ExportTraceServiceRequest,
        context: grpc.ServicerContext,
    ) -> otlp.ExportTraceServiceResponse:
        self.requests.append(request)
        return otlp.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, int]]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    servicer = Collector()
    otlp_grpc.add_TraceServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, port
    server.stop(None).wait()


def test_a_traceparent_survives_the_way_in_and_out() -> None:
    assert telemetry.inject(telemetry.context_from(TRACEPARENT)) == TRACEPARENT


@pytest.mark.parametrize("malformed", ["", "00-zz", "hello", TRACEPARENT[:-1], "00-" + "0" * 52])
def test_a_malformed_traceparent_is_no_context(malformed: str) -> None:
    context = telemetry.context_from(malformed)
    assert not trace.get_current_span(context).get_span_context().is_valid


def test_there_is_nothing_to_inject_outside_a_span() -> None:
    assert telemetry.inject(Context()) == ""


def test_without_a_collector_nothing_is_recorded_and_the_context_is_passed_on() -> None:
    telemetry.configure_tracing("service", None, instance="1")
    parent = telemetry.context_from(TRACEPARENT)
    with telemetry.span("work", parent=parent) as span:
        assert not span.is_recording()
        assert telemetry.inject() == TRACEPARENT
    assert telemetry.shutdown()


def test_a_span_marks_an_error_with_its_class_and_keeps_its_text_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telemetry, "_TRACER", TracerProvider().get_tracer("test"))
    with pytest.raises(ValueError, match="a red fox"), telemetry.span("work") as span:
        raise ValueError("a red fox")
    assert span.to_json().count("ValueError") == 1  # type: ignore[attr-defined]
    assert "fox" not in span.to_json()  # type: ignore[attr-defined]


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_spans_reach_the_collector_with_parent_and_resource(
    collector: tuple[Collector, int], scheme: str
) -> None:
    servicer, port = collector
    out = run(
        f"telemetry.configure_tracing('toy', '{scheme}127.0.0.1:{port}', instance='i7')\n"
        f"with telemetry.span('work', parent=telemetry.context_from('{TRACEPARENT}')):\n"
        f"    print(telemetry.inject())\n"
        f"assert telemetry.shutdown(30)\n"
    )
    (request,) = servicer.requests
    (resource_spans,) = request.resource_spans
    resource = {pair.key: pair.value.string_value for pair in resource_spans.resource.attributes}
    (span,) = resource_spans.scope_spans[0].spans
    assert resource["service.name"] == "toy"
    assert resource["service.instance.id"] == "i7"
    assert span.name == "work"
    assert span.parent_span_id.hex() == TRACEPARENT.split("-")[2]
    assert out.strip() == f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01"


def test_a_trace_the_caller_does_not_record_is_not_recorded_here(
    collector: tuple[Collector, int],
) -> None:
    servicer, port = collector
    run(
        f"telemetry.configure_tracing('toy', '127.0.0.1:{port}', instance='i7')\n"
        f"parent = telemetry.context_from('{TRACEPARENT[:-2]}00')\n"
        f"with telemetry.span('work', parent=parent) as span:\n"
        f"    assert not span.is_recording()\n"
        f"assert telemetry.shutdown(30)\n"
    )
    assert servicer.requests == []


def test_shutdown_returns_in_time_when_the_collector_never_answers() -> None:
    out = run(
        "import socket\n"
        "silent = socket.create_server(('127.0.0.1', 0))\n"
        "endpoint = '127.0.0.1:%d' % silent.getsockname()[1]\n"
        "telemetry.configure_tracing('toy', endpoint, instance='i7')\n"
        "with telemetry.span('work'):\n"
        "    pass\n"
        "print(telemetry.shutdown(0.05))\n"
    )
    assert out.strip() == "False"


def test_tracing_is_configured_once_in_a_process() -> None:
    run(
        "from scheduler.core.errors import InvariantError\n"
        "telemetry.configure_tracing('toy', '127.0.0.1:1', instance='i7')\n"
        "try:\n"
        "    telemetry.configure_tracing('toy', '127.0.0.1:1', instance='i7')\n"
        "except InvariantError:\n"
        "    pass\n"
        "else:\n"
        "    raise SystemExit('accepted twice')\n"
        "telemetry.shutdown(5)\n"
    )


def test_a_sample_ratio_outside_0_to_1_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        telemetry.configure_tracing("toy", "127.0.0.1:1", instance="i7", sample_ratio=1.5)
