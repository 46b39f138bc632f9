"""Who follows the spans of a session, and what is told of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing

import pytest

from sana_gateway.v1 import event_pb2
from sana_gateway_internal.v1 import placement_pb2 as pb
from scheduler import event_feed
from scheduler.core.errors import BadArgumentError, LimitError
from scheduler.core.happenings import Happened, Kind
from scheduler.core.ids import Principal, SessionId
from scheduler.event_feed import EventFeed
from scheduler.process.followed_spans import FollowedSpans

pytestmark = pytest.mark.unit

OWNER = Principal("acme", frozenset({"session"}))


class Spans(FollowedSpans):
    """Spans of this process, without a tracer."""

    def take(self, reporter: object, role: str, name: str) -> list[event_pb2.TraceSpans]:
        return [spans(each, f"{role}.place") for each in self.sessions]


class Feed(EventFeed):
    """A journal that remembers what is followed."""

    def __init__(self, own: FollowedSpans | None = None) -> None:
        self.told: list[tuple[str, ...]] = []
        super().__init__(self._watched, self.told.append, spans=own or FollowedSpans())

    def _watched(self, *, watched: bool) -> None:
        raise AssertionError(f"nobody follows chunks: {watched}")

    def watched(self, **asked: object) -> AsyncIterator[pb.WatchEventsResponse]:
        tenant = str(asked.pop("tenant", ""))
        watch = event_pb2.WatchEventsRequest(**asked)  # type: ignore[arg-type]
        return self.watch(pb.WatchEventsRequest(watch=watch, tenant=tenant))


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_feed, "SPANS_EVERY_S", 0.01)


def spans(session: str, *names: str, omitted: int = 0) -> event_pb2.TraceSpans:
    told = [event_pb2.TraceSpan(name=name) for name in names]
    return event_pb2.TraceSpans(session_id=session, spans=told, omitted=omitted)


def recorded(*sessions: event_pb2.TraceSpans) -> pb.RecordedSpans:
    return pb.RecordedSpans(sessions=sessions)


async def names(words: AsyncIterator[pb.WatchEventsResponse], count: int) -> list[str]:
    told: list[str] = []
    async with asyncio.timeout(30):
        while len(told) < count:
            told += [each.name for each in (await anext(words)).word.spans.spans]
    return told


async def test_spans_are_followed_while_somebody_does() -> None:
    feed = Feed()
    async with AsyncExitStack() as readers:
        for session in ("s1", "s2", "s1"):
            words = feed.watched(session_id=session, trace=True)
            await readers.enter_async_context(aclosing(words))  # type: ignore[type-var]
            assert (await anext(words)).word.HasField("started")
        assert feed.told == [("s1",), ("s1", "s2")], "who comes second changes nothing"
        assert feed.followed == ("s1", "s2")
    assert feed.told[-1] == ()


async def test_a_reader_is_told_the_spans_of_its_session_and_no_others() -> None:
    feed = Feed()
    async with aclosing(feed.watched(session_id="s1", trace=True)) as words:  # type: ignore[type-var]
        await anext(words)
        feed.recorded(recorded(spans("s2", "theirs"), spans("s1", "gateway.command")))
        beat = pb.Heartbeat(spans=recorded(spans("s1", "actor.chunk")))
        feed.made("a1", beat)  # type: ignore[arg-type]
        assert await names(words, 2) == ["gateway.command", "actor.chunk"]


async def test_what_the_scheduler_does_itself_is_told_too() -> None:
    feed = Feed(Spans())
    async with aclosing(feed.watched(session_id="s1", trace=True)) as words:  # type: ignore[type-var]
        await anext(words)
        assert await names(words, 1) == ["scheduler.place"]


async def test_a_reader_is_given_no_more_spans_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_feed, "SPANS_KEPT", 2)
    feed = Feed()
    async with aclosing(feed.watched(session_id="s", trace=True)) as words:  # type: ignore[type-var]
        await anext(words)
        feed.recorded(recorded(spans("s", "a", "b", "c", omitted=4)))
        async with asyncio.timeout(30):
            told = (await anext(words)).word.spans
        assert ([each.name for each in told.spans], told.omitted) == (["a", "b"], 5)


async def test_the_events_of_the_session_come_with_its_spans() -> None:
    feed = Feed()
    placed = Happened(Kind.SESSION_PLACED, session=SessionId("s"), owner=OWNER)
    feed.heard(placed)
    told = feed.watched(session_id="s", trace=True, after_sequence=0)
    async with aclosing(told) as words, asyncio.timeout(30):  # type: ignore[type-var]
        assert (await anext(words)).word.HasField("started")
        assert (await anext(words)).word.event.session_id == "s"


async def test_no_more_sessions_are_followed_than_are_affordable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_feed, "MOST_FOLLOWED", 1)
    feed = Feed()
    async with aclosing(feed.watched(session_id="s", trace=True)) as words:  # type: ignore[type-var]
        await anext(words)
        with pytest.raises(LimitError):
            await anext(feed.watched(session_id="another", trace=True))
        async with aclosing(feed.watched(session_id="s", trace=True)) as same:  # type: ignore[type-var]
            assert (await anext(same)).word.HasField("started")


async def test_a_trace_is_of_one_session_and_for_operators() -> None:
    feed = Feed()
    with pytest.raises(BadArgumentError):
        await anext(feed.watched(trace=True))
    async with aclosing(feed.watched(session_id="s", trace=True, tenant="acme")) as words:  # type: ignore[type-var]
        await anext(words)
        assert feed.told == []


async def test_a_reader_that_wants_little_of_much_lets_others_have_their_turn() -> None:
    feed = Feed()
    for number in range(event_feed.AT_ONCE * 4):
        feed.heard(Happened(Kind.SESSION_PLACED, session=SessionId(f"x{number}"), owner=OWNER))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    try:
        words = feed.watched(session_id="s", after_sequence=0)
        async with aclosing(words), asyncio.timeout(30):  # type: ignore[type-var]
            await anext(words)
            coming = asyncio.ensure_future(anext(words))
            await asyncio.sleep(0)
            before = turns
            feed.heard(Happened(Kind.SESSION_PLACED, session=SessionId("s"), owner=OWNER))
            await coming
            assert turns - before >= 3
    finally:
        task.cancel()
