"""What a gateway asks the scheduler for operators, and who is told what of the journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest

from gateway import operations, placement
from gateway.auth import OPERATOR, SESSION, Access
from gateway.operations import Operations
from gateway.placement import PlacementClient, SchedulerAwayError
from sana_gateway.v1 import event_pb2, pool_pb2
from sana_gateway_internal.v1 import placement_pb2 as pb
from sana_gateway_internal.v1 import placement_pb2_grpc
from scheduler.core.errors import ForbiddenError, LimitError, RequestError, UnknownSessionError
from scheduler.core.ids import Grant, Holder, Principal
from scheduler.placement_status import status_of

pytestmark = pytest.mark.unit

ADMIN = Principal("ops", frozenset({OPERATOR}))
ACME = Principal("acme", frozenset({SESSION}))


def event(
    sequence: int, session: str = "", holders: Sequence[str] = (), **others: Any
) -> pb.WatchEventsResponse:
    told = event_pb2.Event(
        sequence=sequence, session_id=session, tenant="acme" if session else "", **others
    )
    return pb.WatchEventsResponse(
        word=event_pb2.WatchEventsResponse(event=told), holders=list(holders)
    )


def started(sequence: int) -> pb.WatchEventsResponse:
    word = event_pb2.WatchEventsResponse(started=event_pb2.WatchStarted(sequence=sequence))
    return pb.WatchEventsResponse(word=word)


class Scheduler(placement_pb2_grpc.PlacementServicer):
    """Tells what a test says, once for each time that it is asked."""

    def __init__(self) -> None:
        self.words: list[list[pb.WatchEventsResponse]] = []
        self.asked: list[pb.WatchEventsRequest] = []
        self.released: list[pb.ReleaseRequest] = []
        self.refusal: RequestError | None = None
        self.came = asyncio.Event()
        """Set once somebody follows the journal."""

    async def WatchEvents(  # noqa: N802 - named by the contract
        self, request: pb.WatchEventsRequest, context: Any
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        self.asked.append(request)
        self.came.set()
        if self.refusal is not None:
            await context.abort(*status_of(self.refusal))
        for word in self.words.pop(0) if self.words else ():
            yield word
        if not self.words:
            await asyncio.Event().wait()
        # It stops in the middle.
        await context.abort(grpc.StatusCode.UNAVAILABLE, "away")

    async def DescribeSession(  # noqa: N802 - named by the contract
        self, request: pb.DescribeSessionRequest, context: Any
    ) -> pb.DescribeSessionResponse:
        if request.session_id != "s":
            await context.abort(*status_of(UnknownSessionError("there is no such session")))
        session = pool_pb2.PooledSession(session_id="s", tenant="acme")
        return pb.DescribeSessionResponse(session=pool_pb2.DescribeSessionResponse(session=session))

    async def Release(  # noqa: N802 - named by the contract
        self, request: pb.ReleaseRequest, context: Any
    ) -> pb.ReleaseResponse:
        self.released.append(request)
        return pb.ReleaseResponse()


class Bench:
    """Operations over a scripted scheduler."""

    def __init__(self, scheduler: Scheduler, client: PlacementClient) -> None:
        self.scheduler = scheduler
        self.operations = Operations(client, Access(lambda: pool_pb2.DescribePoolResponse()))

    async def told(
        self, principal: Principal, words: int, **asked: Any
    ) -> list[event_pb2.WatchEventsResponse]:
        """Follows the journal for some words."""
        watching = self.operations.watch(principal, event_pb2.WatchEventsRequest(**asked), "grpc")
        async with asyncio.timeout(30):
            told = [await anext(watching) for _ in range(words)]
        await watching.aclose()  # type: ignore[attr-defined]
        return told


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(placement, "FIRST_RETRY_S", 0.01)
    server, scheduler = grpc.aio.server(), Scheduler()
    placement_pb2_grpc.add_PlacementServicer_to_server(scheduler, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = PlacementClient(f"127.0.0.1:{port}", "g")
    made = Bench(scheduler, client)
    yield made
    made.operations.stop()
    await client.close()
    await server.stop(0)


async def test_an_operator_is_told_everything(bench: Bench) -> None:
    bench.scheduler.words = [[started(4), event(5, actor_id="a1"), event(6, "s", actor_id="a1")]]
    told = await bench.told(ADMIN, 3, chunks=True)
    assert [word.event.actor_id for word in told] == ["", "a1", "a1"]
    (asked,) = bench.scheduler.asked
    assert (asked.tenant, asked.watch.chunks) == ("", True)


async def test_a_tenant_is_told_of_its_own_and_of_no_actors(bench: Bench) -> None:
    bench.scheduler.words = [
        [started(4), event(6, "s", ["key:k"], actor_id="a1", from_actor_id="a2", gateway_id="g")]
    ]
    _, word = await bench.told(ACME, 2)
    assert word.event.session_id == "s"
    assert (word.event.actor_id, word.event.from_actor_id, word.event.gateway_id) == ("", "", "")
    assert bench.scheduler.asked[0].tenant == "acme"


@pytest.mark.parametrize(
    ("grant", "reached"),
    [
        (Grant(sessions=frozenset({"s2"})), ["s2"]),
        (Grant(sessions=frozenset(), own="token:t"), ["s3"]),
        (Grant(models=(frozenset({"painter"}),)), ["s2"]),
        (Grant(), ["s1", "s2", "s3"]),
    ],
)
async def test_a_token_is_told_of_no_more_sessions_than_it_may_use(
    bench: Bench, grant: Grant, reached: list[str]
) -> None:
    bench.scheduler.words = [
        [
            started(0),
            event(1, "s1", ["key:k"], model="other"),
            event(2, "s2", ["key:k"], model="painter"),
            event(3, "s3", ["key:k", "token:t"], model="other"),
        ]
    ]
    principal = Principal("acme", frozenset({SESSION}), (Holder("key:k"),), grant)
    told = await bench.told(principal, 1 + len(reached))
    assert [word.event.session_id for word in told[1:]] == reached


@pytest.mark.parametrize(
    "asked", [{"chunks": True}, {"actor_id": "a1"}, {"session_id": "s", "trace": True}]
)
async def test_chunks_actors_and_traces_are_for_operators(
    bench: Bench, asked: dict[str, Any]
) -> None:
    with pytest.raises(ForbiddenError):
        await bench.told(ACME, 1, **asked)
    assert bench.scheduler.asked == []


async def test_what_the_scheduler_refuses_is_not_asked_again(bench: Bench) -> None:
    bench.scheduler.refusal = LimitError("the traces of 8 sessions are followed already")
    with pytest.raises(LimitError):
        await bench.told(ADMIN, 1, session_id="s", trace=True)
    assert len(bench.scheduler.asked) == 1


async def test_it_goes_on_where_it_was_when_the_scheduler_comes_back(bench: Bench) -> None:
    bench.scheduler.words = [[started(4), event(5)], [started(5), event(6)]]
    told = await bench.told(ADMIN, 4)
    assert [word.event.sequence for word in told] == [0, 5, 0, 6]
    assert [each.watch.after_sequence for each in bench.scheduler.asked] == [0, 5]
    assert not bench.scheduler.asked[0].watch.HasField("after_sequence")


async def test_no_more_follow_at_once_than_may(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "MOST_WATCHERS", 1)
    bench.scheduler.words = [[started(0)], [started(0)]]
    first = bench.operations.watch(ADMIN, event_pb2.WatchEventsRequest(), "grpc")
    await anext(first)
    with pytest.raises(LimitError):
        await bench.told(ADMIN, 1)
    await first.aclose()  # type: ignore[attr-defined]
    assert await bench.told(ADMIN, 1)


async def test_who_follows_is_let_go_when_the_gateway_stops(bench: Bench) -> None:
    bench.scheduler.words = [[started(0)]]
    watching = bench.operations.watch(ADMIN, event_pb2.WatchEventsRequest(), "grpc")
    await anext(watching)
    waiting = asyncio.ensure_future(anext(watching, None))
    await asyncio.sleep(0)
    bench.operations.stop()
    async with asyncio.timeout(30):
        assert await waiting is None


async def test_who_leaves_is_not_held(bench: Bench) -> None:
    bench.scheduler.words = [[started(0)]]

    async def follow() -> None:
        async for _ in bench.operations.watch(ADMIN, event_pb2.WatchEventsRequest(), "grpc"):
            pass

    following = asyncio.create_task(follow())
    await bench.scheduler.came.wait()
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following


async def test_a_session_is_ended_with_its_reason(bench: Bench) -> None:
    await bench.operations.end("s", "maintenance")
    (released,) = bench.scheduler.released
    assert (released.session_id, released.reason) == ("s", "maintenance")


async def test_a_session_that_is_unknown_is_not_ended(bench: Bench) -> None:
    with pytest.raises(UnknownSessionError):
        await bench.operations.end("x", "maintenance")
    assert bench.scheduler.released == []


async def test_a_scheduler_that_is_away_is_said_so() -> None:
    client = PlacementClient("127.0.0.1:9", "g")
    access = Access(lambda: None)
    with pytest.raises(SchedulerAwayError):
        await Operations(client, access).end("s", "maintenance")
    await client.close()
