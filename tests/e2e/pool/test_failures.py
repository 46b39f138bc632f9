"""Actors, the scheduler and whole GPUs go; every viewer sees every frame, once.

The same scenarios at full size: `python -m tests.e2e.pool --help`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sana_gateway import Client
from tests.e2e.pool.__main__ import SIZE, options_of
from tests.e2e.pool.fleet import Fleet, playing
from tests.e2e.pool.scenarios import (
    Outcome,
    drain_actor,
    kill_actor,
    kill_scheduler,
    stop_actor,
)
from tests.e2e.pool.victims import healthy, pool_with
from tests.media.clips import Recipe, make
from tests.stack import Stack, serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

ACTORS = 2
SESSIONS = 3


@pytest.fixture(scope="module")
def pool() -> Iterator[Stack]:
    """Two actors, each with room for all."""
    with serving(*options_of(ACTORS, SESSIONS + 1)) as running:
        yield running


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip that lasts longer than a scenario."""
    width, height = SIZE
    recipe = Recipe(frames=24 * 90, width=width, height=height)
    return make(tmp_path_factory.mktemp("pool") / "minute.mp4", recipe)


@pytest.fixture
async def client(pool: Stack) -> AsyncIterator[Client]:
    async with Client(pool.grpc_address) as connected:
        await pool_with(connected, healthy(ACTORS))
        yield connected


@pytest.fixture
async def fleet(client: Client, minute: Path) -> AsyncIterator[Fleet]:
    async with playing(client, "simulated", minute, SESSIONS, decode=True) as members:
        yield members


def unharmed(outcome: Outcome) -> bool:
    """Tells whether every frame came once, and was what it said."""
    assert outcome.decoded > 0
    return outcome.lost == [] and (outcome.missing, outcome.repeated, outcome.mismatched) == (
        0,
        0,
        0,
    )


async def test_sessions_of_a_killed_actor_go_on_elsewhere_frame_by_frame(
    pool: Stack, client: Client, fleet: Fleet
) -> None:
    outcome = await kill_actor(pool, client, fleet, 2)
    assert unharmed(outcome), outcome
    assert set(outcome.continuity) <= {"EXACT"}
    assert outcome.continuity


async def test_sessions_of_a_hung_actor_go_on_elsewhere(
    pool: Stack, client: Client, fleet: Fleet
) -> None:
    outcome = await stop_actor(pool, client, fleet, 1)
    assert unharmed(outcome), outcome


async def test_a_drained_actor_is_left_without_a_missed_frame(
    pool: Stack, client: Client, fleet: Fleet
) -> None:
    outcome = await drain_actor(pool, client, fleet, 1)
    assert unharmed(outcome), outcome


async def test_nobody_notices_that_the_scheduler_was_killed(
    pool: Stack, client: Client, fleet: Fleet
) -> None:
    outcome = await kill_scheduler(pool, client, fleet, 1)
    assert unharmed(outcome), outcome
    assert not outcome.continuity
