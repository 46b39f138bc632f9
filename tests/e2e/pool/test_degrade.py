"""A full pool admits sessions at fewer frames a second, and gives them all when there is room."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from sana_gateway import Client, Session
from sana_gateway.v1 import pool_pb2
from tests.e2e.driving import WAIT_S, Camera, publishing, stage
from tests.e2e.pool.__main__ import SIZE, options_of
from tests.e2e.pool.fleet import Member, viewed
from tests.stack import Stack, serving

pytestmark = pytest.mark.e2e

FULL_US, LOW_US = 1_000_000 / 24, 1_000_000 / 16
"""From one frame to the next."""


@pytest.fixture(scope="module")
def pool() -> Iterator[Stack]:
    """One actor, whose compute carries one session at 24 frames a second and one at 16."""
    degraded = ("chunk_ms=500", "degraded_rates=2/3")
    words = [word for each in degraded for word in ("--model-option", each)]
    with serving(*options_of(1, 4), *words, "--degrade", "--backend", "in-process") as running:
        yield running


@pytest.fixture
async def client(pool: Stack) -> AsyncIterator[Client]:
    async with Client(pool.grpc_address) as connected:
        yield connected


async def rate_share(client: Client, session: Session) -> float:
    pool = await client.describe_pool()
    return next(each.rate_share for each in pool.sessions if each.session_id == session.session_id)


async def playing(client: Client, clip: Path, opened: AsyncExitStack) -> Member:
    """Starts a clip, and watches it."""
    session = await client.create_session("simulated")
    opened.push_async_callback(session.close)
    member = await opened.enter_async_context(viewed(session, client))
    await stage(session, clip)
    await session.start()
    await member.frames(1)
    return member


def periods(member: Member, count: int) -> list[int]:
    """Returns the times between the newest frames, as they were due."""
    return [after - before for before, after in pairwise(member.due_us[-count:])]


async def test_a_clip_is_shown_more_slowly_and_at_full_speed_once_it_books_again(
    client: Client, minute: Path, opened: AsyncExitStack
) -> None:
    first = await playing(client, minute, opened)
    second = await playing(client, minute, opened)
    assert second.session.state is not None
    assert second.session.state.degraded_frame_rate == 16.0
    assert await rate_share(client, second.session) == pytest.approx(2 / 3)
    third = await client.create_session("simulated", wait=False)
    opened.push_async_callback(third.close)
    assert (await client.describe_pool()).sessions[0].state == pool_pb2.LEASE_STATE_QUEUED
    await second.frames(24)
    assert periods(second, 24) == pytest.approx([LOW_US] * 23, abs=1)
    assert first.session.state is not None
    assert first.session.state.degraded_frame_rate == 0
    assert periods(first, 24) == pytest.approx([FULL_US] * 23, abs=1)
    await third.close()
    await first.session.close()
    await second.session.pause()
    await second.session.wait_for(lambda state: state.paused and not state.running, WAIT_S)
    await second.session.resume()
    resumed = await second.session.wait_for(lambda state: state.running, WAIT_S)
    assert resumed.degraded_frame_rate == 0
    # What was made before the pause is shown at the rate it was made for.
    await second.frames(48)
    assert periods(second, 24) == pytest.approx([FULL_US] * 23, abs=1)
    assert second.seamless, "every frame once"
    assert second.shown[0] == (1, 0)


async def test_a_camera_is_resampled_and_gets_its_rate_back_by_itself(
    client: Client, minute: Path, opened: AsyncExitStack
) -> None:
    first = await playing(client, minute, opened)
    session = await client.create_session("simulated")
    opened.push_async_callback(session.close)
    second = await opened.enter_async_context(viewed(session, client))
    await opened.enter_async_context(publishing(session, Camera("h264", *SIZE), "h264"))
    await session.set_prompt("a camera")
    await session.start()
    await second.frames(24)
    assert session.state is not None
    assert session.state.degraded_frame_rate == 16.0
    assert periods(second, 24) == pytest.approx([LOW_US] * 23, abs=1)
    await first.session.close()
    await session.wait_for(lambda state: state.degraded_frame_rate == 0, WAIT_S)
    assert await rate_share(client, session) == 1.0
    await second.frames(72)
    assert periods(second, 24) == pytest.approx([FULL_US] * 23, abs=1)
    assert second.seamless, "every frame once"
