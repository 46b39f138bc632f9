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
from tests.e2e.pool.outcome import Outcome
from tests.e2e.pool.scenarios import Site, kill, play
from tests.e2e.pool.victims import busiest

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
    assert outcome.faults == []
    assert outcome.decoded > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario", ["terminate_actor", "roll", "kill_target", "kill_scheduler_amid"]
)
async def test_no_frame_is_missed_whatever_happens_on_the_way(
    site: Site, pair: Fleet, scenario: str
) -> None:
    outcome = await play(scenario, site, pair)
    unharmed(outcome)
    assert set(outcome.continuity) == {"EXACT"}


async def test_a_live_session_of_a_killed_actor_goes_on_at_the_live_edge(
    site: Site, live: Fleet
) -> None:
    (member,) = live.members
    outcome = await play("kill_actor", site, live)
    unharmed(outcome)
    assert member.seamless
    assert set(outcome.continuity) == {"LIVE_EDGE"}


@pytest.mark.slow
async def test_a_paused_live_session_of_a_killed_actor_waits_elsewhere_and_goes_on(
    site: Site, live: Fleet
) -> None:
    (member,) = live.members
    await member.session.pause()
    await member.session.wait_for(lambda state: state.paused and not state.running, WAIT_S)
    await kill([await site.victim()])
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


async def test_a_live_session_is_drained_without_a_missed_frame(site: Site, live: Fleet) -> None:
    (member,) = live.members
    outcome = await play("drain_actor", site, live)
    unharmed(outcome)
    assert member.seamless
    assert set(outcome.continuity) == {"EXACT"}
