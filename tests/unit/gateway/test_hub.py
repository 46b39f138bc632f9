"""The hub: sessions are created, placed, found again, adopted and ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from gateway import hub as module
from gateway.front_door.routing import WHOLE
from gateway.hub import GatewayHub
from gateway.links import ActorLinks
from gateway.placement import PlacementClient, SchedulerAwayError
from gateway.session import GatewaySession
from sana_gateway.v1 import session_pb2
from scheduler.core.errors import (
    NoCapacityError,
    NotReadyError,
    SessionClosedError,
    UnknownModelError,
    UnknownSessionError,
)
from scheduler.core.ids import Principal
from tests.fakes.gateway_parts import Asked, Ear, FakeLinks, FakePlacement, lease
from tests.fakes.hub import Changes

pytestmark = pytest.mark.unit

ME = Principal("me", frozenset({"session"}))
OTHER = Principal("somebody else", frozenset({"session"}))
WAITING, READY, CLOSED = (
    session_pb2.SESSION_STATUS_WAITING,
    session_pb2.SESSION_STATUS_READY,
    session_pb2.SESSION_STATUS_CLOSED,
)


class Bench:
    """A hub whose scheduler and actors the test plays."""

    def __init__(self) -> None:
        self.placement = FakePlacement()
        self.links = FakeLinks()
        self.ended: list[str] = []
        self.changes = Changes()
        self.hub = GatewayHub(
            cast(PlacementClient, self.placement),
            cast(ActorLinks, self.links),
            max_connections=4,
            on_ended=self._on_ended,
            new_session_id=WHOLE.new_session_id,
        )

    def _on_ended(self, session_id: str) -> None:
        self.ended.append(session_id)
        self.changes.happened()

    async def asked(self, request_id: str = "") -> tuple[asyncio.Task[GatewaySession], Asked]:
        """Begins to create a session; returns the task and what the scheduler is asked."""
        task = asyncio.create_task(self.hub.create(ME, "painter", request_id))
        return task, await self.placement.until_asked(len(self.placement.asked) + 1)

    async def waiting(self) -> tuple[GatewaySession, Asked]:
        """Creates a session that waits in the queue."""
        task, asked = await self.asked()
        asked.queue(1, 4.0)
        return await task, asked

    async def ready(self, address: str = "actor-1") -> GatewaySession:
        """Creates a session that is on its actor."""
        task, asked = await self.asked()
        asked.grant(address)
        session = await task
        await self.opened(session, address)
        return session

    async def opened(self, session: GatewaySession, address: str, *revisions: int) -> None:
        """An actor takes the gateway into a session that it has joined."""
        link = self.links[address]
        await link.changes.until(lambda: session.session_id in link.joined)
        link.open(session.session_id, *revisions)

    async def until_ended(self, session: GatewaySession) -> str:
        await self.changes.until(lambda: session.session_id in self.ended)
        return session.describe().close_reason


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    monkeypatch.setattr(module, "SWEEP_S", 0.01)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.hub.stop("the test is over")


async def test_a_session_is_placed_and_joined(bench: Bench) -> None:
    session = await bench.ready("actor-7")
    assert session.describe().status == READY
    assert bench.links["actor-7"].tokens[session.session_id] == "token for actor-7"
    assert await bench.hub.find(ME, session.session_id) is session


async def test_queue_updates_reach_the_session(bench: Bench) -> None:
    session, asked = await bench.waiting()
    ear = Ear()
    session.connect(ear)
    shown = session.describe()
    assert (shown.status, shown.queue_position) == (WAITING, 1)
    asked.queue(3)
    await ear.changes.until(lambda: ("queued", 3, 0.0) in ear.heard)
    asked.grant()
    await bench.opened(session, "actor-1", 1)
    assert ear.kinds == ["queued", "queued", "ready", "message"]


async def test_repeating_a_request_id_returns_the_same_session(bench: Bench) -> None:
    task, asked = await bench.asked("r1")
    again = asyncio.create_task(bench.hub.create(ME, "painter", "r1"))
    asked.queue(1)
    session = await task
    assert await again is session
    assert await bench.hub.create(ME, "painter", "r1") is session
    assert len(bench.placement.asked) == 1


async def test_a_request_id_belongs_to_its_tenant(bench: Bench) -> None:
    task, asked = await bench.asked("r1")
    asked.queue(1)
    other = asyncio.create_task(bench.hub.create(OTHER, "painter", "r1"))
    (await bench.placement.until_asked(2)).queue(2)
    assert (await other).session_id != (await task).session_id


@pytest.mark.parametrize("error", [UnknownModelError(["painter"]), NoCapacityError("full")])
async def test_a_refused_session_never_was(bench: Bench, error: Exception) -> None:
    task, asked = await bench.asked("r1")
    again = asyncio.create_task(bench.hub.create(ME, "painter", "r1"))
    await asyncio.sleep(0)
    asked.fail(error)
    for each in (task, again):
        with pytest.raises(type(error)):
            await each
    with pytest.raises(UnknownSessionError):
        await bench.hub.find(ME, asked.session_id)
    task, second = await bench.asked("r1")
    second.grant()
    assert (await task).session_id == second.session_id != asked.session_id


async def test_a_ticket_is_handed_in_again_with_the_time_it_has_waited(bench: Bench) -> None:
    session, asked = await bench.waiting()
    asked.fail(SchedulerAwayError("restarting"))
    second = await bench.placement.until_asked(2)
    assert second.session_id == session.session_id
    assert (asked.waited_s, second.waited_s > 0) == (pytest.approx(0, abs=0.01), True)
    second.grant()
    await bench.opened(session, "actor-1")
    assert session.describe().status == READY


async def test_a_service_without_its_scheduler_says_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AWAY_S", -1.0)
    task, asked = await bench.asked()
    asked.fail(SchedulerAwayError("starting"))
    with pytest.raises(NoCapacityError) as caught:
        await task
    assert caught.value.retry_after_s is not None


async def test_a_place_refused_after_waiting_ends_the_session(bench: Bench) -> None:
    session, asked = await bench.waiting()
    ear = Ear()
    session.connect(ear)
    asked.fail(SessionClosedError("the session has ended: by the operator"))
    assert await bench.until_ended(session) == "the session has ended: by the operator"
    assert ear.kinds[-1] == "ended"


async def test_closing_ends_the_session_everywhere_once(bench: Bench) -> None:
    session = await bench.ready()
    ear = Ear()
    session.connect(ear)
    await bench.hub.close(ME, session.session_id, "enough")
    await bench.hub.close(ME, session.session_id, "again")
    assert bench.placement.released == [(session.session_id, "enough")]
    assert ear.heard[-1] == ("ended", "enough")
    assert bench.ended == [session.session_id]
    found = await bench.hub.find(ME, session.session_id)
    assert found.describe().close_reason == "enough", "it is answered for still"


async def test_closing_a_session_that_waits_gives_its_ticket_up(bench: Bench) -> None:
    session, _ = await bench.waiting()
    await bench.hub.close(ME, session.session_id, "enough")
    await bench.placement.changes.until(lambda: bench.placement.given_up == [session.session_id])
    assert bench.links["actor-1"].joined == {}


async def test_closing_a_session_that_is_being_created_ends_the_creation(bench: Bench) -> None:
    task, asked = await bench.asked()
    await bench.hub.close(ME, asked.session_id, "enough")
    with pytest.raises(SessionClosedError):
        await task


async def test_a_session_that_the_scheduler_ended_is_ended_here(bench: Bench) -> None:
    running = asyncio.create_task(bench.hub.run())
    session = await bench.ready()
    ear = Ear()
    session.connect(ear)
    bench.placement.ended(session.session_id, "no client for 30 s")
    bench.placement.ended("never heard of", "whatever")
    assert ear.heard[-1] == ("ended", "no client for 30 s")
    assert bench.ended == [session.session_id]
    assert bench.placement.released == []
    await cancelled(running)


async def test_presence_is_reported_of_placed_and_of_waiting_sessions(bench: Bench) -> None:
    running = asyncio.create_task(bench.hub.run())
    await bench.placement.changes.until(lambda: bench.placement.counts is not dict)
    placed = await bench.ready()
    waiting, _ = await bench.waiting()
    connection, _ = placed.connect(Ear())
    waiting.connect(Ear())
    both = {placed.session_id: 1, waiting.session_id: 1}
    assert dict(bench.placement.counts()) == both, "one that waits may be placed any moment"
    connection.close()
    assert bench.placement.reported == [
        (placed.session_id, 1), (waiting.session_id, 1), (placed.session_id, 0),
    ]  # fmt: skip
    await cancelled(running)


async def test_a_session_made_elsewhere_is_adopted_once_and_with_its_journal(bench: Bench) -> None:
    bench.placement.found["s9"] = lease("s9", "actor-3", ME, "reactor/sana-streaming")
    finding = [asyncio.create_task(bench.hub.find(ME, "s9")) for _ in range(2)]
    link = bench.links["actor-3"]
    await link.changes.until(lambda: "s9" in link.joined)
    link.open("s9", 4, 5)
    one, two = await asyncio.gather(*finding)
    assert one is two
    assert one.principal == ME
    assert one.describe().model == "reactor/sana-streaming"
    assert bench.hub.session_count == 1
    ear = Ear()
    _, gap = one.connect(ear, resume_after=4)
    assert not gap
    assert [message.revision for message in ear.messages] == [5]


async def test_an_adopted_session_whose_actor_takes_its_time_is_given_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "JOIN_S", 0.01)
    bench.placement.found["s9"] = lease("s9", "actor-3", ME, "painter")
    session = await bench.hub.find(ME, "s9")
    assert session.describe().status == WAITING
    assert await bench.hub.find(ME, "s9") is session


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (UnknownSessionError("no"), UnknownSessionError),
        (SchedulerAwayError("away"), UnknownSessionError),
        (SessionClosedError("ended"), SessionClosedError),
        (NotReadyError("waits at its gateway"), NotReadyError),
    ],
)
async def test_what_cannot_be_adopted_is_an_error(
    bench: Bench, answer: Exception, error: type[Exception]
) -> None:
    bench.placement.found["s9"] = answer
    with pytest.raises(error):
        await bench.hub.find(ME, "s9")


async def test_sessions_of_another_tenant_do_not_exist(bench: Bench) -> None:
    mine = await bench.ready()
    ended = await bench.ready()
    await bench.hub.close(ME, ended.session_id, "enough")
    bench.placement.found["s9"] = lease("s9", "actor-3", ME)
    for session_id in (mine.session_id, ended.session_id, "s9"):
        with pytest.raises(UnknownSessionError):
            await bench.hub.find(OTHER, session_id)
        with pytest.raises(UnknownSessionError):
            await bench.hub.close(OTHER, session_id, "mischief")
    assert mine.describe().status == READY
    assert len(bench.placement.released) == 1


async def test_a_ticket_that_nobody_waits_for_is_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, _ = await bench.waiting()
    watched.connect(Ear())
    placed = await bench.ready()
    forgotten, _ = await bench.waiting()
    monkeypatch.setattr(module, "TICKET_S", 0.0)
    running = asyncio.create_task(bench.hub.run())
    assert await bench.until_ended(forgotten) == "nobody took the place in the queue"
    await bench.placement.changes.until(lambda: bench.placement.released)
    assert [session_id for session_id, _ in bench.placement.released] == [forgotten.session_id]
    assert watched.describe().status == WAITING
    assert placed.describe().status == READY
    await cancelled(running)


async def test_a_session_goes_on_at_the_actor_where_it_is_found(bench: Bench) -> None:
    session = await bench.ready("actor-1")
    ear = Ear()
    session.connect(ear)
    bench.placement.found[session.session_id] = lease(session.session_id, "actor-2", ME)
    bench.links["actor-1"].lose()
    await bench.opened(session, "actor-2", 1)
    assert "ended" not in ear.kinds
    assert session.describe().status == READY


async def test_the_search_goes_on_while_scheduler_or_actor_do_not_answer(bench: Bench) -> None:
    session = await bench.ready("actor-1")
    bench.placement.found[session.session_id] = SchedulerAwayError("restarting")
    bench.links["actor-1"].lose()
    await bench.placement.changes.until(lambda: bench.placement.finds >= 2)
    bench.links.dead.add("actor-2")
    bench.placement.found[session.session_id] = lease(session.session_id, "actor-2", ME)
    known = bench.placement.finds
    await bench.placement.changes.until(lambda: bench.placement.finds >= known + 2)
    bench.links.dead.clear()
    await bench.opened(session, "actor-2")


@pytest.mark.parametrize("answer", [UnknownSessionError("no"), SessionClosedError("it ended")])
async def test_a_session_whose_actor_died_ends_with_the_reason(
    bench: Bench, answer: Exception
) -> None:
    session = await bench.ready()
    bench.placement.found[session.session_id] = answer
    bench.links["actor-1"].lose()
    assert await bench.until_ended(session) == "its worker died"


async def test_a_session_that_is_not_found_in_time_is_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await bench.ready()
    monkeypatch.setattr(module, "AWAY_S", -1.0)
    bench.placement.found[session.session_id] = SchedulerAwayError("away")
    bench.links["actor-1"].lose()
    assert await bench.until_ended(session) == "its worker does not answer"
    await bench.placement.changes.until(lambda: bench.placement.released)


async def test_an_actor_that_cannot_be_reached_at_first_is_looked_for(bench: Bench) -> None:
    bench.links.dead.add("actor-1")
    task, asked = await bench.asked()
    asked.grant("actor-1")
    session = await task
    bench.placement.found[session.session_id] = lease(session.session_id, "actor-2", ME)
    await bench.opened(session, "actor-2")


async def test_ended_sessions_are_forgotten_in_the_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENDED_KEPT", 2)
    sessions = [await bench.ready() for _ in range(3)]
    for session in sessions:
        await bench.hub.close(ME, session.session_id, "enough")
    with pytest.raises(UnknownSessionError):
        await bench.hub.find(ME, sessions[0].session_id)
    for session in sessions[1:]:
        assert (await bench.hub.find(ME, session.session_id)).describe().status == CLOSED


async def test_stopping_tells_all_connections_and_leaves_the_sessions_placed() -> None:
    bench = Bench()
    placed, (waiting, _) = await bench.ready(), await bench.waiting()
    ears: list[Any] = []
    for session in (placed, waiting):
        ears.append(Ear())
        session.connect(ears[-1])
    await bench.hub.stop("the gateway is shutting down")
    assert [ear.heard[-1] for ear in ears] == [("ended", "the gateway is shutting down")] * 2
    assert bench.placement.released == []
    assert bench.placement.given_up == [waiting.session_id]
    assert bench.links["actor-1"].joined == {}


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
