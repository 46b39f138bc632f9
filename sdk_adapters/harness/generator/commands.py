"""Commands of a session with their times, and the traces of its slowest."""

from __future__ import annotations

import heapq
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace

KEPT: Final = 4
"""Traces of a session that are kept."""


class Slowest:
    """The traces of the slowest commands."""

    def __init__(self) -> None:
        self._kept: list[tuple[float, str]] = []

    def add(self, took_s: float, trace_id: str) -> None:
        """Notes a command."""
        if len(self._kept) < KEPT:
            heapq.heappush(self._kept, (took_s, trace_id))
        else:
            heapq.heappushpop(self._kept, (took_s, trace_id))

    def trace_ids(self) -> list[str]:
        """Returns their traces, slowest first."""
        return [each for _, each in sorted(self._kept, reverse=True)]


@contextmanager
def traced() -> Iterator[str]:
    """Gives what is sent within it a trace of its own; yields the trace's id.

    The span is the caller's, and is exported by nobody: the service's spans hang on it.
    """
    context = trace.SpanContext(
        trace_id=secrets.randbits(128) | 1,
        span_id=secrets.randbits(64) | 1,
        is_remote=False,
        trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
    )
    with trace.use_span(trace.NonRecordingSpan(context)):
        yield f"{context.trace_id:032x}"
