"""The event journal of the scheduler, and who follows it.

The last events are kept in a ring, and each reader has its own place in it: none holds up the
scheduler or another reader, and one that is too slow is told of a gap. Chunks are no part of the
ring, for they are too many: while somebody follows them actors send some with their heartbeats,
and they are passed on once a second. Likewise the spans of single sessions, which all processes
send while somebody follows that session.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from sana_gateway.v1 import event_pb2
from sana_gateway_internal.v1 import placement_pb2
from scheduler.core.errors import BadArgumentError, LimitError
from scheduler.core.happenings import Happened, Kind
from scheduler.core.ids import ActorId, SessionId
from scheduler.core.ring import Ring
from scheduler.placement_metrics import EVENTS
from scheduler.process.followed_spans import FollowedSpans, SpanReports
from scheduler.process.instruments import trace_id_of

KEPT: Final = 16_384
"""Events that are kept: with a thousand sessions that come and go, those of some minutes."""
AT_ONCE: Final = 64
"""Events that a reader takes before others have their turn."""
CHUNKS_EVERY_S: Final = 1.0
"""How often chunks are passed on."""
CHUNKS_KEPT: Final = 256
"""Chunks of an actor that wait for a reader; the rest are counted."""
SPANS_EVERY_S: Final = 0.5
"""How often spans are passed on."""
SPANS_KEPT: Final = 1024
"""Spans that wait for a reader; the rest are counted."""
MOST_FOLLOWED: Final = 8
"""Sessions whose spans are followed at once."""
SESSION_EVENTS: Final = 100
"""Events of one session that are shown with it."""

_KINDS: Final = {kind: event_pb2.EventKind.Value(f"EVENT_KIND_{kind.name}") for kind in Kind}
assert len(_KINDS) == len(event_pb2.EventKind.keys()) - 1  # noqa: S101 - a table that must be complete


class OnWatched(Protocol):
    """Hears whether somebody follows the chunks that are made."""

    def __call__(self, *, watched: bool) -> object:
        """They begin to be followed, or are no more."""


class OnFollowed(Protocol):
    """Hears whose spans are followed."""

    def __call__(self, sessions: tuple[str, ...]) -> object:
        """Those of these sessions are, and no others."""


@dataclass(slots=True)
class _Made:
    """Chunks of one actor, for one reader."""

    chunks: list[event_pb2.ChunkEvent] = field(default_factory=list)
    omitted: int = 0
    clocks: tuple[Timestamp, Timestamp] = field(default_factory=lambda: (Timestamp(), Timestamp()))
    """One moment, by the actor's clock and by ours."""


@dataclass(slots=True, eq=False)
class _Reader:
    """One who follows."""

    wake: asyncio.Event = field(default_factory=asyncio.Event)
    made: dict[str, _Made] | None = None
    """Chunks that wait; None where they are not asked for."""
    spans: event_pb2.TraceSpans | None = None
    """Spans of its session that wait; None where they are not asked for."""

    @property
    def every_s(self) -> float | None:
        """How often it is told of what is no event; None: there is no such thing for it."""
        if self.spans is not None:
            return SPANS_EVERY_S
        return None if self.made is None else CHUNKS_EVERY_S


class EventFeed:
    """Keeps the journal and serves its readers. Used on the scheduler's event loop.

    Args:
        on_watched: Called when chunks begin to be followed (True), or are no more.
        on_followed: Called with the sessions whose spans are followed, when they change.
        clock: Seconds since 1970.
        spans: Keeps those of this process.
    """

    def __init__(
        self,
        on_watched: OnWatched,
        on_followed: OnFollowed = lambda _: None,
        *,
        clock: Callable[[], float] = time.time,
        spans: FollowedSpans | None = None,
    ) -> None:
        self._clock = clock
        self._on_watched = on_watched
        self._on_followed = on_followed
        self._own_spans = SpanReports("scheduler", followed=spans)
        # A million events a second, and the next scheduler still begins above this one.
        self._ring = Ring[placement_pb2.WatchEventsResponse](KEPT, int(clock() * 1e6))
        self._readers: set[_Reader] = set()
        self._traces: dict[SessionId, str] = {}
        """Trace that a session was asked for in."""
        self._closed = False
        self.heard(Happened(Kind.SCHEDULER_STARTED))

    @property
    def sequence(self) -> int:
        """Of the newest event."""
        return self._ring.last

    @property
    def watches_chunks(self) -> bool:
        """Whether somebody follows the chunks that are made."""
        return any(reader.made is not None for reader in self._readers)

    @property
    def followed(self) -> tuple[str, ...]:
        """Sessions whose spans are followed."""
        spans = (reader.spans for reader in self._readers)
        return tuple(sorted({each.session_id for each in spans if each is not None}))

    def traced(self, session: SessionId, traceparent: str) -> None:
        """A session was asked for, in a trace: what becomes of it belongs there."""
        if trace_id := trace_id_of(traceparent):
            self._traces[session] = trace_id

    def untraced(self, session: SessionId) -> None:
        """A session is not to be."""
        self._traces.pop(session, None)

    def heard(self, happened: Happened) -> None:
        """Something happened."""
        word = placement_pb2.WatchEventsResponse()
        event = word.word.event
        now = self._clock()
        event.sequence, event.kind = self._ring.last + 1, _KINDS[happened.kind]
        event.time.CopyFrom(_timestamp(now))
        event.model, event.reason = happened.model, happened.reason
        event.actor_id, event.from_actor_id = happened.actor or "", happened.left or ""
        event.gateway_id = happened.gateway or ""
        if happened.session is not None:
            event.session_id = happened.session
            event.trace_id = self._traces.get(happened.session, "")
        if happened.owner is not None:
            event.tenant = happened.owner.tenant
            word.holders.extend(each.name for each in happened.owner.holders)
        if happened.quality is not None:
            event.rate_share, event.steps = happened.quality.rate, happened.quality.steps
        if happened.kind is Kind.SESSION_RELEASED and happened.session is not None:
            self._traces.pop(happened.session, None)
        self._ring.add(word)
        EVENTS.labels(happened.kind.value).inc()
        self._wake()

    def made(self, actor: ActorId, beat: placement_pb2.Heartbeat) -> None:
        """An actor has told of chunks that it made."""
        self.recorded(beat.spans)
        told = len(beat.chunk_events)
        if not told:
            return
        now = _timestamp(self._clock())
        for reader in self._readers:
            if reader.made is None:
                continue
            made = reader.made.setdefault(actor, _Made())
            made.clocks = (beat.time, now)
            room = max(0, CHUNKS_KEPT - len(made.chunks))
            made.chunks.extend(beat.chunk_events[:room])
            made.omitted += max(0, told - room) + max(0, beat.chunks - told)

    def recorded(self, told: placement_pb2.RecordedSpans) -> None:
        """A process has told of spans of sessions that are followed."""
        for each in told.sessions:
            for reader in self._readers:
                waiting = reader.spans
                if waiting is None or waiting.session_id != each.session_id:
                    continue
                room = max(0, SPANS_KEPT - len(waiting.spans))
                waiting.spans.extend(each.spans[:room])
                waiting.omitted += each.omitted + max(0, len(each.spans) - room)

    def of_session(self, session: str) -> list[event_pb2.Event]:
        """Returns the newest events of a session that are kept, oldest first."""
        own = (
            word.word.event
            for word in self._ring.newest_first()
            if word.word.event.session_id == session
        )
        return list(itertools.islice(own, SESSION_EVENTS))[::-1]

    async def watch(
        self, asked: placement_pb2.WatchEventsRequest
    ) -> AsyncIterator[placement_pb2.WatchEventsResponse]:
        """Follows the journal until the reader leaves, or the scheduler stops.

        Raises:
            BadArgumentError: Spans are asked for, and no session.
            LimitError: Those of too many sessions are followed already.
        """
        watch = asked.watch
        at = watch.after_sequence if watch.HasField("after_sequence") else self._ring.last
        reader = _Reader(made={} if watch.chunks and not asked.tenant else None)
        if watch.trace and not asked.tenant:
            reader.spans = self._followed(watch.session_id)
        self._add(reader)
        try:
            yield _started(at, _timestamp(self._clock()))
            flush_at = self._now() + (reader.every_s or 0.0)
            while not self._closed:
                reader.wake.clear()
                read = self._ring.after(at, AT_ONCE)
                if read.lost_before is not None:
                    yield _gap(at, read.lost_before)
                    at = read.lost_before - 1
                for number, word in read.entries:
                    at = number
                    if _is_wanted(word.word.event, asked):
                        yield word
                if reader.every_s is not None and self._now() >= flush_at:
                    flush_at = self._now() + reader.every_s
                    self.recorded(placement_pb2.RecordedSpans(sessions=self._own_spans.take()))
                    for told in (*_batches(reader.made or {}, watch), *_spans(reader)):
                        yield told
                if at == self._ring.last:
                    await self._sleep(reader, flush_at)
                else:
                    # A reader that wants few of many events would else hold up everybody.
                    await asyncio.sleep(0)
        finally:
            self._remove(reader)

    def close(self) -> None:
        """Ends all readers."""
        self._closed = True
        self._wake()

    async def _sleep(self, reader: _Reader, flush_at: float) -> None:
        """Returns when there may be something to tell."""
        if reader.every_s is None:
            await reader.wake.wait()
            return
        try:
            async with asyncio.timeout_at(flush_at):
                await reader.wake.wait()
        except TimeoutError:
            return

    def _followed(self, session: str) -> event_pb2.TraceSpans:
        """Returns where spans of a session wait for a new reader."""
        if not session:
            raise BadArgumentError("a trace is one session's: session_id is missing")
        if len({*self.followed, session}) > MOST_FOLLOWED:
            raise LimitError(f"the traces of {MOST_FOLLOWED} sessions are followed already")
        return event_pb2.TraceSpans(session_id=session)

    def _add(self, reader: _Reader) -> None:
        watched, followed = self.watches_chunks, self.followed
        self._readers.add(reader)
        self._changed(watched=watched, followed=followed)

    def _remove(self, reader: _Reader) -> None:
        watched, followed = self.watches_chunks, self.followed
        self._readers.discard(reader)
        self._changed(watched=watched, followed=followed)

    def _changed(self, *, watched: bool, followed: tuple[str, ...]) -> None:
        """Tells what is followed now, where that is something else."""
        if self.watches_chunks != watched:
            self._on_watched(watched=not watched)
        if self.followed != followed:
            self._own_spans.follow(self.followed)
            self._on_followed(self.followed)

    def _wake(self) -> None:
        for reader in self._readers:
            reader.wake.set()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _is_wanted(event: event_pb2.Event, asked: placement_pb2.WatchEventsRequest) -> bool:
    watch = asked.watch
    return (
        (not asked.tenant or (event.session_id != "" and event.tenant == asked.tenant))
        and (not watch.session_id or event.session_id == watch.session_id)
        and (not watch.actor_id or watch.actor_id in (event.actor_id, event.from_actor_id))
    )


def _batches(
    made: dict[str, _Made], watch: event_pb2.WatchEventsRequest
) -> Iterator[placement_pb2.WatchEventsResponse]:
    """Takes out the chunks that wait for a reader, an actor at a time."""
    waiting = dict(made)
    made.clear()
    for actor, each in waiting.items():
        if watch.actor_id not in ("", actor):
            continue
        chunks, omitted = each.chunks, each.omitted
        if watch.session_id:
            chunks = [chunk for chunk in chunks if chunk.session_id == watch.session_id]
            if not chunks:
                continue
        told = event_pb2.ChunkEvents(
            actor_id=actor,
            chunks=chunks,
            omitted=omitted,
            actor_time=each.clocks[0],
            heard_time=each.clocks[1],
        )
        yield placement_pb2.WatchEventsResponse(word=event_pb2.WatchEventsResponse(chunks=told))


def _spans(reader: _Reader) -> Iterator[placement_pb2.WatchEventsResponse]:
    """Takes out the spans that wait for a reader."""
    waiting = reader.spans
    if waiting is not None and (waiting.spans or waiting.omitted):
        reader.spans = event_pb2.TraceSpans(session_id=waiting.session_id)
        yield placement_pb2.WatchEventsResponse(word=event_pb2.WatchEventsResponse(spans=waiting))


def _started(at: int, now: Timestamp) -> placement_pb2.WatchEventsResponse:
    started = event_pb2.WatchStarted(sequence=at, time=now)
    return placement_pb2.WatchEventsResponse(word=event_pb2.WatchEventsResponse(started=started))


def _gap(after: int, following: int) -> placement_pb2.WatchEventsResponse:
    gap = event_pb2.EventGap(after_sequence=after, next_sequence=following)
    return placement_pb2.WatchEventsResponse(word=event_pb2.WatchEventsResponse(gap=gap))


def _timestamp(now: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(round(now * 1e6))
    return stamp
