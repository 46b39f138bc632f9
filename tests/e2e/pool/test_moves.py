"""Sessions on their way from one actor to another, and what happens to them on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from sana_gateway import Client
from tests.e2e.driving import WAIT_S
from tests.e2e.pool.__main__ import SIZE
from tests.e2e.pool.conftest import ACTORS, SESSIONS
from tests.e2e.pool.fleet import Fleet, playing
from tests.e2e.pool.scenarios import (
    Outcome,
    Scenario,
    drain_actor,
    kill_actor,
    kill_scheduler_amid,
    kill_target,
    roll,
    terminate_actor,
)
from tests.e2e.pool.victims import busiest, gone, process_of
from tests.stack import Stack

GRACE = timedelta(seconds=23)
"""Of a drain: 3 s longer than the reserve in which its last sessions are parked."""
PLACES = SESSIONS + 1
"""Of each actor."""

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.fixture
async def pair(client: Client, minute: Path) -> AsyncIterator[Fleet]:
    """Two sessions that play a clip."""
    async with playing(client, "simulated", minute, 2, decode=True) as members:
        yield members


@pytest.fixture
async def live(client: Client, minute: Path) -> AsyncIterator[Fleet]:
    """A session that shows a camera."""
    async with playing(client, "simulated", minute, 1, decode=True, live=SIZE) as members:
        yield members


def unharmed(outcome: Outcome) -> None:
    """Checks that every frame came once, and was what it said."""
    assert outcome.lost == []
    assert outcome.decoded > 0
    assert (outcome.missing, outcome.repeated, outcome.mismatched) == (0, 0, 0), outcome


@pytest.mark.parametrize(
    "deed",
    [
        pytest.param(terminate_actor, marks=pytest.mark.slow),
        pytest.param(roll, marks=pytest.mark.slow),
        pytest.param(kill_target, marks=pytest.mark.slow),
        pytest.param(kill_scheduler_amid, marks=pytest.mark.slow),
    ],
)
async def test_no_frame_is_missed_whatever_happens_on_the_way(
    pool: Stack, client: Client, pair: Fleet, deed: Scenario
) -> None:
    outcome = await deed(pool, client, pair, 1)
    unharmed(outcome)
    assert set(outcome.continuity) == {"EXACT"}


async def test_a_live_session_of_a_killed_actor_goes_on_at_the_live_edge(
    pool: Stack, client: Client, live: Fleet
) -> None:
    (member,) = live.members
    outcome = await kill_actor(pool, client, live, 1)
    unharmed(outcome)
    assert member.seamless
    assert set(outcome.continuity) == {"LIVE_EDGE"}


@pytest.mark.slow
async def test_a_paused_live_session_of_a_killed_actor_waits_elsewhere_and_goes_on(
    pool: Stack, client: Client, live: Fleet
) -> None:
    (member,) = live.members
    await member.session.pause()
    await member.session.wait_for(lambda state: state.paused and not state.running, WAIT_S)
    victim = process_of(pool, await busiest(client))
    victim.kill()
    await gone(victim)
    await member.until(lambda: member.moved)
    assert member.session.state is not None
    assert member.session.state.paused
    await member.session.resume()
    await member.frames(48)
    assert member.seamless
    assert (member.errors, live.lost) == ([], [])


async def test_without_room_elsewhere_a_session_stays_and_is_parked_in_the_end(
    client: Client, minute: Path, opened: AsyncExitStack
) -> None:
    fleet = await opened.enter_async_context(playing(client, "simulated", minute, 1, decode=True))
    (member,) = fleet.members
    chosen = await busiest(client)
    for _ in range(ACTORS * PLACES - 1):
        await opened.enter_async_context(await client.create_session("simulated"))

    async def drain() -> list[int]:
        told = client.drain_actor(chosen.actor_id, grace=GRACE)
        return [progress.without_room async for progress in told]

    draining = asyncio.create_task(drain())
    await member.session.wait_for(lambda state: state.awaiting_room, WAIT_S)
    await member.frames(12)
    assert max(await draining) == PLACES
    await member.frames(48)
    assert member.session.state is not None
    assert not member.session.state.awaiting_room
    assert member.seamless
    assert (member.mismatched, fleet.lost) == (0, [])


async def test_a_live_session_is_drained_without_a_missed_frame(
    pool: Stack, client: Client, live: Fleet
) -> None:
    (member,) = live.members
    outcome = await drain_actor(pool, client, live, 1)
    unharmed(outcome)
    assert member.seamless
    assert set(outcome.continuity) == {"EXACT"}
