"""A full pool admits sessions with fewer steps, and gives them all when there is room."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from sana_gateway import Client
from sana_gateway.v1 import pool_pb2
from tests.e2e.driving import WAIT_S, stage
from tests.e2e.pool.__main__ import SIZE, options_of
from tests.e2e.pool.fleet import Member, viewed
from tests.media.clips import Picture
from tests.stack import Stack, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FULL_US = 1_000_000 / 24
STEPS = 2


@pytest.fixture(scope="module")
def pool() -> Iterator[Stack]:
    """One actor, whose compute carries one session with all steps and one with fewer."""
    model = ("chunk_ms=500", f"degraded_steps={STEPS}:300", "video=encoded")
    words = [word for each in model for word in ("--model-option", each)]
    with serving(*options_of(1, 4), *words, "--degrade", "--backend", "in-process") as running:
        yield running


@pytest.fixture
async def client(pool: Stack) -> AsyncIterator[Client]:
    async with Client(pool.grpc_address) as connected:
        yield connected


async def entry(client: Client, member: Member) -> pool_pb2.PooledSession:
    """Returns a session as operators see it."""
    wanted, pool = member.session.session_id, await client.describe_pool()
    return next(each for each in pool.sessions if each.session_id == wanted)


async def playing(client: Client, clip: Path, opened: AsyncExitStack) -> Member:
    """Starts a clip, and watches it."""
    session = await client.create_session("simulated")
    opened.push_async_callback(session.close)
    member = await opened.enter_async_context(viewed(session, client, keep=True))
    await stage(session, clip)
    await session.start()
    await member.frames(1)
    return member


def contrast(picture: Picture) -> float:
    """Returns how strongly the source shows, beside the counter and below the marker."""
    width, height = SIZE
    return float(picture[height // 2 : height, : width // 8].std())


async def test_a_clip_is_made_with_fewer_steps_and_with_all_once_there_is_room(
    client: Client, minute: Path, opened: AsyncExitStack
) -> None:
    first = await playing(client, minute, opened)
    second = await playing(client, minute, opened)
    assert second.session.state is not None
    assert first.session.state is not None
    assert second.session.state.degraded_steps == STEPS
    assert second.session.state.degraded_frame_rate == 0, "all frames are shown, in their time"
    assert first.session.state.degraded_steps == 0
    seen = await entry(client, second)
    assert (seen.steps, seen.rate_share) == (STEPS, 1.0)
    [actor] = (await client.describe_pool()).actors
    assert actor.booked_ms_per_s <= actor.ceiling_ms_per_s
    await second.frames(24)
    periods = [after - before for before, after in pairwise(second.due_us[-24:])]
    assert periods == pytest.approx([FULL_US] * 23, abs=1)
    await first.reached(second.newest)
    faint, whole = (each.picture(second.newest - 1) for each in (second, first))
    assert contrast(faint) < 0.75 * contrast(whole)
    await first.session.close()
    await second.session.wait_for(lambda state: state.degraded_steps == 0, WAIT_S)
    assert (await entry(client, second)).steps == 0
    await second.frames(72)
    assert contrast(second.picture(second.newest - 1)) > 1.3 * contrast(faint)
    assert second.seamless, "every frame once"
    assert second.mismatched == 0
