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
from tests.e2e.pool.scenarios import Site, play

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.fixture
async def fleet(client: Client, minute: Path) -> AsyncIterator[Fleet]:
    async with playing(client, "simulated", minute, SESSIONS, decode=True) as members:
        yield members


@pytest.mark.parametrize("scenario", ["kill_actor", "stop_actor", "drain_actor"])
async def test_viewers_see_every_frame_once_whatever_becomes_of_an_actor(
    site: Site, fleet: Fleet, scenario: str
) -> None:
    outcome = await play(scenario, site, fleet)
    assert outcome.faults == []
    assert outcome.decoded > 0
    assert set(outcome.continuity) == {"EXACT"}


async def test_nobody_notices_that_the_scheduler_was_killed(site: Site, fleet: Fleet) -> None:
    outcome = await play("kill_scheduler", site, fleet)
    assert outcome.faults == []
    assert outcome.decoded > 0
    assert not outcome.continuity
