"""Actors, the scheduler and whole GPUs go; every viewer sees every frame, once.

The same scenarios at full size: `python -m tests.e2e.pool --help`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sana_gateway import Client
from tests.e2e.pool.conftest import SESSIONS
from tests.e2e.pool.fleet import Fleet, playing
from tests.e2e.pool.scenarios import (
    Outcome,
    drain_actor,
    kill_actor,
    kill_scheduler,
    stop_actor,
)
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


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
    outcome = await kill_actor(pool, client, fleet, 1)
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
