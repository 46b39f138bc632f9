"""Log lines: their shape, the ids of the span, and that content never gets through."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from scheduler.process.logging import CONTENT_KEYS, REMOVED, configure_logging

pytestmark = pytest.mark.unit


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the lines go; the logging of the test run is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_level_time_and_service(stream: io.StringIO) -> None:
    configure_logging("info", service="sana-gateway-actor", stream=stream)
    structlog.get_logger().info("session opened", session_id="s1", chunk=3)
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "session opened",
        "level": "info",
        "service": "sana-gateway-actor",
        "session_id": "s1",
        "chunk": 3,
    }


def test_lines_below_the_level_are_dropped(stream: io.StringIO) -> None:
    configure_logging("warning", stream=stream)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_the_ids_of_the_current_span_are_on_the_line(stream: io.StringIO) -> None:
    configure_logging(stream=stream)
    span = TracerProvider().get_tracer("test").start_span("work")
    with trace.use_span(span):
        structlog.get_logger().info("inside")
    structlog.get_logger().info("outside")
    inside, outside = lines(stream)
    context = span.get_span_context()
    assert inside["trace_id"] == trace.format_trace_id(context.trace_id)
    assert inside["span_id"] == trace.format_span_id(context.span_id)
    assert "trace_id" not in outside


@pytest.mark.parametrize("key", sorted(CONTENT_KEYS))
def test_the_value_of_a_content_key_is_dropped(stream: io.StringIO, key: str) -> None:
    configure_logging(stream=stream)
    structlog.get_logger().info("event", **{key: "a red fox"})
    (line,) = lines(stream)
    assert line[key] == REMOVED
    assert "fox" not in stream.getvalue()


def test_content_is_dropped_inside_mappings_and_lists(stream: io.StringIO) -> None:
    configure_logging(stream=stream)
    structlog.get_logger().info(
        "event", command={"prompt": "a red fox", "seed": 7}, commands=[{"data": "fox"}, b"fox"]
    )
    (line,) = lines(stream)
    assert line["command"] == {"prompt": REMOVED, "seed": 7}
    assert "fox" not in stream.getvalue()


def test_bytes_and_pictures_are_dropped_under_any_key(stream: io.StringIO) -> None:
    configure_logging(stream=stream)
    structlog.get_logger().info("event", rest=b"fox", frame=np.zeros((2, 2), np.uint8))
    (line,) = lines(stream)
    assert line["rest"] == REMOVED
    assert line["frame"] == REMOVED


def test_a_number_under_a_content_key_is_an_index_and_stays(stream: io.StringIO) -> None:
    configure_logging(stream=stream)
    structlog.get_logger().info("event", frame=17)
    assert lines(stream)[0]["frame"] == 17


def test_the_callers_own_objects_are_left_as_they_are(stream: io.StringIO) -> None:
    configure_logging(stream=stream)
    command = {"prompt": "a red fox"}
    structlog.get_logger().info("event", command=command)
    assert command == {"prompt": "a red fox"}


def test_a_traceback_shows_no_local_variables(stream: io.StringIO) -> None:
    configure_logging(stream=stream)
    for json_lines in (True, False):
        configure_logging(stream=stream, json=json_lines)
        prompt = "a red " + "fox"
        try:
            int(prompt[:1])
        except ValueError:
            structlog.get_logger().exception("failed")
    assert stream.getvalue().count("ValueError: invalid literal") == 2
    assert "a red fox" not in stream.getvalue()


def test_libraries_are_heard_from_warning_on_in_the_same_shape(stream: io.StringIO) -> None:
    configure_logging("debug", stream=stream)
    library = logging.getLogger("some.library")
    library.info("chatter")
    library.warning("trouble with %s", "ice")
    (line,) = lines(stream)
    assert line["event"] == "trouble with ice"
    assert line["logger"] == "some.library"
    assert line["level"] == "warning"


def test_a_terminal_gets_readable_lines(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "isatty", lambda: True)
    configure_logging(stream=stream)
    structlog.get_logger().info("session opened", session_id="s1")
    assert "session opened" in stream.getvalue()
    with pytest.raises(json.JSONDecodeError):
        lines(stream)
