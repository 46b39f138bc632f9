"""Structured logs: one JSON object a line on standard error, or colours on a terminal.

Every line carries the ids of the current span. Lines of libraries that use the standard
`logging` pass through the same chain, from WARNING up. User content has no place in a
log; should a call hand some over under one of the usual names, the value is dropped.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Literal, TextIO

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger

Level = Literal["debug", "info", "warning", "error"]

CONTENT_KEYS: Final = frozenset(
    {
        "prompt", "current_prompt", "active_prompt", "text",
        "name", "file_name", "filename", "mime_type",
        "data", "payload", "body", "packet", "frame", "frames", "image",
        "sdp", "offer", "answer",
        "token", "authorization", "api_key", "secret", "password",
    }
)  # fmt: skip
"""Keys whose values are user content or secrets. Plain numbers under them are let through:
`frame=17` is an index."""
REMOVED: Final = "<removed>"
"""What stands in the place of a dropped value."""

_NUMBERS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_least = logging.INFO
_HARMLESS: Final = (bool, int, float, type(None))
_BINARY: Final = (bytes, bytearray, memoryview)


def configure_logging(
    level: Level = "info",
    *,
    json: bool | None = None,
    service: str = "",
    stream: TextIO | None = None,
) -> None:
    """Sets up structlog and the standard `logging` of this process. Called once, at start.

    Args:
        level: The least level of our own lines. Those of libraries start at WARNING.
        json: One JSON object a line; by default unless the stream is a terminal.
        service: Stands on every line as `service`.
        stream: Where to write, by default standard error.
    """
    out = sys.stderr if stream is None else stream
    if json is None:
        json = not out.isatty()
    set_level(level)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Constant(service),
        add_trace_ids,
        refuse_content,
    ]
    render = _renderers(json=json, colors=not json and out.isatty())
    structlog.configure(
        processors=[drop_lower, *shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger("debug"),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def set_level(level: Level) -> None:
    """Changes the least level of our own lines, also of loggers that are in use."""
    global _least
    _least = _NUMBERS[level]


def drop_lower(_: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Drops lines below the least level."""
    if _NUMBERS.get(method, logging.CRITICAL) < _least:
        raise structlog.DropEvent
    return event


def add_trace_ids(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Adds `trace_id` and `span_id` of the current span, in hexadecimal, if there is one."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event


def refuse_content(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Drops values under `CONTENT_KEYS`, and bytes anywhere, also inside mappings and lists.

    This is a safety net: the rule is that no call passes them.
    """
    _clean(event)
    return event


def _clean(mapping: MutableMapping[str, Any]) -> None:
    for key, value in mapping.items():
        if isinstance(value, _HARMLESS):
            continue
        if key in CONTENT_KEYS or isinstance(value, _BINARY):
            mapping[key] = REMOVED
        elif isinstance(value, (Mapping, list, tuple)):
            mapping[key] = _cleaned(value)


def _cleaned(value: Any) -> Any:  # noqa: ANN401 - whatever a caller logs
    if isinstance(value, Mapping):
        copy = dict(value)
        _clean(copy)
        return copy
    if isinstance(value, (list, tuple)):
        return [_cleaned(item) for item in value]
    return REMOVED if isinstance(value, _BINARY) else value


class _Constant:
    """Adds the service's name to every line, when there is one."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        if self._service:
            event["service"] = self._service
        return event


def _renderers(*, json: bool, colors: bool) -> list[Processor]:
    if not json:
        # The plain traceback: the rich one shows local variables, which hold frames and prompts.
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
