"""What callers are granted, at the hub: the one door behind all doors."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator

import pytest

from gateway import hub
from gateway.hub import OVERTIME
from gateway.session import GatewaySession
from sana_gateway.v1 import pool_pb2
from sana_gateway_internal.v1 import snapshot_pb2, stream_pb2
from scheduler.core.errors import ForbiddenError, LimitError, NotReadyError, UnknownSessionError
from scheduler.core.ids import Grant, Holder, Principal
from tests.fakes.gateway_parts import Ear, lease
from tests.unit.gateway.hub_bench import ME, OTHER, Bench, cancelled

pytestmark = pytest.mark.unit

HOLDERS = (Holder("key:web", 5), Holder("token:1", 2))


def me(holders: tuple[Holder, ...] = HOLDERS, **grant: object) -> Principal:
    return dataclasses.replace(ME, holders=holders, grant=Grant(**grant))  # type: ignore[arg-type]


@pytest.fixture
async def running(bench: Bench) -> AsyncIterator[Bench]:
    task = asyncio.create_task(bench.hub.run())
    yield bench
    await cancelled(task)


async def created(bench: Bench, principal: Principal) -> GatewaySession:
    task = asyncio.create_task(bench.hub.create(principal, "painter"))
    asked = await bench.placement.until_asked(len(bench.placement.asked) + 1)
    asked.grant()
    session = await task
    await bench.opened(session, "actor-1", 1)
    return session


async def test_a_model_that_is_not_granted_is_refused_before_anybody_is_asked(
    bench: Bench,
) -> None:
    with pytest.raises(ForbiddenError):
        await bench.hub.create(me(models=(frozenset({"simulated"}),)), "painter")
    assert not bench.placement.asked
    names = ["painter", "sana-streaming"]
    bench.placement.pool = pool_pb2.DescribePoolResponse(actors=[pool_pb2.Actor(names=names)])
    await created(bench, me(models=(frozenset({"sana-streaming"}),)))


async def test_a_bound_token_reaches_its_session_alone(bench: Bench) -> None:
    mine, another = await bench.ready(), await bench.ready()
    bound = me(sessions=frozenset({mine.session_id}))
    assert await bench.hub.find(bound, mine.session_id) is mine
    with pytest.raises(ForbiddenError):
        await bench.hub.find(bound, another.session_id)
    with pytest.raises(ForbiddenError):
        await bench.hub.close(bound, another.session_id, "enough")
    with pytest.raises(ForbiddenError):
        await bench.hub.create(bound, "painter")
    with pytest.raises(ForbiddenError):
        await bench.hub.fork(bound, mine.session_id, 1)


async def test_being_bound_to_a_session_of_another_tenant_does_not_open_it(bench: Bench) -> None:
    session = await bench.ready()
    bound = dataclasses.replace(
        OTHER, grant=Grant(sessions=frozenset({session.session_id, "nowhere"}))
    )
    for session_id in (session.session_id, "nowhere"):
        with pytest.raises(UnknownSessionError):
            await bench.hub.find(bound, session_id)


async def test_the_scheduler_is_told_who_counts_the_session(bench: Bench) -> None:
    await created(bench, me(models=(frozenset({"painter"}),), sessions=None))
    (asked,) = bench.placement.asked
    assert asked.principal == dataclasses.replace(ME, holders=HOLDERS)


async def test_a_limit_that_the_scheduler_finds_reached_is_the_callers_refusal(
    bench: Bench,
) -> None:
    task, asked = await bench.asked()
    asked.fail(LimitError("no more", retry_after_s=7.0))
    with pytest.raises(LimitError) as refusal:
        await task
    assert refusal.value.retry_after_s == 7.0


async def test_a_session_ends_after_the_longest_time_and_its_clients_are_told(
    running: Bench,
) -> None:
    forever = await created(running, me())
    before = time.monotonic()
    session = await created(running, me(max_session_s=3600.0))
    ends_at = running.placement.asked[-1].principal.ends_at
    assert ends_at is not None
    assert 3600.0 <= ends_at - before < 3700.0
    short = await created(running, me(max_session_s=0.001))
    assert await running.until_ended(short) == OVERTIME
    told = (short.session_id, OVERTIME)
    await running.placement.changes.until(lambda: told in running.placement.released)
    assert running.ended == [short.session_id]
    assert {forever.session_id, session.session_id} <= running.placement.counts().keys()


async def test_a_scheduler_that_takes_its_time_does_not_prolong_other_sessions(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def release(session_id: str, _: str) -> None:
        asked.append(session_id)
        await asyncio.Event().wait()

    monkeypatch.setattr(bench.placement, "release", release)
    monkeypatch.setattr(hub, "MOST_RELEASES", 1)
    running = asyncio.create_task(bench.hub.run())
    for _ in range(3):
        session = await created(bench, me(max_session_s=0.001))
        assert await bench.until_ended(session) == OVERTIME
    assert len(asked) == 1, "of so many at once"
    await cancelled(running)


async def test_the_last_word_to_a_client_is_that_its_session_has_ended(running: Bench) -> None:
    session = await created(running, me(max_session_s=0.2))
    ear = Ear()
    session.connect(ear)
    await running.until_ended(session)
    assert ear.heard[-1] == ("ended", OVERTIME)


async def test_a_session_of_another_gateway_keeps_what_was_granted_with_it(
    running: Bench,
) -> None:
    owner = dataclasses.replace(ME, holders=HOLDERS, ends_at=time.monotonic() + 0.05)
    running.placement.found["s1"] = lease("s1", "actor-1", owner)
    finding = asyncio.create_task(running.hub.find(me(), "s1"))
    await running.links["actor-1"].changes.until(lambda: "s1" in running.links["actor-1"].joined)
    running.links["actor-1"].open("s1", 1)
    session = await finding
    assert session.principal.holders == HOLDERS
    assert await running.until_ended(session) == OVERTIME


async def test_a_token_uses_what_it_created_itself(bench: Bench) -> None:
    session = await created(bench, me())
    own = me(sessions=frozenset({"another"}), own="token:1")
    assert await bench.hub.find(own, session.session_id) is session
    with pytest.raises(ForbiddenError):
        await bench.hub.find(me(sessions=frozenset({"x"}), own="token:2"), session.session_id)


async def test_a_parked_session_of_another_gateway_is_its_owners_once_it_has_its_place(
    running: Bench,
) -> None:
    running.placement.found["s1"] = NotReadyError("parked")
    pooled = pool_pb2.PooledSession(
        session_id="s1", tenant=ME.tenant, state=pool_pb2.LEASE_STATE_PARKED
    )
    running.placement.pool = pool_pb2.DescribePoolResponse(sessions=[pooled])
    finding = asyncio.create_task(running.hub.find(me(sessions=frozenset(), own="token:1"), "s1"))
    asked = await running.placement.until_asked()
    assert asked.principal == ME, "whoever wakes it is not its owner"
    owner = dataclasses.replace(ME, holders=HOLDERS, ends_at=time.monotonic() + 3600)
    asked.principal = owner
    asked.grant()
    await running.links["actor-1"].changes.until(lambda: "s1" in running.links["actor-1"].joined)
    running.links["actor-1"].open("s1", 1)
    session = await finding
    assert session.principal.holders == HOLDERS
    assert session.principal.ends_at is not None


async def requested(bench: Bench, principal: Principal, model: str, request_id: str) -> str:
    """Creates a session under a request id; returns it."""
    count = len(bench.placement.asked)
    task = asyncio.create_task(bench.hub.create(principal, model, request_id))
    placed = asyncio.create_task(bench.placement.until_asked(count + 1))
    await asyncio.wait([task, placed], return_when=asyncio.FIRST_COMPLETED)
    if placed.done():
        (await placed).queue(1)
    placed.cancel()
    return (await task).session_id


async def test_a_request_id_belongs_to_the_token_that_is_narrowed_and_to_the_model(
    bench: Bench,
) -> None:
    one, two = (me(sessions=frozenset(), own=f"token:{number}") for number in (1, 2))
    two = dataclasses.replace(two, holders=(Holder("token:2"),))
    first = await requested(bench, one, "painter", "r")
    second = await requested(bench, two, "painter", "r")
    other = await requested(bench, one, "simulated", "r")
    assert len({first, second, other}) == 3
    assert await requested(bench, one, "painter", "r") == first
    assert (await bench.hub.find(two, second)).session_id == second


async def test_what_a_request_id_returns_is_what_the_caller_may_use(bench: Bench) -> None:
    session_id = await requested(bench, me(), "painter", "r")
    session = await bench.hub.find(me(), session_id)
    # Its lease may name another model than was asked for.
    session.model = "simulated"
    with pytest.raises(ForbiddenError):
        await bench.hub.create(me(models=(frozenset({"painter"}),)), "painter", "r")


async def test_who_may_not_use_a_session_of_another_gateway_does_not_bring_it_here(
    bench: Bench,
) -> None:
    bench.placement.found["s1"] = lease("s1", "actor-1", ME)
    bench.placement.found["s2"] = NotReadyError("parked")
    pooled = pool_pb2.PooledSession(
        session_id="s2", tenant=ME.tenant, state=pool_pb2.LEASE_STATE_PARKED
    )
    bench.placement.pool = pool_pb2.DescribePoolResponse(sessions=[pooled])
    for session_id in ("s1", "s2"):
        with pytest.raises(ForbiddenError):
            await bench.hub.find(me(sessions=frozenset({"another"})), session_id)
    with pytest.raises(ForbiddenError):
        await bench.hub.find(me(models=(frozenset({"simulated"}),)), "s1")
    assert bench.hub.session_count == 0
    assert bench.placement.asked == []


async def test_being_refused_a_session_does_not_refuse_it_to_others_who_ask_at_once(
    bench: Bench,
) -> None:
    bench.placement.found["s1"] = lease("s1", "actor-1", ME)
    refused = asyncio.create_task(bench.hub.find(me(sessions=frozenset({"another"})), "s1"))
    finding = asyncio.create_task(bench.hub.find(me(), "s1"))
    link = bench.links["actor-1"]
    await link.changes.until(lambda: "s1" in link.joined)
    link.open("s1", 1)
    assert (await finding).session_id == "s1"
    with pytest.raises(ForbiddenError):
        await refused


async def test_copying_a_session_does_not_prolong_it(bench: Bench) -> None:
    session = await created(bench, me(max_session_s=100.0))
    link, ends = bench.links["actor-1"], []
    for number, most in enumerate((None, 1000.0, 10.0), start=1):
        caller = me(max_session_s=most)
        forking = asyncio.create_task(bench.hub.fork(caller, session.session_id, 1))
        asked = await link.changes.until(lambda n=number: link.of("copy")[n - 1 :])
        copied = stream_pb2.Copied(
            snapshot=snapshot_pb2.ControlSnapshot(epoch=1), copies=asked[0].copies
        )
        link.tell(session.session_id, copied=copied)
        (await bench.placement.until_asked(number + 1)).queue(1)
        (copy,) = await forking
        ends.append(copy.principal.ends_at)
    end = session.principal.ends_at
    assert end is not None
    assert ends[:2] == [end, end]
    assert ends[2] is not None
    assert ends[2] < end, "a shorter time than is left holds"
