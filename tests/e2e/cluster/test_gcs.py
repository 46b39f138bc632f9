"""The head dies: with its state in Redis, sessions stream on; without, actors join the next."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sana_gateway import Client, RetryPolicy
from sana_gateway.v1 import pool_pb2
from tests.e2e.cluster.cluster import (
    FRAMES,
    PATIENCE_S,
    cluster_of,
    head_on,
    identity,
    seen_to_the_end,
    staged,
)
from tests.e2e.cluster.hosts import Host, hosts
from tests.e2e.driving import watching
from tests.e2e.pool.victims import healthy, pool_with, serving
from tests.media.clips import Recipe, make
from tests.required import require_command
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

REDIS_PORT = 6380


@contextmanager
def redis_on(host: Host, folder: Path) -> Iterator[dict[str, str]]:
    """Runs Redis on a host; yields the variables of a head that uses it."""
    server = require_command("redis-server", "install Debian's redis-server")
    command = [
        *(*host.prefix, str(server), "--port", str(REDIS_PORT), "--bind", host.address),
        *("--protected-mode", "no", "--save", "", "--dir", str(folder)),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield {"RAY_REDIS_ADDRESS": f"{host.address}:{REDIS_PORT}"}
    finally:
        process.terminate()
        process.wait()


@contextmanager
def doomed_head(host: Host, env: Mapping[str, str], storage: Path) -> Iterator[Stack]:
    """Runs a head of which the test knows how it ends."""
    with suppress(RuntimeError), head_on(host, env, storage) as head:
        yield head


async def test_sessions_stream_on_while_ray_has_no_head_and_the_next_head_finds_them(
    tmp_path: Path,
) -> None:
    clip = make(tmp_path / "clip.mp4", Recipe(frames=FRAMES))
    own, storage = identity(tmp_path), tmp_path / "storage"
    with (
        hosts(3) as made,
        redis_on(made[0], tmp_path) as redis,
        doomed_head(made[0], own | redis, storage) as first,
        cluster_of(first, made, own, storage) as cluster,
    ):
        async with Client(cluster.address) as client, asyncio.timeout(PATIENCE_S * 2):
            before = await pool_with(client, healthy(2), PATIENCE_S)
            session, told = await staged(client, clip)
            async with watching(client, session) as screen:
                await session.start()
                await told.until_told("chunk_complete", 2)
                [gcs] = [each for each in first.members() if "gcs_server" in each.name()]
                gcs.kill()
                assert await asyncio.to_thread(first.process.wait, PATIENCE_S) == 2
                assert "start the head again" in first.last_words
                with head_on(made[0], own | redis, storage):
                    assert await seen_to_the_end(screen, told) == list(range(FRAMES))
                    assert told.ended == []
                    after = await pool_with(client, healthy(2), PATIENCE_S)
                    assert ids(after) == ids(before)
                    assert session.session_id in [each.session_id for each in after.sessions]
                    another, _ = await staged(client, clip)
                    await another.close()
                    await session.close()


async def test_actors_join_the_next_head_where_ray_has_forgotten_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How long a node goes on without Ray's control process; 60 s.
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "10")
    own, storage = identity(tmp_path), tmp_path / "storage"
    with (
        hosts(3) as made,
        doomed_head(made[0], own, storage) as first,
        cluster_of(first, made, own, storage) as cluster,
    ):
        patient = RetryPolicy(window=PATIENCE_S)
        async with (
            Client(cluster.address, policy=patient) as client,
            asyncio.timeout(PATIENCE_S * 2),
        ):
            before = await pool_with(client, healthy(2), PATIENCE_S)
            first.kill()
            with head_on(made[0], own, storage):
                # They are of use until Ray, which has forgotten them, ends them.
                await pool_with(client, healthy(2), PATIENCE_S)
                await pool_with(client, lambda pool: is_renewed(pool, before), PATIENCE_S)


def is_renewed(pool: pool_pb2.DescribePoolResponse, before: pool_pb2.DescribePoolResponse) -> bool:
    return len(serving(pool)) == 2 and ids(pool).isdisjoint(ids(before))


def ids(pool: pool_pb2.DescribePoolResponse) -> set[str]:
    return {actor.actor_id for actor in pool.actors}
