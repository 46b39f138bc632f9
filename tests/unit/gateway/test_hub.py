"""The hub: sessions are created, placed, found again, adopted and ended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway import hub as module
from gateway import seeking
from gateway.placement import SchedulerAwayError
from sana_gateway_internal.v1 import snapshot_pb2, stream_pb2
from scheduler.core.errors import (
    AskedElsewhereError,
    NoCapacityError,
    NotReadyError,
    SessionClosedError,
    UnknownModelError,
    UnknownSessionError,
)
from tests.fakes.gateway_parts import Ear, lease
from tests.unit.gateway.hub_bench import CLOSED, ME, OTHER, READY, WAITING, Bench, cancelled

pytestmark = pytest.mark.unit


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
    assert asked.waited_s == 0, "or a model that is not served would be waited for"
    assert second.waited_s > 0
    second.grant()
    await bench.opened(session, "actor-1")
    assert session.describe().status == READY


async def test_a_service_without_its_scheduler_says_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeking, "AWAY_S", -1.0)
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
    await bench.placement.changes.until(lambda: bench.placement.news)
    bench.placement.news.ended(session.session_id, "no client for 30 s")
    bench.placement.news.ended("never heard of", "whatever")
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
    told = set()
    for session_id in (mine.session_id, ended.session_id, "s9", "never was"):
        with pytest.raises(UnknownSessionError) as unknown:
            await bench.hub.find(OTHER, session_id)
        told.add(str(unknown.value))
        with pytest.raises(UnknownSessionError):
            await bench.hub.close(OTHER, session_id, "mischief")
    assert len(told) == 1, "nobody can tell a session of others from none"
    assert {tenant for _, tenant in bench.placement.sought} == {OTHER.tenant}
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


async def test_a_session_whose_actor_died_is_placed_again_at_once(bench: Bench) -> None:
    session = await bench.ready("actor-1")
    ear = Ear()
    session.connect(ear)
    bench.links["actor-1"].tell(
        session.session_id,
        snapshot=stream_pb2.SnapshotTaken(
            snapshot=snapshot_pb2.ControlSnapshot(epoch=1, host="host-1", revision=4)
        ),
    )
    bench.links["actor-1"].lose()
    asked = await bench.placement.until_asked(2)
    assert (asked.session_id, asked.restore, asked.near_host) == (
        session.session_id, True, "host-1",
    )  # fmt: skip
    asked.queue(1, 2.0)
    await ear.changes.until(lambda: ("queued", 1, 2.0) in ear.heard)
    shown = session.describe()
    assert (shown.status, shown.queue_position) == (READY, 1), "it has had its place"
    asked.grant("actor-2", epoch=2)
    await bench.opened(session, "actor-2", 5)
    (opened,) = bench.links["actor-2"].opens
    assert opened.restore.snapshot.revision == 4
    assert ear.kinds == ["ready", "queued", "message"], "and that is all that clients notice"
    assert session.describe().queue_position == 0


async def test_a_session_is_never_given_up_while_the_scheduler_does_not_say_that_it_ended(
    bench: Bench,
) -> None:
    session = await bench.ready("actor-1")
    bench.links["actor-1"].lose()
    errors = (
        SchedulerAwayError("restarting"),
        UnknownModelError(()),
        NoCapacityError("the queue is full"),
    )
    for number, error in enumerate(errors, start=2):
        (await bench.placement.until_asked(number)).fail(error)
    bench.links.dead.add("actor-2")
    (await bench.placement.until_asked(5)).grant("actor-2", epoch=2)
    asked = await bench.placement.until_asked(6)
    bench.links.dead.clear()
    asked.grant("actor-2", epoch=2)
    await bench.opened(session, "actor-2")
    assert session.describe().status == READY


@pytest.mark.parametrize("answer", [UnknownSessionError("no"), SessionClosedError("it ended")])
async def test_a_session_that_ended_with_its_actor_says_so(bench: Bench, answer: Exception) -> None:
    session = await bench.ready()
    bench.placement.found[session.session_id] = answer
    bench.links["actor-1"].lose()
    (await bench.placement.until_asked(2)).fail(answer)
    assert await bench.until_ended(session) == "its worker died"


async def test_a_session_for_which_another_gateway_asks_is_found_where_that_one_gets_it(
    bench: Bench,
) -> None:
    session = await bench.ready("actor-1")
    bench.placement.found[session.session_id] = NotReadyError("it waits")
    bench.links["actor-1"].lose()
    (await bench.placement.until_asked(2)).fail(AskedElsewhereError("asked for again"))
    await bench.placement.changes.until(lambda: bench.placement.finds >= 2)
    bench.placement.found[session.session_id] = lease(session.session_id, "actor-2", ME, epoch=2)
    await bench.opened(session, "actor-2")
    assert len(bench.placement.asked) == 2


async def test_a_place_that_another_gateway_has_left_is_asked_for_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeking, "OTHERS_S", 0.02)
    session = await bench.ready("actor-1")
    bench.placement.found[session.session_id] = NotReadyError("it waits")
    bench.links["actor-1"].lose()
    (await bench.placement.until_asked(2)).fail(AskedElsewhereError("asked for again"))
    (await bench.placement.until_asked(3)).grant("actor-2", epoch=2)
    await bench.opened(session, "actor-2")


async def test_an_actor_that_says_closed_is_believed_only_with_the_scheduler(
    bench: Bench,
) -> None:
    given_up, over = await bench.ready("actor-1"), await bench.ready("actor-2")
    for session, address in ((given_up, "actor-1"), (over, "actor-2")):
        closed = stream_pb2.Closed(reason="superseded")
        bench.links[address].tell(session.session_id, closed=closed)
    asked = {each.session_id: each for each in [
        await bench.placement.until_asked(3), await bench.placement.until_asked(4)
    ]}  # fmt: skip
    asked[over.session_id].fail(SessionClosedError("closed by the client"))
    assert await bench.until_ended(over) == "superseded"
    asked[given_up.session_id].grant("actor-3", epoch=2)
    await bench.opened(given_up, "actor-3")


async def test_an_actor_that_refuses_is_asked_for_less_and_less(bench: Bench) -> None:
    session = await bench.ready("actor-1")
    bench.links["actor-1"].lose()
    for number in range(2, 5):
        (await bench.placement.until_asked(number)).grant("actor-2", epoch=number)
        link = bench.links["actor-2"]
        await link.changes.until(lambda link=link: session.session_id in link.joined)
        link.tell(session.session_id, refused=stream_pb2.Refused(reason="not here"))
    (await bench.placement.until_asked(5)).grant("actor-2", epoch=5)
    await bench.opened(session, "actor-2")


async def test_an_actor_that_was_lost_and_takes_its_time_is_not_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeking, "DIAL_AGAIN_S", 0.01)
    session = await bench.ready("actor-1")
    bench.links["actor-1"].lose()
    bench.links.hung.add("actor-1")
    (await bench.placement.until_asked(2)).grant("actor-1", epoch=1)
    (await bench.placement.until_asked(3)).grant("actor-2", epoch=2)
    await bench.opened(session, "actor-2")


async def test_an_actor_that_cannot_be_reached_at_first_is_looked_for(bench: Bench) -> None:
    bench.links.dead.add("actor-1")
    task, asked = await bench.asked()
    asked.grant("actor-1")
    session = await task
    (await bench.placement.until_asked(2)).grant("actor-2", epoch=2)
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


async def test_stopping_tells_all_connections_and_leaves_the_sessions_placed(
    bench: Bench,
) -> None:
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
