"""A service that is told to stop while sessions run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sana_gateway import Client, RetryPolicy, Session, UnavailableError
from tests.e2e.driving import SIMULATED, Told, stage, watching
from tests.stack import serving

pytestmark = pytest.mark.e2e


async def running_session(client: Client, clip: Path) -> tuple[Session, Told]:
    session = await client.create_session("simulated")
    told = Told(session)
    await stage(session, clip)
    await session.start()
    await told.until_told("chunk_complete")
    return session, told


async def test_a_service_that_is_told_to_stop_tells_its_clients_and_leaves_nothing(
    long_clip: Path,
) -> None:
    with serving(*SIMULATED) as running:
        async with Client(running.grpc_address, policy=RetryPolicy(window=1.0)) as client:
            playing = [await running_session(client, long_clip) for _ in range(2)]
            session, told = playing[0]
            async with watching(client, session) as screen:
                await screen.until(lambda: screen.items)
                await asyncio.to_thread(running.stop)
                for _, each in playing:
                    assert await each.until_ended() == "the gateway is shutting down"
            assert told.of("command_error") == []
            with pytest.raises(UnavailableError):
                await client.get_session(session.session_id)
