"""`serve --storage s3`: uploads, states of parked sessions and recordings lie in a bucket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from sana_gateway import Client
from sana_gateway.v1 import pool_pb2
from scheduler.kept_names import folder_of
from scheduler.process.s3_storage import S3Storage
from tests import logs
from tests.e2e.driving import polled, stage
from tests.e2e.pool.fleet import viewed
from tests.e2e.pool.test_storing import in_memory
from tests.e2e.reactor.test_clips import fetched, markers
from tests.media.clips import Recipe, make
from tests.seaweed import BUCKET, KEYS, seaweed
from tests.stack import Stack, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(180)]

PREFIX = "service"


@dataclass(frozen=True)
class Stored:
    """A service, and where its bucket is."""

    stack: Stack
    endpoint: str


async def exists(endpoint: str) -> None:
    """Makes the bucket: the service begins with one that is there."""
    storage = S3Storage(BUCKET, prefix="first", endpoint=endpoint)
    await storage.put("object", b"x")
    await storage.close()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """A service that records, and soon stores what it keeps of parked sessions; in a bucket that
    exists.
    """
    model = ("chunk_ms=50", "resident_slots=2", "size=160x88")
    logs.forbid(KEYS["AWS_SECRET_ACCESS_KEY"])
    with seaweed(tmp_path_factory.mktemp("weed")) as endpoint, pytest.MonkeyPatch.context() as env:
        for name, value in KEYS.items():
            env.setenv(name, value)
        asyncio.run(exists(endpoint))
        bucket = (f"bucket={BUCKET}", f"prefix={PREFIX}", f"endpoint={endpoint}")
        with serving(
            *("--model", "simulated", "--backend", "in-process"),
            *(word for each in model for word in ("--model-option", each)),
            *("--park-after", "1s", "--park-detached-after", "500ms", "--store-after", "1s"),
            *("--reconnect-window", "60s", "--recording", "--storage", "s3"),
            *(word for each in bucket for word in ("--storage-option", each)),
        ) as running:
            yield Stored(running, endpoint)


@pytest.fixture
async def bucket(stored: Stored) -> AsyncIterator[S3Storage]:
    """The same storage, seen from outside."""
    storage = S3Storage(BUCKET, prefix=PREFIX, endpoint=stored.endpoint)
    yield storage
    await storage.close()


async def test_uploads_parked_sessions_and_recordings_lie_in_the_bucket(
    stored: Stored, bucket: S3Storage, tmp_path: Path
) -> None:
    clip = make(tmp_path / "clip.mp4", Recipe(frames=24 * 60, width=160, height=88))
    async with (
        Client(stored.stack.grpc_address) as client,
        aiohttp.ClientSession(stored.stack.http_url) as http,
        AsyncExitStack() as opened,
    ):
        session = await opened.enter_async_context(await client.create_session("simulated"))
        session_id = session.session_id
        member = await opened.enter_async_context(viewed(session, client, decode=True))
        await stage(session, clip)
        assert len(await bucket.names(session_id, "", 10)) == 1, "the upload"
        await session.start()
        await member.frames(40)

        await session.pause()

        async def is_parked() -> bool:
            pool = await client.describe_pool()
            states = {each.session_id: each.state for each in pool.sessions}
            return states.get(session_id) == pool_pb2.LEASE_STATE_PARKED

        await polled(is_parked)

        async def is_stored() -> bool:
            kept = await bucket.names(folder_of(session_id), "", 10)
            return "index" in kept and not in_memory(stored.stack)

        await polled(is_stored)
        await session.resume()
        await member.frames(30)
        assert member.seamless
        assert member.mismatched == 0
        assert {each.continuity for each in member.moved} == {1}, "it goes on exactly"
        shown = member.newest

        await session.close()

        async def is_gone() -> bool:
            left = [await bucket.names(each, "", 10) for each in (session_id, "kept")]
            return not any(left)

        await polled(is_gone)
        served = await fetched(http, f"/clips?session_id={session_id}&start=0&end={shown / 24}")
    assert await bucket.names("recordings", "", 10) == [session_id]
    film = tmp_path / "recording.mp4"
    film.write_bytes(served.header + b"".join(served.segments))
    frames = [each.frame for each in markers(film)]
    assert frames == list(range(len(frames))), "every frame once, from the first on"
    assert len(frames) > shown - 24, "to where it ended, but for a segment"
