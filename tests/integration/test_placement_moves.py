"""Moves, drains, parking and several models over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from gateway.placement import PlacementClient
from sana_gateway.v1 import pool_pb2
from sana_gateway_internal.v1 import placement_pb2 as pb
from sana_gateway_internal.v1 import placement_pb2_grpc
from scheduler.backends.inprocess import LocalScheduler
from scheduler.backends.launcher import ActorSpec
from scheduler.core import errors
from scheduler.core.pool_events import PoolRules
from scheduler.placement_status import error_of
from scheduler.process.tokens import LeaseTokens
from scheduler.runtime import SchedulerSettings
from tests.fakes.grpc_gateway import drained
from tests.fakes.launcher import EnrollingShell
from tests.fakes.scripted_actor import Actor, place_request, placed, reported

pytestmark = pytest.mark.integration

SECRET = "0123456789abcdef0123456789abcdef"
RULES = PoolRules(queue_limit=2, actor_timeout=1.0, start_wait=0.2)
FAKES = "tests.fakes.launcher"


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[LocalScheduler]:
    scheduler = LocalScheduler(settings(f"unix:{tmp_path}/scheduler"))
    scheduler.start()
    yield scheduler
    scheduler.stop()


@pytest.fixture
async def stub(scheduler: LocalScheduler) -> AsyncIterator[Any]:
    async with asyncio.timeout(30), grpc.aio.insecure_channel(scheduler.address) as channel:
        yield placement_pb2_grpc.PlacementStub(channel)


def settings(address: str, **changes: Any) -> SchedulerSettings:
    told = {"rules": RULES, "settle_time": 0.0, **changes}
    return SchedulerSettings(address=address, lease_secret=SECRET, **told)


async def test_a_session_of_a_dead_actor_goes_on_at_another_with_a_higher_epoch(
    stub: Any,
) -> None:
    first = await Actor(stub).registered()
    lost = await placed(stub, first, "s")
    presence = await reported(stub, "s")
    second = await Actor(stub, name="b").registered()
    await first.close()
    told = (await presence.read()).parked
    assert (told.session_id, told.epoch, told.restoring) == ("s", lost.epoch, True)
    admit = await second.admit()
    assert (admit.session_id, admit.restore) == ("s", True)
    assert admit.epoch > lost.epoch
    request = place_request("s")
    request.restore = True
    [response] = [response async for response in stub.Place(request)]
    assert (response.lease.actor_id, response.lease.epoch) == ("b", admit.epoch)
    presence.cancel()
    await second.close()


async def test_a_drained_actor_is_left_by_its_session_and_retires(stub: Any) -> None:
    first = await Actor(stub).registered()
    old = await placed(stub, first, "s")
    presence = await reported(stub, "s")
    drain = stub.Drain(pb.DrainRequest(actor_id="a"))
    progress = await drain.read()
    assert (progress.remaining, progress.without_room) == (1, 1)
    assert (await first.order()).drain == pb.Drain(draining=True)
    assert (await first.order()).awaits_room == pb.AwaitsRoom(
        session_id="s", epoch=old.epoch, awaits=True
    )
    second = await Actor(stub, name="b").registered()
    admit = await second.admit()
    assert admit.restore
    lease = (await presence.read()).moves.lease
    assert (lease.actor_id, lease.epoch, lease.session_id) == ("b", admit.epoch, "s")
    claims = LeaseTokens(SECRET).verify(lease.token)
    assert (claims.epoch, claims.gateway) == (admit.epoch, "gateway")
    whose = {"session_id": "s", "epoch": admit.epoch}
    second.say(pb.EnrollRequest(restored=pb.Restored(**whose)))
    first.say(pb.EnrollRequest(departed=pb.Departed(session_id="s", epoch=old.epoch)))
    last = (await drained(drain))[-1]
    assert (last.remaining, last.cancelled) == (0, False)
    while not (order := await first.order()).HasField("retire"):
        assert order.HasField("awaits_room")
    found = (await stub.Find(pb.FindRequest(session_id="s", gateway_id="g"))).lease
    assert (found.actor_id, found.epoch) == ("b", admit.epoch)
    presence.cancel()
    await first.close()
    await second.close()


async def test_a_drain_is_cancelled_and_an_unknown_actor_refused(stub: Any) -> None:
    actor = await Actor(stub).registered()
    await placed(stub, actor, "s")
    drain = stub.Drain(pb.DrainRequest(actor_id="a", grace_us=60_000_000))
    assert (await drain.read()).remaining == 1
    pool = (await stub.DescribePool(pb.DescribePoolRequest())).pool
    assert pool.actors[0].draining
    [answer] = [each async for each in stub.Drain(pb.DrainRequest(actor_id="a", cancel=True))]
    assert answer.cancelled
    assert (await drained(drain))[-1].cancelled
    for request in (pb.DrainRequest(actor_id="x"), pb.DrainRequest(actor_id="x", cancel=True)):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stub.Drain(request).read()
        assert isinstance(error_of(refusal.value), errors.BadArgumentError)
    await actor.close()


async def test_a_drain_that_is_watched_by_two_is_told_to_both(stub: Any) -> None:
    actor = await Actor(stub).registered()
    await placed(stub, actor, "s")
    watches = [stub.Drain(pb.DrainRequest(actor_id="a")) for _ in range(2)]
    for watch in watches:
        assert (await watch.read()).remaining == 1
    await stub.Release(pb.ReleaseRequest(session_id="s"))
    for watch in watches:
        assert (await drained(watch))[-1].remaining == 0
    await actor.close()


async def test_a_gateway_has_an_actor_drained_and_hears_of_refusals(
    stub: Any, scheduler: LocalScheduler
) -> None:
    actor = await Actor(stub).registered()
    client = PlacementClient(scheduler.address, "gateway")
    request = pool_pb2.DrainActorRequest(actor_id="a")
    request.grace.FromSeconds(60)
    assert [progress async for progress in client.drain(request)][-1].remaining == 0
    with pytest.raises(errors.BadArgumentError):
        await anext(client.drain(pool_pb2.DrainActorRequest(actor_id="x")))
    await client.close()
    await actor.close()


async def test_an_idle_session_is_parked_and_goes_on_when_it_is_asked_for(
    tmp_path: Path,
) -> None:
    rules = PoolRules(park_after=0.05, start_grace=0.0)
    scheduler = LocalScheduler(settings(f"unix:{tmp_path}/scheduler", rules=rules))
    await asyncio.to_thread(scheduler.start)
    async with asyncio.timeout(20), grpc.aio.insecure_channel(scheduler.address) as channel:
        stub: Any = placement_pb2_grpc.PlacementStub(channel)
        actor = await Actor(stub).registered()
        lease = await placed(stub, actor, "s")
        presence = await reported(stub, "s")
        park = (await actor.order()).park
        assert (park.session_id, park.epoch, park.store) == ("s", lease.epoch, False)
        whose = {"session_id": "s", "epoch": lease.epoch}
        actor.say(pb.EnrollRequest(parked=pb.Parked(**whose, host="host")))
        told = pb.SessionParked(**whose, host="host")
        assert await presence.read() == pb.PresenceResponse(parked=told)
        late = await reported(stub, "s")
        assert await late.read() == pb.PresenceResponse(parked=told)
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stub.Find(pb.FindRequest(session_id="s", gateway_id="gateway"))
        assert isinstance(error_of(refusal.value), errors.NotReadyError)
        request = place_request("s")
        request.restore, request.near_host = True, "host"
        again = stub.Place(request)
        admit = await actor.admit()
        assert (admit.restore, admit.epoch > lease.epoch) == (True, True)
        assert [response async for response in again][-1].lease.epoch == admit.epoch
        await actor.close()
    await asyncio.to_thread(scheduler.stop)


async def test_several_models_share_a_pool(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/scheduler"
    specs = [
        ActorSpec(
            model=model, placement_address=address, lease_secret=SECRET, listen="unix:/{actor_id}"
        )
        for model in ("first", "second")
    ]
    models = ("first", "second")
    rules = replace(RULES, models=models, repurpose_after=0.05, warm_spares={"first": 0})
    shell = f"{FAKES}:{EnrollingShell.__name__}"
    scheduler = LocalScheduler(settings(address, rules=rules), specs, shell=shell, actors=1)
    await asyncio.to_thread(scheduler.start)
    try:
        async with asyncio.timeout(20), grpc.aio.insecure_channel(address) as channel:
            stub: Any = placement_pb2_grpc.PlacementStub(channel)
            pool = pool_pb2.DescribePoolResponse()
            while [actor.model for actor in pool.actors] != ["first"]:
                pool = (await stub.DescribePool(pb.DescribePoolRequest())).pool
            # Nobody serves it yet: the idle actor becomes one that does.
            responses = [response async for response in stub.Place(place_request("s", "second"))]
            assert responses[-1].lease.model == "second"
            pool = (await stub.DescribePool(pb.DescribePoolRequest())).pool
            assert [actor.model for actor in pool.actors] == ["second"]
    finally:
        await asyncio.to_thread(scheduler.stop)
