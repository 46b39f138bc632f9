"""The event journal and its readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client.registry import REGISTRY

from sana_gateway.v1 import event_pb2
from sana_gateway_internal.v1 import placement_pb2 as pb
from scheduler import event_feed
from scheduler.core.happenings import Happened, Kind
from scheduler.core.ids import ActorId, Holder, Principal, SessionId
from scheduler.core.quality import Quality
from scheduler.event_feed import EventFeed

pytestmark = pytest.mark.unit

OWNER = Principal("acme", frozenset({"session"}), (Holder("key:k1"), Holder("token:t1")))
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def placed(session: str, owner: Principal = OWNER) -> Happened:
    return Happened(
        Kind.SESSION_PLACED,
        session=SessionId(session),
        owner=owner,
        model="painter",
        actor=ActorId("a1"),
        quality=Quality(0.5, 2),
    )


class Feed(EventFeed):
    """A journal whose clock a test holds."""

    def __init__(self) -> None:
        self.watched: list[bool] = []
        super().__init__(self._note, clock=lambda: 1_800_000_000.5)

    def _note(self, *, watched: bool) -> None:
        self.watched.append(watched)


@asynccontextmanager
async def reading(
    feed: EventFeed, tenant: str = "", **asked: object
) -> AsyncIterator[AsyncIterator[event_pb2.WatchEventsResponse]]:
    """Follows a journal; yields its words as they come."""
    watch = event_pb2.WatchEventsRequest(**asked)  # type: ignore[arg-type]

    async def words(
        source: AsyncIterator[pb.WatchEventsResponse],
    ) -> AsyncIterator[event_pb2.WatchEventsResponse]:
        async for each in source:
            yield each.word

    request = pb.WatchEventsRequest(watch=watch, tenant=tenant)
    async with aclosing(feed.watch(request)) as source, asyncio.timeout(30):  # type: ignore[type-var]
        yield words(source)


async def take(words: AsyncIterator[event_pb2.WatchEventsResponse], count: int) -> list[str]:
    """Reads so many words; returns what each is, and of which session."""
    told = []
    for _ in range(count):
        word = await anext(words)
        kind = word.WhichOneof("response") or ""
        told.append(f"{kind} {word.event.session_id}".strip())
    return told


def beat(chunks: Iterable[str], made: int) -> pb.Heartbeat:
    events = [event_pb2.ChunkEvent(session_id=each) for each in chunks]
    return pb.Heartbeat(chunks=made, chunk_events=events, time=Timestamp(seconds=1_700_000_000))


async def test_an_event_says_all_that_is_known_and_nobodys_secrets() -> None:
    feed = Feed()
    feed.traced(SessionId("s"), TRACEPARENT)
    feed.heard(placed("s"))
    (event,) = feed.of_session("s")
    assert event.sequence == feed.sequence
    assert event.time.ToMilliseconds() == 1_800_000_000_500
    assert event.kind == event_pb2.EVENT_KIND_SESSION_PLACED
    assert (event.tenant, event.model, event.actor_id) == ("acme", "painter", "a1")
    assert (event.rate_share, event.steps) == (0.5, 2)
    assert event.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert "key:k1" not in str(event)


async def test_the_trace_of_a_session_is_forgotten_with_it() -> None:
    feed = Feed()
    feed.traced(SessionId("s"), TRACEPARENT)
    feed.heard(Happened(Kind.SESSION_RELEASED, session=SessionId("s"), owner=OWNER))
    feed.heard(placed("s"))
    assert [event.trace_id != "" for event in feed.of_session("s")] == [True, False]


async def test_a_reader_is_told_from_now_on_and_as_it_happens() -> None:
    feed = Feed()
    feed.heard(placed("before"))
    async with reading(feed) as words:
        assert await take(words, 1) == ["started"]
        coming = asyncio.ensure_future(take(words, 2))
        await asyncio.sleep(0)
        feed.heard(placed("s1"))
        feed.heard(placed("s2"))
        assert await coming == ["event s1", "event s2"]


async def test_a_reader_learns_what_time_it_is_by_the_clock_of_events() -> None:
    async with reading(Feed()) as words:
        assert (await anext(words)).started.time.ToMilliseconds() == 1_800_000_000_500


async def test_a_reader_comes_back_to_where_it_was() -> None:
    feed = Feed()
    for session in ("s1", "s2", "s3"):
        feed.heard(placed(session))
    async with reading(feed, after_sequence=feed.sequence - 1) as words:
        assert await take(words, 2) == ["started", "event s3"]
    async with reading(feed, after_sequence=0) as words:
        # The first of all is that the scheduler began.
        assert await take(words, 5) == ["started", "event", "event s1", "event s2", "event s3"]


async def test_a_slow_reader_is_told_of_a_gap_and_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_feed, "KEPT", 3)
    feed = Feed()
    async with reading(feed) as slow, reading(feed) as quick:
        assert await take(slow, 1) == await take(quick, 1) == ["started"]
        at = feed.sequence
        for number in range(5):
            feed.heard(placed(f"s{number}"))
            assert await take(quick, 1) == [f"event s{number}"]
        gap = (await anext(slow)).gap
        assert (gap.after_sequence, gap.next_sequence) == (at, at + 3)
        assert await take(slow, 3) == ["event s2", "event s3", "event s4"]


async def test_a_reader_of_the_scheduler_before_is_told_of_a_gap() -> None:
    feed = Feed()
    async with reading(feed, after_sequence=feed.sequence - 1_000_000) as words:
        assert await take(words, 3) == ["started", "gap", "event"]


async def test_a_tenant_is_told_of_its_own_sessions_alone() -> None:
    feed = Feed()
    other = Principal("other", frozenset())
    async with reading(feed, tenant="acme", chunks=True) as words:
        assert await take(words, 1) == ["started"]
        feed.heard(placed("theirs", other))
        feed.heard(Happened(Kind.ACTOR_LOST, actor=ActorId("a1")))
        feed.heard(placed("ours"))
        assert await take(words, 1) == ["event ours"]
    # Chunks are not followed for tenants.
    assert feed.watched == []


async def test_a_reader_may_want_one_session_or_one_actor() -> None:
    feed = Feed()
    moved = Happened(
        Kind.SESSION_MOVED,
        session=SessionId("s3"),
        owner=OWNER,
        actor=ActorId("a2"),
        left=ActorId("a9"),
    )
    for happened in (placed("s1"), placed("s2"), moved):
        feed.heard(happened)
    async with reading(feed, after_sequence=0, session_id="s2") as words:
        assert await take(words, 2) == ["started", "event s2"]
    async with reading(feed, after_sequence=0, actor_id="a9") as words:
        assert await take(words, 2) == ["started", "event s3"]


async def test_chunks_are_followed_while_somebody_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_feed, "CHUNKS_EVERY_S", 0.01)
    feed = Feed()
    feed.made(ActorId("a1"), beat(["early"], 1))
    async with reading(feed, chunks=True) as words, reading(feed) as others:
        assert await take(words, 1) == await take(others, 1) == ["started"]
        assert feed.watched == [True]
        feed.made(ActorId("a1"), beat(["s1", "s2"], 5))
        feed.made(ActorId("a2"), beat(["s3"], 1))
        told = {each.actor_id: each for each in [(await anext(words)).chunks for _ in range(2)]}
        assert [each.session_id for each in told["a1"].chunks] == ["s1", "s2"]
        assert (told["a1"].omitted, told["a2"].omitted) == (3, 0)
        # One moment by both clocks: times of chunks are of the actor's.
        assert told["a1"].actor_time.ToMilliseconds() == 1_700_000_000_000
        assert told["a1"].heard_time.ToMilliseconds() == 1_800_000_000_500
    assert feed.watched == [True, False]


async def test_a_reader_is_given_no_more_chunks_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_feed, "CHUNKS_EVERY_S", 0.01)
    monkeypatch.setattr(event_feed, "CHUNKS_KEPT", 2)
    feed = Feed()
    async with reading(feed, chunks=True) as words:
        assert await take(words, 1) == ["started"]
        feed.made(ActorId("a1"), beat(["s1", "s2", "s3"], 3))
        chunks = (await anext(words)).chunks
        assert (len(chunks.chunks), chunks.omitted) == (2, 1)


async def test_readers_end_with_the_scheduler() -> None:
    feed = Feed()
    async with reading(feed) as words:
        assert await take(words, 1) == ["started"]
        feed.close()
        assert await anext(words, None) is None


async def test_events_are_counted_by_their_kind() -> None:
    def count() -> float:
        labels = {"kind": "session_placed"}
        return REGISTRY.get_sample_value("sana_gateway_events_total", labels) or 0.0

    before = count()
    Feed().heard(placed("s"))
    assert count() == before + 1
