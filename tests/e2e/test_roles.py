"""Gateway, head and actor as processes of their own, joined by address and token."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from pathlib import Path

import pytest

from sana_gateway import Client
from tests.e2e.driving import Told, stage, watching
from tests.required import require
from tests.stack import role

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.timeout(240)
async def test_roles_join_by_address_and_token_and_each_ends_cleanly(
    clip: Path, tmp_path: Path
) -> None:
    python = require(".venvs/gateway/bin/python")
    token = {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    port, storage = free_port(), tmp_path / "storage"
    with contextlib.ExitStack() as running:
        head = running.enter_context(
            role(
                *("serve", "head", "--placement-port", str(port), "--actors", "0"),
                *("--model", "simulated", "--model-option", "chunk_ms=50"),
                *("--storage-root", str(storage)),
                env=token,
            )
        )
        assert head.told["placement"].endswith(f":{port}")
        words = ("--http-port", "0", "--grpc-port", "0", "--storage-root", str(storage))
        address = ("--placement-address", head.told["placement"])
        actor, *gateways = await asyncio.gather(
            *(
                asyncio.to_thread(running.enter_context, each)
                for each in (
                    role("serve", "actor", "--join", head.told["ray"], env=token),
                    role("serve", "gateway", *address, *words, python=python),
                    role("serve", "gateway", *address, *words, python=python),
                )
            )
        )
        async with Client(gateways[0].grpc_address) as client:
            session = await client.create_session("simulated")
            told = Told(session)
            await stage(session, clip)
            async with watching(client, session) as screen:
                await session.start()
                await told.until_told("generation_complete")
                await screen.until(lambda: 56 in screen.numbers())
                assert screen.numbers() == list(range(57))
            await session.start()
            await told.until_told("chunk_complete", 4)
            await asyncio.to_thread(gateways[0].stop)
            assert await told.until_ended() == "the gateway is shutting down"
        # The session is on its actor still: another gateway takes it over, run and all.
        async with Client(gateways[1].grpc_address) as client:
            session = await client.attach(session.session_id)
            told = Told(session)
            await told.until_told("generation_complete")
            await asyncio.to_thread(gateways[1].stop)
            assert await told.until_ended() == "the gateway is shutting down"
        await asyncio.gather(*(asyncio.to_thread(each.stop) for each in (actor, head)))
