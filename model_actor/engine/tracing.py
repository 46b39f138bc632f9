"""Traces of commands and chunks.

A command's trace begins at the client and ends with the first packet of the chunk in
which it took effect. Each outward chunk has a span of its own, a child of the newest
command that it answers (else of the session's placement), with a link to the placement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span

from scheduler.process.telemetry import inject

tracer = trace.get_tracer("sana_gateway.actor")

ANSWERED: Final = frozenset({"set_prompt", "start", "resume"})
"""Commands that a chunk answers: their effect ends with its first packet."""


def _nanoseconds(wall: float) -> int:
    return int(wall * 1e9)


@dataclass(frozen=True, slots=True)
class Answers:
    """The commands that take effect in one window."""

    arrived_at: float | None = None
    """When the newest of them came, in seconds of the actor's event loop; None: there are
    none."""
    parent: Context = field(default_factory=Context)
    """The trace of the newest of them that is traced; empty when none is."""


class Unanswered:
    """Accepted commands whose effect is still to be seen, for the next window."""

    def __init__(self) -> None:
        """There are none."""
        self._answers = Answers()

    def add(self, arrived_at: float, span: Span) -> None:
        """A command was accepted.

        Args:
            arrived_at: When it came, in seconds of the actor's event loop.
            span: Its span, whether or not it is recorded.
        """
        parent = (
            trace.set_span_in_context(span, Context())
            if span.is_recording()
            else self._answers.parent
        )
        self._answers = Answers(arrived_at, parent)

    def take(self) -> Answers:
        """Returns what the window that now begins answers; the next one answers later ones."""
        answers, self._answers = self._answers, Answers()
        return answers

    def clear(self) -> None:
        """The run was abandoned: what was asked for will not be seen."""
        self._answers = Answers()


@dataclass(slots=True)
class WindowTiming:
    """When the steps of one window happened, in wall-clock seconds, and what it took."""

    ready_at: float
    dispatched_at: float
    stages: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Begin and end of each stage."""
    compute_s: float = 0.0
    """Seconds that the model took for it, of a batch its share; of several tries the last."""
    spent_s: float = 0.0
    """The same of all tries."""
    batch: int = 1
    """Windows that ran as one call of the model, this one among them; of several tries in the
    last."""


class ChunkSpan:
    """The span of one outward chunk, open until its last frame was shown."""

    def __init__(
        self,
        session_id: str,
        run: int,
        chunk: int,
        frames: int,
        parent: Context,
        links: list[Link],
        timing: WindowTiming,
    ) -> None:
        """Opens the span, backdated to when the chunk's source was ready."""
        self._span = tracer.start_span(
            "actor.chunk",
            context=parent,
            links=links,
            start_time=_nanoseconds(timing.ready_at),
            attributes={
                "session.id": session_id,
                "chunk.run": run,
                "chunk.index": chunk,
                "chunk.frames": frames,
                "chunk.queue_ms": (timing.dispatched_at - timing.ready_at) * 1e3,
            },
        )
        self._encode: list[tuple[float, float]] = []
        self._sent_at: list[float] = []
        self._child("actor.queue", timing.ready_at, timing.dispatched_at)
        for name, (begin, end) in timing.stages.items():
            self._child(f"actor.stage.{name}", begin, end)

    @property
    def traceparent(self) -> str:
        """For the gateway, whose first packet of the chunk is a child of this span."""
        return inject(trace.set_span_in_context(self._span, Context()))

    def encoded(self, begin: float, end: float) -> None:
        """A frame was encoded."""
        self._encode.append((begin, end))

    def sent(self, at: float) -> None:
        """A frame was handed to the gateways' streams."""
        self._sent_at.append(at)

    def end(self, at: float, *, outcome: str = "shown") -> None:
        """Closes the span: the chunk was shown, or abandoned."""
        if self._encode:
            busy_ms = sum(end - begin for begin, end in self._encode) * 1e3
            self._child(
                "actor.encode",
                self._encode[0][0],
                self._encode[-1][1],
                {"encode.busy_ms": busy_ms},
            )
        if self._sent_at:
            self._child("actor.send", self._sent_at[0], self._sent_at[-1])
        self._span.set_attribute("chunk.outcome", outcome)
        self._span.end(_nanoseconds(at))

    def _child(
        self, name: str, begin: float, end: float, attributes: Mapping[str, float] | None = None
    ) -> None:
        span = tracer.start_span(
            name,
            context=trace.set_span_in_context(self._span, Context()),
            start_time=_nanoseconds(begin),
            attributes=dict(attributes or {}),
        )
        span.end(_nanoseconds(max(begin, end)))
