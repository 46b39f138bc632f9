"""Roles in processes of their own: a clip goes through, a gateway goes, an actor is killed."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import psutil
import pytest

from sana_gateway import Client, Session
from sana_gateway_internal.v1 import placement_pb2, placement_pb2_grpc, stream_pb2, stream_pb2_grpc
from scheduler.process.certificates import make
from scheduler.process.tls import Wires
from tests.e2e.driving import WAIT_S, Told, stage, watching
from tests.e2e.roles import Roles, running_roles
from tests.required import require
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

ACTOR = "RayShellHost"
"""Part of the title that Ray gives the process of a model actor."""


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roles]:
    """Head, actor and gateway in processes of their own."""
    python = require(".venvs/gateway/bin/python")
    with running_roles(python, tmp_path_factory.mktemp("roles")) as running:
        yield running


async def play(client: Client, clip: Path) -> None:
    """Plays a clip of 40 frames and sees every one of them."""
    async with await client.create_session("simulated", timeout=WAIT_S) as session:
        told = Told(session)
        await stage(session, clip)
        async with watching(client, session) as screen:
            await session.start()
            await told.until_told("generation_complete")
            await screen.until(lambda: 39 in screen.numbers())
            assert screen.numbers() == list(range(40))


async def started(client: Client, clip: Path) -> tuple[Session, Told]:
    session = await client.create_session("simulated", timeout=WAIT_S)
    told = Told(session)
    await stage(session, clip)
    await session.start()
    await told.until_told("chunk_complete")
    return session, told


async def data_plane(wires: Wires, scheduler: str, session_id: str) -> str:
    """Asks the scheduler where the actor of a session listens."""
    async with wires.dial(scheduler) as channel:
        stub = placement_pb2_grpc.PlacementStub(channel)
        request = placement_pb2.FindRequest(session_id=session_id, gateway_id="test")
        return (await stub.Find(request, timeout=WAIT_S)).lease.address


async def hears(wires: Wires, actor: str) -> grpc.StatusCode:
    """Says hello to an actor; returns how that ended."""

    async def hello() -> AsyncIterator[stream_pb2.ControlRequest]:
        yield stream_pb2.ControlRequest(hello=stream_pb2.Hello(gateway_id="test"))

    async with wires.dial(actor) as channel:
        return await stream_pb2_grpc.StreamStub(channel).Control(hello(), timeout=WAIT_S).code()


def actors_of(stack: Stack) -> list[psutil.Process]:
    return [each for each in stack.members() if ACTOR in " ".join(each.cmdline())]


async def test_a_clip_goes_through_roles_that_joined_by_address_and_token(
    roles: Roles, clip: Path
) -> None:
    assert roles.head.told["placement"].startswith("127.0.0.1:")
    assert roles.actor.told["joined"] == roles.head.told["ray"]
    assert actors_of(roles.head) == []
    async with Client(roles.gateway.grpc_address) as client:
        await play(client, clip)
        (actor,) = (await client.describe_pool()).actors
    assert actor.healthy
    assert len(actors_of(roles.actor)) == 1


async def test_who_has_no_certificate_reaches_neither_the_scheduler_nor_an_actor(
    roles: Roles, clip: Path, tmp_path: Path
) -> None:
    make(tmp_path / "foreign", days=1, now=dt.datetime.now(dt.UTC))
    async with Client(roles.gateway.grpc_address) as client:
        session, _ = await started(client, clip)
        scheduler = roles.head.told["placement"]
        actor = await data_plane(Wires(roles.tls), scheduler, session.session_id)
        assert actor.startswith("127."), "over TCP"
        async with Wires(roles.tls).dial(actor) as channel:
            await asyncio.wait_for(channel.channel_ready(), WAIT_S)
        for stranger in (Wires(), Wires(tmp_path / "foreign")):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await data_plane(stranger, scheduler, session.session_id)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert await hears(stranger, actor) is grpc.StatusCode.UNAVAILABLE
        await session.close()


async def test_a_session_goes_on_at_another_gateway_when_its_own_is_told_to_stop(
    roles: Roles, long_clip: Path
) -> None:
    with roles.another_gateway() as first:
        async with Client(first.grpc_address) as client:
            session, told = await started(client, long_clip)
            await asyncio.to_thread(first.stop)
            assert await told.until_ended() == "the gateway is shutting down"
    async with Client(roles.gateway.grpc_address) as client:
        session = await client.attach(session.session_id)
        told = Told(session)
        await told.until_told("generation_complete")
        chunks = [each.chunk_index for each in told.of("chunk_complete")]
        assert chunks == list(range(chunks[0], 4))
        await session.close()


@pytest.mark.slow  # tests/e2e/pool/test_failures.py kills actors in every run
async def test_sessions_of_a_killed_actor_go_on_at_the_one_that_takes_its_place(
    roles: Roles, clip: Path, long_clip: Path
) -> None:
    async with Client(roles.gateway.grpc_address) as client:
        playing = [await started(client, long_clip) for _ in range(2)]
        (before,) = [each.actor_id for each in (await client.describe_pool()).actors]
        (victim,) = actors_of(roles.actor)
        victim.kill()
        for session, told in playing:
            await told.until_told("session_moved")
            await told.until_told("generation_complete")
            chunks = [each.chunk_index for each in told.of("chunk_complete")]
            assert chunks == list(range(chunks[0], 4))
            await session.close()
        await play(client, clip)
        (after,) = [each.actor_id for each in (await client.describe_pool()).actors]
        assert after != before
