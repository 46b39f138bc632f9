"""The hub: sessions are parked, woken, moved and copied."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway import hub as module
from gateway import seeking
from gateway.session import GatewaySession
from sana_gateway.v1 import command_pb2, media_pb2, message_pb2, pool_pb2
from sana_gateway_internal.v1 import placement_pb2, snapshot_pb2, stream_pb2
from scheduler.core.errors import (
    BadArgumentError,
    CommandRefusedError,
    NoCapacityError,
    NotReadyError,
    SessionClosedError,
    UnknownSessionError,
)
from tests.fakes.gateway_parts import Ear, lease
from tests.unit.gateway.hub_bench import ME, OTHER, READY, Bench, cancelled

pytestmark = pytest.mark.unit


async def heard(bench: Bench) -> Any:
    """Waits until the scheduler can tell news; returns to whom."""
    await bench.placement.changes.until(lambda: bench.placement.news)
    return bench.placement.news


@pytest.fixture
async def news(bench: Bench) -> AsyncIterator[Any]:
    running = asyncio.create_task(bench.hub.run())
    yield await heard(bench)
    await cancelled(running)


def parked(
    session: GatewaySession, epoch: int, host: str, *, restoring: bool = False
) -> placement_pb2.SessionParked:
    """What the scheduler says of a session that is on no actor."""
    return placement_pb2.SessionParked(
        session_id=session.session_id, epoch=epoch, host=host, restoring=restoring
    )


async def test_a_session_whose_actor_the_scheduler_gave_up_is_placed_at_once(
    bench: Bench, news: Any
) -> None:
    session = await bench.ready("actor-1")
    news.parked(parked(session, 1, "host-3", restoring=True))
    assert bench.links["actor-1"].left == [session.session_id]
    asked = await bench.placement.until_asked(2)
    assert (asked.restore, asked.near_host) == (True, "host-3")
    news.parked(parked(session, 1, "host-3", restoring=True))
    asked.grant("actor-2", epoch=2)
    await bench.opened(session, "actor-2")
    assert len(bench.placement.asked) == 2


async def test_a_parked_session_stays_ready_and_a_command_brings_it_back(
    bench: Bench, news: Any
) -> None:
    session, ear = await bench.ready("actor-1"), Ear()
    connection, _ = session.connect(ear)
    news.parked(parked(session, 1, "host-3"))
    assert bench.links["actor-1"].left == [session.session_id]
    assert session.describe().status == READY
    assert len(bench.placement.asked) == 1, "nobody needs it"
    connection.command(command_pb2.Command(command_id="c1", pause=command_pb2.Pause()))
    asked = await bench.placement.until_asked(2)
    assert (asked.restore, asked.near_host) == (True, "host-3")
    asked.grant("actor-2", epoch=2)
    await bench.opened(session, "actor-2")
    sent = bench.links["actor-2"].of("command")
    assert [each.command.command_id for each in sent] == ["c1"]
    assert "ended" not in ear.kinds


@pytest.mark.parametrize("need", ["connection", "viewer", "keyframe", "camera", "upload"])
async def test_whoever_needs_a_parked_session_brings_it_back(
    bench: Bench, news: Any, need: str
) -> None:
    session = await bench.ready("actor-1")
    connection, _ = session.connect(Ear())
    watched = connection.subscribe([media_pb2.CODEC_H264], Ear())
    news.parked(parked(session, 1, ""))
    assert len(bench.placement.asked) == 1
    if need == "connection":
        session.connect(Ear())
    elif need == "viewer":
        connection.subscribe([media_pb2.CODEC_VP8], Ear())
    elif need == "keyframe":
        watched.request_keyframe()
    elif need == "camera":
        connection.claim_camera()
    else:
        bench.hub.upload_completed(session.session_id)
    assert (await bench.placement.until_asked(2)).restore


async def test_a_session_that_is_parked_while_a_command_is_on_its_way_comes_back(
    bench: Bench, news: Any
) -> None:
    session = await bench.ready("actor-1")
    connection, _ = session.connect(Ear())
    connection.command(command_pb2.Command(command_id="c1", pause=command_pb2.Pause()))
    news.parked(parked(session, 1, ""))
    await bench.placement.until_asked(2)


async def test_word_of_an_older_lease_that_was_parked_is_no_news(bench: Bench, news: Any) -> None:
    session = await bench.ready("actor-1")
    bench.links["actor-1"].lose()
    (await bench.placement.until_asked(2)).grant("actor-2", epoch=2)
    await bench.opened(session, "actor-2")
    news.parked(parked(session, 1, ""))
    assert session.session_id in bench.links["actor-2"].joined
    assert not session.is_parked


async def test_a_parked_session_that_is_not_kept_any_more_ends(bench: Bench, news: Any) -> None:
    session = await bench.ready("actor-1")
    news.parked(parked(session, 1, ""))
    session.connect(Ear())
    (await bench.placement.until_asked(2)).fail(SessionClosedError("too long ago"))
    assert await bench.until_ended(session) == "it was parked and is not kept any more"


@pytest.mark.parametrize("state", [pool_pb2.LEASE_STATE_PARKED, pool_pb2.LEASE_STATE_LOST])
async def test_a_session_that_another_gateway_left_on_no_actor_is_adopted_and_placed(
    bench: Bench, state: pool_pb2.LeaseState.ValueType
) -> None:
    bench.placement.found["s9"] = NotReadyError("it is on no actor")
    bench.placement.pool.sessions.add(session_id="s9", tenant="me", state=state)
    finding = asyncio.create_task(bench.hub.find(ME, "s9"))
    asked = await bench.placement.until_asked()
    assert (asked.session_id, asked.restore) == ("s9", True)
    asked.grant("actor-3", epoch=4)
    link = bench.links["actor-3"]
    await link.changes.until(lambda: "s9" in link.joined)
    assert not link.opens[0].HasField("restore"), "the actor has what is kept"
    link.open("s9", 7)
    session = await finding
    assert (session.describe().status, session.revision) == (READY, 7)


async def test_a_session_of_another_gateway_is_not_given_up_because_nobody_is_connected_here(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.placement.found["s9"] = NotReadyError("it is on no actor")
    state = pool_pb2.LEASE_STATE_LOST
    bench.placement.pool.sessions.add(session_id="s9", tenant="me", state=state)
    finding = asyncio.create_task(bench.hub.find(ME, "s9"))
    await bench.placement.until_asked()
    forgotten, _ = await bench.waiting()
    monkeypatch.setattr(module, "TICKET_S", 0.0)
    running = asyncio.create_task(bench.hub.run())
    await bench.until_ended(forgotten)
    await bench.placement.changes.until(lambda: bench.placement.released)
    assert [session_id for session_id, _ in bench.placement.released] == [forgotten.session_id]
    await cancelled(running)
    finding.cancel()


async def test_a_kept_session_of_another_tenant_is_not_woken(bench: Bench) -> None:
    bench.placement.found["s9"] = NotReadyError("it is on no actor")
    bench.placement.pool.sessions.add(
        session_id="s9", tenant="me", state=pool_pb2.LEASE_STATE_PARKED
    )
    with pytest.raises(NotReadyError):
        await bench.hub.find(OTHER, "s9")
    assert bench.placement.asked == []


async def test_nothing_is_kept_of_a_session_that_nobody_has_a_snapshot_of(bench: Bench) -> None:
    session = await bench.ready("actor-1")
    bench.links["actor-1"].open(session.session_id, 1, 2, 3)
    bench.links["actor-1"].lose()
    (await bench.placement.until_asked(2)).grant("actor-2", epoch=2)
    link = bench.links["actor-2"]
    await link.changes.until(lambda: session.session_id in link.joined)
    link.tell(session.session_id, refused=stream_pb2.Refused(needs_snapshot=True))
    first, second = link.opens
    assert not first.HasField("restore")
    fresh = second.restore.snapshot
    assert (fresh.phase, fresh.epoch) == (message_pb2.PHASE_IDLE, 1)
    assert second.restore.revision == fresh.revision == 3, "what it says from now on is news"
    link.tell(session.session_id, refused=stream_pb2.Refused(needs_snapshot=True))
    await bench.placement.until_asked(3)


async def test_a_move_takes_the_session_to_the_new_actor(bench: Bench, news: Any) -> None:
    session = await bench.ready("actor-1")
    news.moves(lease(session.session_id, "actor-2", ME, epoch=2))
    new = bench.links["actor-2"]
    await new.changes.until(lambda: new.opens)
    assert new.opens[0].standby
    new.open(session.session_id)
    old = bench.links["actor-1"]
    (asked,) = await old.changes.until(lambda: old.of("hand_over"))
    assert asked.epoch == 2


async def test_a_move_to_an_actor_that_cannot_be_reached_does_not_take_place(
    bench: Bench, news: Any
) -> None:
    session = await bench.ready("actor-1")
    bench.links.dead.add("actor-2")
    news.moves(lease(session.session_id, "actor-2", ME, epoch=2))
    await bench.links.changes.until(lambda: bench.links.tries["actor-2"] == seeking.MOVE_TRIES)
    assert session.session_id in bench.links["actor-1"].joined


async def test_a_move_of_a_session_that_is_being_placed_is_its_place(
    bench: Bench, news: Any
) -> None:
    session = await bench.ready("actor-1")
    bench.links["actor-1"].lose()
    await bench.placement.until_asked(2)
    news.moves(lease(session.session_id, "actor-2", ME, epoch=2))
    await bench.opened(session, "actor-2")
    assert bench.placement.given_up == [session.session_id]


async def test_a_session_handed_over_to_an_unknown_actor_is_followed_there(bench: Bench) -> None:
    session = await bench.ready("actor-1")
    bench.placement.found[session.session_id] = lease(session.session_id, "actor-1", ME, epoch=1)
    handed = stream_pb2.HandedOver(snapshot=snapshot_pb2.ControlSnapshot(epoch=1, revision=9))
    bench.links["actor-1"].tell(session.session_id, handed_over=handed)
    await bench.placement.changes.until(lambda: bench.placement.finds >= 2)
    bench.placement.found[session.session_id] = lease(session.session_id, "actor-2", ME, epoch=2)
    new = bench.links["actor-2"]
    await new.changes.until(lambda: new.opens)
    assert new.opens[0].restore.handed_over
    assert session.session_id in bench.links["actor-1"].joined, "it shows the rest"


async def test_a_session_handed_over_to_nobody_is_placed_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await bench.ready("actor-1")
    bench.placement.found[session.session_id] = lease(session.session_id, "actor-1", ME, epoch=1)
    monkeypatch.setattr(seeking, "OTHERS_S", 0.05)
    handed = stream_pb2.HandedOver(snapshot=snapshot_pb2.ControlSnapshot(epoch=1, revision=9))
    bench.links["actor-1"].tell(session.session_id, handed_over=handed)
    asked = await bench.placement.until_asked(2)
    assert (asked.session_id, asked.restore) == (session.session_id, True)
    asked.grant("actor-2", epoch=3)
    new = bench.links["actor-2"]
    await new.changes.until(lambda: new.opens)
    assert new.opens[0].restore.snapshot.revision == 9


async def forked(bench: Bench, copies: int, request_id: str = "") -> Any:
    session = await bench.ready("actor-1")
    return session, asyncio.create_task(bench.hub.fork(ME, session.session_id, copies, request_id))


async def copied(bench: Bench, session: GatewaySession, made: int) -> list[str]:
    """The actor copies the session; returns the copies that were asked for."""
    link = bench.links["actor-1"]
    (asked,) = await link.changes.until(lambda: link.of("copy"))
    snapshot = snapshot_pb2.ControlSnapshot(
        session_id=session.session_id, epoch=1, revision=12, host="host-1", seed=5
    )
    snapshot.clip.video.upload_id = "u1"
    snapshot.handled.add(command_id="c1")
    answer = stream_pb2.Copied(snapshot=snapshot, copies=list(asked.copies)[:made])
    link.tell(session.session_id, copied=answer)
    return list(asked.copies)


async def test_a_fork_makes_sessions_of_their_own_that_begin_from_the_snapshot(
    bench: Bench,
) -> None:
    session, forking = await forked(bench, 2)
    ids = await copied(bench, session, 2)
    first, second = await bench.placement.until_asked(2), await bench.placement.until_asked(3)
    assert [(each.restore, each.fork, each.near_host) for each in (first, second)] == [
        (True, True, "host-1")
    ] * 2
    first.queue(1)
    second.grant("actor-2", epoch=1)
    copies = await forking
    assert [each.session_id for each in copies] == ids == [first.session_id, second.session_id]
    assert bench.copied == [(session.session_id, ["u1"], ids)]
    link = bench.links["actor-2"]
    await link.changes.until(lambda: link.opens)
    own = link.opens[0].restore.snapshot
    assert (own.session_id, own.revision, own.epoch, own.seed) == (ids[1], 0, 0, 5)
    assert not own.handled
    assert session.describe().status == READY
    await bench.opened(copies[1], "actor-2")
    link.lose()
    again = await bench.placement.until_asked(4)
    assert (again.restore, again.fork) == (True, False), "it is a session like others now"


async def test_repeating_a_fork_returns_the_copies_already_made(bench: Bench) -> None:
    session, forking = await forked(bench, 1, "r1")
    again = asyncio.create_task(bench.hub.fork(ME, session.session_id, 1, "r1"))
    await copied(bench, session, 1)
    (await bench.placement.until_asked(2)).queue(1)
    made = await forking
    assert await again == made
    assert await bench.hub.fork(ME, session.session_id, 1, "r1") == made
    with pytest.raises(BadArgumentError):
        await bench.hub.fork(ME, session.session_id, 2, "r1")
    with pytest.raises(UnknownSessionError):
        await bench.hub.fork(OTHER, session.session_id, 1, "r1")
    assert len(bench.links["actor-1"].of("copy")) == 1


@pytest.mark.parametrize("copies", [0, module.MOST_COPIES + 1])
async def test_a_fork_has_one_to_sixteen_copies(bench: Bench, copies: int) -> None:
    session = await bench.ready()
    with pytest.raises(BadArgumentError):
        await bench.hub.fork(ME, session.session_id, copies)


async def test_a_session_that_cannot_be_copied_says_why(bench: Bench) -> None:
    session, forking = await forked(bench, 1, "r1")
    link = bench.links["actor-1"]
    await link.changes.until(lambda: link.of("copy"))
    link.tell(session.session_id, copied=stream_pb2.Copied(failure="the model cannot"))
    with pytest.raises(CommandRefusedError, match="the model cannot"):
        await forking
    repeated = asyncio.create_task(bench.hub.fork(ME, session.session_id, 1, "r1"))
    await link.changes.until(lambda: len(link.of("copy")) == 2)
    repeated.cancel()
    await asyncio.gather(repeated, return_exceptions=True)


async def test_a_fork_of_a_session_without_an_actor_is_refused_for_now(
    bench: Bench, news: Any
) -> None:
    session, forking = await forked(bench, 1)
    link = bench.links["actor-1"]
    await link.changes.until(lambda: link.of("copy"))
    link.lose()
    with pytest.raises(NotReadyError):
        await forking
    (await bench.placement.until_asked(2)).grant("actor-2", epoch=2)
    await bench.opened(session, "actor-2")
    news.parked(parked(session, 2, ""))
    with pytest.raises(NotReadyError):
        await bench.hub.fork(ME, session.session_id, 1)
    await bench.placement.until_asked(3)


async def test_copies_are_made_all_or_none(bench: Bench) -> None:
    session, forking = await forked(bench, 2)
    ids = await copied(bench, session, 2)
    (await bench.placement.until_asked(2)).queue(1)
    (await bench.placement.until_asked(3)).fail(NoCapacityError("the queue is full"))
    with pytest.raises(NoCapacityError):
        await forking
    assert sorted(bench.ended) == sorted(ids), "what was copied for it is dropped"
    assert bench.hub.session_count == 1
    assert sorted(await released(bench, 2)) == sorted(ids)


async def released(bench: Bench, count: int) -> list[str]:
    """Waits until so many sessions were given back; returns them."""
    await bench.placement.changes.until(lambda: len(bench.placement.released) >= count)
    return [session_id for session_id, _ in bench.placement.released]


async def test_copies_that_come_too_late_are_removed_when_they_come(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COPY_S", 0.01)
    session, forking = await forked(bench, 2, "r1")
    with pytest.raises(NotReadyError):
        await forking
    monkeypatch.setattr(module, "COPY_S", 10.0)
    again = asyncio.create_task(bench.hub.fork(ME, session.session_id, 1, "r1"))
    assert bench.placement.released == [], "they would be made after that"
    late = await copied(bench, session, 2)
    assert sorted(await released(bench, 2)) == sorted(late)
    assert sorted(bench.ended) == sorted(late)
    link = bench.links["actor-1"]
    _, asked = await link.changes.until(lambda: link.of("copy")[1:] and link.of("copy"))
    answer = stream_pb2.Copied(snapshot=snapshot_pb2.ControlSnapshot(), copies=asked.copies)
    link.tell(session.session_id, copied=answer)
    (await bench.placement.until_asked(2)).queue(1)
    (made,) = await again
    assert [made.session_id] == list(asked.copies)
    assert not {*late} & {*asked.copies}


@pytest.mark.parametrize("why", ["lost", "cancelled"])
async def test_nothing_stays_of_copies_that_nobody_gets(bench: Bench, why: str) -> None:
    session, forking = await forked(bench, 2)
    link = bench.links["actor-1"]
    (asked,) = await link.changes.until(lambda: link.of("copy"))
    if why == "lost":
        link.lose()
        with pytest.raises(NotReadyError):
            await forking
    else:
        await cancelled(forking)
        await copied(bench, session, 2)
    assert sorted(await released(bench, 2)) == sorted(asked.copies)
    assert sorted(bench.ended) == sorted(asked.copies)


async def test_an_ended_session_is_not_copied_and_says_so(bench: Bench) -> None:
    session, forking = await forked(bench, 1)
    await bench.links["actor-1"].changes.until(lambda: bench.links["actor-1"].of("copy"))
    await bench.hub.close(ME, session.session_id, "enough")
    with pytest.raises(SessionClosedError, match="enough"):
        await forking
    with pytest.raises(SessionClosedError, match="enough"):
        await bench.hub.fork(ME, session.session_id, 1)


def left_alone(bench: Bench) -> None:
    """A session of another gateway is on no actor."""
    bench.placement.found["s9"] = NotReadyError("it is on no actor")
    state = pool_pb2.LEASE_STATE_PARKED
    bench.placement.pool.sessions.add(session_id="s9", tenant="me", state=state)


async def test_who_comes_to_a_session_whose_place_is_refused_is_told_so_too(bench: Bench) -> None:
    left_alone(bench)
    first = asyncio.create_task(bench.hub.find(ME, "s9"))
    asked = await bench.placement.until_asked()
    second = asyncio.create_task(bench.hub.find(ME, "s9"))
    await asyncio.sleep(0)
    asked.fail(NoCapacityError("the queue is full"))
    for each in (first, second):
        with pytest.raises(NoCapacityError):
            await each
    assert bench.hub.session_count == 0
    assert bench.ended == [], "it has not ended: what it uploaded stays"
    third = asyncio.create_task(bench.hub.find(ME, "s9"))
    (await bench.placement.until_asked(2)).grant("actor-3", epoch=4)
    await bench.links["actor-3"].changes.until(lambda: "s9" in bench.links["actor-3"].joined)
    bench.links["actor-3"].open("s9", 7)
    assert (await third).describe().status == READY


async def test_a_session_that_its_client_has_left_before_it_was_refused_is_nobodys(
    bench: Bench,
) -> None:
    left_alone(bench)
    first = asyncio.create_task(bench.hub.find(ME, "s9"))
    asked = await bench.placement.until_asked()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    second = asyncio.create_task(bench.hub.find(ME, "s9"))
    await asyncio.sleep(0)
    asked.fail(NoCapacityError("the queue is full"))
    with pytest.raises(NoCapacityError):
        await second
    assert bench.hub.session_count == 0
