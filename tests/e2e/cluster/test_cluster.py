"""Three hosts, mutual TLS between them: one is cut off and returns, one is told to end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.actors import actors as actors_command
from sana_gateway import Client, Session
from tests.e2e.cluster.cluster import (
    FRAMES,
    PATIENCE_S,
    Cluster,
    running_cluster,
    seen_to_the_end,
    staged,
)
from tests.e2e.cluster.hosts import Host
from tests.e2e.driving import watching
from tests.e2e.pool.victims import healthy, pool_with, serving
from tests.media.clips import Recipe, make

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with running_cluster(tmp_path / "storage") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("clips") / "clip.mp4", Recipe(frames=FRAMES))


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    async with Client(cluster.address) as client, asyncio.timeout(PATIENCE_S * 2):
        await pool_with(client, healthy(2), PATIENCE_S)
        yield client


async def host_of(cluster: Cluster, client: Client, session: Session) -> Host:
    pool = await client.describe_pool()
    [actor_id] = [x.actor_id for x in pool.sessions if x.session_id == session.session_id]
    [address] = [actor.host for actor in pool.actors if actor.actor_id == actor_id]
    return next(host for host in cluster.hosts if host.address == address)


async def test_a_session_goes_on_while_its_host_is_cut_off_and_the_host_is_used_again(
    cluster: Cluster, client: Client, clip: Path
) -> None:
    session, told = await staged(client, clip)
    async with watching(client, session) as screen:
        await session.start()
        await told.until_told("chunk_complete", 2)
        host = await host_of(cluster, client, session)
        host.cut_off()
        await told.until_told("session_moved")
        other = await host_of(cluster, client, session)
        assert other.address != host.address
        numbers = await seen_to_the_end(screen, told)
    # The half-dead actor has added none, and what it had announced and never sent came anew.
    assert numbers == list(range(FRAMES))
    assert told.ended == []
    host.reconnect()
    pool = await pool_with(client, healthy(2), PATIENCE_S)
    assert {actor.host for actor in serving(pool)} == set(cluster.actors)
    await session.close()


async def test_a_host_that_is_told_to_end_hands_its_session_over_first(
    cluster: Cluster, client: Client, clip: Path
) -> None:
    session, told = await staged(client, clip)
    async with watching(client, session) as screen:
        await session.start()
        await told.until_told("chunk_complete", 2)
        host = await host_of(cluster, client, session)
        leaving = cluster.actors[host.address]
        leaving.process.send_signal(signal.SIGTERM)
        await told.until_told("session_moved")
        assert await asyncio.to_thread(leaving.process.wait, PATIENCE_S) == 0
        assert await seen_to_the_end(screen, told) == list(range(FRAMES))
    assert (await host_of(cluster, client, session)).address != host.address
    await session.close()


async def test_an_actor_is_drained_from_the_command_line(
    cluster: Cluster, client: Client, clip: Path
) -> None:
    session, told = await staged(client, clip)
    async with watching(client, session) as screen:
        await session.start()
        await told.until_told("chunk_complete", 2)
        pool = await client.describe_pool()
        [busy] = [actor.actor_id for actor in pool.actors if actor.sessions]
        words = ["drain", busy, "--grace", "60s", "--address", cluster.address]
        result = await asyncio.to_thread(CliRunner().invoke, actors_command, words)
        assert (result.exit_code, result.stdout) == (0, f"{busy} is empty\n")
        assert await seen_to_the_end(screen, told) == list(range(FRAMES))
    pool = await pool_with(client, healthy(2), PATIENCE_S)
    assert busy not in [actor.actor_id for actor in pool.actors]
    await session.close()
