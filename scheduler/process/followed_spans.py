"""The spans of sessions that somebody follows, of every process of ours.

An operator who looks at one session is told its spans as they end, whatever share of traces is
sampled and whether or not there is a collector. The scheduler says whose (`follow`), and each
process hands over what ended since (`take`) with the reports that it sends anyway. While nobody
follows nothing is recorded for it, and nothing is kept.

Spans are recorded through OpenTelemetry, by the part of it that `scheduler.process.span_recording`
adds: it is loaded with the first session that is followed.
"""

from __future__ import annotations

import importlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from google.protobuf.timestamp_pb2 import Timestamp
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.util.types import AttributeValue

from sana_gateway.v1 import event_pb2

SESSION: Final = "session.id"
"""Attribute of spans that are a session's; those below them are, too."""
OURS: Final = "sana_gateway"
"""How the names of our tracers begin. Spans of others may hold anything."""
KEPT: Final = 512
"""Spans that wait to be told, of all sessions together; what ends meanwhile is counted."""
CALLS: Final = 256
"""Calls under way of which it is known whose session they are about; the oldest are forgotten."""
_RECORDING: Final = "scheduler.process.span_recording"


class Ended(Protocol):
    """A span that has ended, as the SDK shows it."""

    @property
    def name(self) -> str:
        """What it was."""

    @property
    def context(self) -> trace.SpanContext:
        """Its ids."""

    @property
    def parent(self) -> trace.SpanContext | None:
        """The ids of what it is part of."""

    @property
    def kind(self) -> SpanKind:
        """Its place at a process boundary."""

    @property
    def start_time(self) -> int | None:
        """When it began, in nanoseconds since 1970."""

    @property
    def end_time(self) -> int | None:
        """When it ended."""

    @property
    def attributes(self) -> Mapping[str, AttributeValue] | None:
        """What is known of it."""

    @property
    def status(self) -> Any:  # noqa: ANN401 - of the SDK
        """How it ended."""

    @property
    def instrumentation_scope(self) -> Any:  # noqa: ANN401 - of the SDK
        """Whose tracer made it."""


@dataclass(slots=True)
class _Waiting:
    """Spans of one session that were not told yet."""

    spans: list[event_pb2.TraceSpan] = field(default_factory=list)
    omitted: int = 0


class FollowedSpans:
    """The followed sessions of a process, and their spans. May be used from any thread.

    Args:
        kept: Spans that may wait.
        record: Has this process record spans; called with the first session that is followed.
            None: somebody else sees to that.
    """

    def __init__(
        self, kept: int = KEPT, record: Callable[[FollowedSpans], object] | None = None
    ) -> None:
        self._kept = kept
        self._record = record
        self._lock = threading.Lock()
        self._wanted: dict[object, frozenset[str]] = {}
        self._calls = OrderedDict[int, str]()
        self._waiting: dict[str, _Waiting] = {}
        self.sessions: frozenset[str] = frozenset()
        """Those that are followed."""

    def follow(self, reporter: object, sessions: Iterable[str]) -> None:
        """Follows the sessions that one reporter is asked for, instead of those before.

        Args:
            reporter: Who tells of their spans; a process may have several.
            sessions: Which; none: it tells of none any more.
        """
        with self._lock:
            self._wanted[reporter] = frozenset(sessions)
            if not self._wanted[reporter]:
                del self._wanted[reporter]
            self.sessions = frozenset().union(*self._wanted.values())
            for session in self._waiting.keys() - self.sessions:
                del self._waiting[session]
            if not self.sessions:
                self._calls.clear()
            if self.sessions and self._record is not None:
                # A tenth of a second to load, and streams go on meanwhile.
                threading.Thread(target=self._record, args=(self,), daemon=True).start()
                self._record = None

    def wanted(
        self,
        context: Context | None,
        kind: SpanKind | None,
        attributes: Mapping[str, AttributeValue] | None,
    ) -> str | None:
        """Tells of a span that begins whether it is to be recorded.

        Args:
            context: What it is part of, by default the current one.
            kind: Its place at a process boundary.
            attributes: What is known of it.

        Returns:
            The session that it is about; empty where that is known once it ends, as of calls;
            None: it is not to be recorded.
        """
        sessions = self.sessions
        if not sessions:
            return None
        session = (attributes or {}).get(SESSION)
        if session is None:
            above: Any = trace.get_current_span(context)
            if not above.is_recording():
                return "" if kind is SpanKind.SERVER else None
            session = (above.attributes or {}).get(SESSION)
        return str(session) if session in sessions else None

    def ended(self, span: Ended) -> None:
        """A span has ended that was recorded, for whomever."""
        if not self.sessions or not span.instrumentation_scope.name.startswith(OURS):
            return
        with self._lock:
            session = str((span.attributes or {}).get(SESSION, ""))
            if session:
                self._note_call(span, session)
            else:
                session = self._calls.pop(span.context.span_id, "")
            if session not in self.sessions:
                return
            waiting = self._waiting.setdefault(session, _Waiting())
            if sum(len(each.spans) for each in self._waiting.values()) >= self._kept:
                waiting.omitted += 1
            else:
                waiting.spans.append(_told(span))

    def take(self, reporter: object, role: str, name: str) -> list[event_pb2.TraceSpans]:
        """Returns what waits of the sessions that a reporter is asked for, and forgets it.

        Args:
            reporter: Who.
            role: What it is: `actor`.
            name: Which of these; spans of another role in the same process are not said to be
                its own.
        """
        if not self._waiting:
            return []
        with self._lock:
            sessions = self._wanted.get(reporter, frozenset()) & self._waiting.keys()
            waiting = {session: self._waiting.pop(session) for session in sorted(sessions)}
        for each in waiting.values():
            for span in each.spans:
                made_by = span.name.partition(".")[0]
                span.process = f"{role} {name}".strip() if made_by == role else made_by
        return [
            event_pb2.TraceSpans(session_id=session, spans=each.spans, omitted=each.omitted)
            for session, each in waiting.items()
        ]

    def _note_call(self, span: Ended, session: str) -> None:
        """A call is about the session that what it did was about."""
        if span.kind is SpanKind.SERVER and span.parent is not None:
            self._calls[span.parent.span_id] = session
            if len(self._calls) > CALLS:
                self._calls.popitem(last=False)


class SpanReports:
    """What one reporter of this process tells of spans.

    Args:
        role: What it is: `gateway`, `actor`, `scheduler`.
        name: Which of these.
        followed: Where spans are kept.
    """

    def __init__(self, role: str, name: str = "", followed: FollowedSpans | None = None) -> None:
        self.name = name
        """Which of these."""
        self._role = role
        self._followed = FOLLOWED if followed is None else followed
        self.sessions: tuple[str, ...] = ()
        """The sessions that it is asked for."""

    def follow(self, sessions: Sequence[str]) -> None:
        """Is asked for these sessions from now on, and no others."""
        self.sessions = tuple(sessions)
        self._followed.follow(self, self.sessions)

    def take(self) -> list[event_pb2.TraceSpans]:
        """Returns what ended since the last call, by session."""
        return self._followed.take(self, self._role, self.name) if self.sessions else []


def _record(followed: FollowedSpans) -> None:
    importlib.import_module(_RECORDING).install(followed)


def _told(span: Ended) -> event_pb2.TraceSpan:
    began, over = span.start_time or 0, span.end_time or 0
    at = Timestamp()
    at.FromNanoseconds(began)
    failed = span.status.status_code is StatusCode.ERROR
    # Only the kind: the text of an exception may quote what a user sent.
    error = (span.status.description or "error").partition(":")[0] if failed else ""
    return event_pb2.TraceSpan(
        trace_id=trace.format_trace_id(span.context.trace_id),
        span_id=trace.format_span_id(span.context.span_id),
        parent_id="" if span.parent is None else trace.format_span_id(span.parent.span_id),
        name=span.name,
        begin_time=at,
        duration_us=max(0, over - began) // 1000,
        attributes={
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in (span.attributes or {}).items()
            if name != SESSION
        },
        error=error,
    )


FOLLOWED: Final = FollowedSpans(record=_record)
"""Those of this process."""
