"""An actor that is killed, and a gateway that is told to stop while sessions run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from sana_gateway import Client, RetryPolicy, Session, UnavailableError
from tests.e2e.conftest import SIMULATED
from tests.e2e.driving import WAIT_S, Told, stage, watching
from tests.stack import Stack, serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

ACTOR = "RayShellHost"
"""Part of the title that Ray gives the process of a model actor."""


def actors_of(stack: Stack) -> list[psutil.Process]:
    return [each for each in stack.members() if ACTOR in " ".join(each.cmdline())]


async def running_session(client: Client, model: str, clip: Path) -> tuple[Session, Told]:
    session = await client.create_session(model)
    told = Told(session)
    await stage(session, clip)
    await session.start()
    await told.until_told("chunk_complete")
    return session, told


async def test_sessions_of_a_killed_actor_end_with_the_reason_and_another_actor_comes(
    stack: Stack, clip: Path, long_clip: Path
) -> None:
    async with Client(stack.grpc_address) as client:
        _, first = await running_session(client, "painter", long_clip)
        _, second = await running_session(client, "painter", long_clip)
        (before,) = [each.actor_id for each in (await client.describe_pool()).actors]
        (victim,) = actors_of(stack)
        victim.kill()
        assert await first.until_ended() == "its worker died"
        assert await second.until_ended() == "its worker died"
        # A new session waits until the new actor has loaded its model.
        async with await client.create_session("painter", timeout=WAIT_S) as session:
            told = Told(session)
            await stage(session, clip)
            async with watching(client, session) as screen:
                await session.start()
                await told.until_told("generation_complete")
                await screen.until(lambda: 56 in screen.numbers())
                assert screen.numbers() == list(range(57))
        (after,) = [each.actor_id for each in (await client.describe_pool()).actors]
        assert after != before


async def test_a_service_that_is_told_to_stop_tells_its_clients_and_leaves_nothing(
    long_clip: Path,
) -> None:
    with serving(*SIMULATED) as running:
        async with Client(running.grpc_address, policy=RetryPolicy(window=1.0)) as client:
            playing = [await running_session(client, "simulated", long_clip) for _ in range(2)]
            session, told = playing[0]
            async with watching(client, session) as screen:
                await screen.until(lambda: screen.items)
                await asyncio.to_thread(running.stop)
                for _, each in playing:
                    assert await each.until_ended() == "the gateway is shutting down"
            assert told.of("command_error") == []
            with pytest.raises(UnavailableError):
                await client.get_session(session.session_id)
