"""Actors, the scheduler and whole GPUs go; every viewer sees every frame, once.

The same scenarios at full size: `python -m tests.e2e.pool --help`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from model_actor.replay.command import Wishes, replayed
from model_actor.replay.comparing import Verdict
from model_actor.replay.reading import load
from sana_gateway import Client
from tests.e2e.pool.conftest import SESSIONS
from tests.e2e.pool.fleet import Fleet, Member, playing
from tests.e2e.pool.scenarios import Site, play
from tests.e2e.pool.usage import journal_of, metered_exactly

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.fixture
async def fleet(client: Client, minute: Path) -> AsyncIterator[Fleet]:
    async with playing(client, "simulated", minute, SESSIONS, decode=True) as members:
        yield members


@pytest.mark.parametrize("scenario", ["kill_actor", "stop_actor", "drain_actor"])
async def test_viewers_see_every_frame_once_whatever_becomes_of_an_actor(
    site: Site, fleet: Fleet, scenario: str, minute: Path, tmp_path: Path
) -> None:
    outcome = await play(scenario, site, fleet)
    assert outcome.faults == []
    assert outcome.decoded > 0
    assert set(outcome.continuity) == {"EXACT"}
    if scenario == "kill_actor":
        rows = await metered_exactly(site.client, fleet)
        # Windows that were computed again cost the operator, and nobody else.
        assert all(row.spent_us >= row.compute_us > 0 for row in rows)
        moved = next(each for each in fleet.members if each.moves)
        await made_again(site.client, moved, minute, tmp_path)


async def made_again(client: Client, member: Member, clip: Path, folder: Path) -> None:
    """Makes a session that went on at another actor again from its journal, bit for bit."""
    file = folder / "journal"
    file.write_bytes(await journal_of(client, member.session.session_id))
    prompts = [f"prompt {number}" for number in range(SESSIONS)]
    report = await replayed(load(file), Wishes(clip=clip, prompts=prompts))
    (run,) = report.runs
    assert report.verdict is Verdict.BIT_EQUAL, list(report.lines())
    assert run.compared + run.unknown >= sum(each.frames_emitted for each in member.completed)
    assert any("another actor" in note for note in run.notes)


async def test_nobody_notices_that_the_scheduler_was_killed(site: Site, fleet: Fleet) -> None:
    outcome = await play("kill_scheduler", site, fleet)
    assert outcome.faults == []
    assert outcome.decoded > 0
    assert not outcome.continuity
    await metered_exactly(site.client, fleet)
