"""The demand makes nodes, and gives them back after their sessions have moved."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from sana_gateway import Client
from sana_gateway.v1 import session_pb2
from tests.e2e.cluster.autoscaled import autoscaled_ray, nodes
from tests.e2e.cluster.cluster import PATIENCE_S, PLACEMENT_PORT, identity
from tests.e2e.cluster.hosts import Host, hosts
from tests.e2e.driving import stage
from tests.e2e.pool.fleet import Member, viewed
from tests.e2e.pool.victims import healthy, pool_with
from tests.media.clips import Recipe, make
from tests.stack import Stack, role

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]

SLOTS = 2
SIZE = (160, 88)


@contextmanager
def service(host: Host, storage: Path) -> Iterator[tuple[Stack, Path]]:
    """A gateway and a scheduler on a cluster without any room; ends them."""
    env = identity(storage.parent)
    with tempfile.TemporaryDirectory(prefix="sana-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        model = (f"resident_slots={SLOTS}", "chunk_ms=60", "video=canned", "size=160x88")
        words = [word for each in model for word in ("--model-option", each)]
        with (
            autoscaled_ray(host, env, folder) as address,
            role(
                *("serve", "head", "--ray-address", address, "--autoscale", "0-3,5s"),
                *("--placement-host", host.address, "--placement-port", str(PLACEMENT_PORT)),
                *("--storage-root", str(storage), "--model", "simulated", *words),
                env=env,
                prefix=host.prefix,
            ) as head,
            role(
                *("serve", "gateway", "--placement-address", head.told["placement"]),
                *("--host", host.address, "--http-port", "0", "--grpc-port", "0"),
                *("--storage-root", str(storage)),
                env=env,
                prefix=host.prefix,
            ) as gateway,
        ):
            yield gateway, folder


async def play(member: Member, clip: Path) -> None:
    await stage(member.session, clip)
    await member.session.start()
    await member.frames(1)


async def metrics(gateway: Stack) -> dict[str, float]:
    """Returns what /metrics says of the pool."""
    async with aiohttp.ClientSession() as http, http.get(f"{gateway.http_url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    told = (line.rpartition(" ") for line in lines if line.startswith("sana_gateway_pool_"))
    return {name: float(value) for name, _, value in told}


async def test_nodes_come_for_those_who_wait_and_go_when_they_are_empty(tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mp4", Recipe(frames=24 * 240, width=SIZE[0], height=SIZE[1]))
    with hosts(1) as made, service(made[0], tmp_path / "storage") as (gateway, folder):
        async with Client(gateway.grpc_address) as client, asyncio.timeout(PATIENCE_S * 3):
            assert nodes(folder) == 0
            sessions = [
                await client.create_session("simulated", wait=False) for _ in range(SLOTS + 1)
            ]
            waiting = await sessions[0].describe()
            assert waiting.status == session_pb2.SESSION_STATUS_WAITING
            told = await metrics(gateway)
            assert told["sana_gateway_pool_queued_sessions"] <= SLOTS + 1
            assert "sana_gateway_pool_queue_age_seconds" in told
            assert "sana_gateway_pool_predicted_utilisation" in told
            assert "sana_gateway_pool_miss_rate" in told
            await asyncio.gather(*(session.ready() for session in sessions))
            grown = await pool_with(client, healthy(2), PATIENCE_S)
            assert nodes(folder) == 2
            on = {each.session_id: each.actor_id for each in grown.sessions}
            async with viewed(sessions[0], client) as first, viewed(sessions[2], client) as last:
                for member in (first, last):
                    await play(member, clip)
                assert on[sessions[0].session_id] != on[sessions[2].session_id]
                await sessions[1].close()
                # One actor is enough for the two that are left.
                left = await pool_with(client, lambda pool: len(pool.actors) == 1, PATIENCE_S)
                assert {each.actor_id for each in left.sessions} == {left.actors[0].actor_id}
                moved = first if on[sessions[0].session_id] != left.actors[0].actor_id else last
                await moved.frames(24)
                assert len(moved.moved) == 1
                async with asyncio.timeout(PATIENCE_S):
                    while nodes(folder) != 1:  # noqa: ASYNC110 - a process ends
                        await asyncio.sleep(0.1)
                await asyncio.gather(first.frames(24), last.frames(24))
                assert first.seamless
                assert last.seamless
            for session in (sessions[0], sessions[2]):
                await session.close()
