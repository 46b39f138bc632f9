"""Gateways die, alone or with an actor, and sessions are seen through two of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sana_gateway import Client
from tests.e2e.pool.fleet import Fleet, playing, viewed
from tests.e2e.pool.gateways import Gateway
from tests.e2e.pool.scenarios import Scenario, drain_actor, kill_actor, kill_gateway
from tests.e2e.pool.victims import busiest, gone, process_of
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.fixture
async def other(gateways: list[Gateway]) -> AsyncIterator[Client]:
    """A client of the second gateway."""
    async with Client(gateways[1].address) as connected:
        yield connected


@pytest.fixture
async def fleet(client: Client, minute: Path) -> AsyncIterator[Fleet]:
    """Two sessions of the first gateway."""
    async with playing(client, "simulated", minute, 2, decode=True) as members:
        yield members


async def test_clients_of_a_killed_gateway_go_on_at_the_next_one(
    pool: Stack, gateways: list[Gateway], client: Client, fleet: Fleet
) -> None:
    outcome = await kill_gateway(gateways[0].revive)(pool, client, fleet, 1)
    assert outcome.lost == []
    assert outcome.mismatched == 0
    # What was on its way to a client may be missing or come again: a frame, not more.
    assert outcome.missing + outcome.repeated <= len(fleet.members)
    for each in fleet.members:
        await each.session.set_prompt("it takes commands")
        assert each.errors == []


async def test_an_actor_and_a_gateway_may_die_together(
    pool: Stack, gateways: list[Gateway], client: Client, fleet: Fleet
) -> None:
    victim = process_of(pool, await busiest(client))
    victim.kill()
    await asyncio.gather(gone(victim), gateways[0].revive())
    await fleet.all_after(time.monotonic())
    for each in fleet.members:
        await each.frames(30)
        # Where the picture stood died with the gateway: some of it comes again.
        assert each.ledger.report().missing == 0
    assert fleet.lost == []
    assert [each.mismatched for each in fleet.members] == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("deed", [drain_actor, kill_actor])
async def test_viewers_at_two_gateways_miss_nothing(
    pool: Stack,
    client: Client,
    other: Client,
    fleet: Fleet,
    opened: AsyncExitStack,
    deed: Scenario,
) -> None:
    others = []
    for each in fleet.members:
        session = await other.attach(each.session.session_id)
        view = viewed(session, other, decode=True)
        others.append(await opened.enter_async_context(view))
    both = Fleet([*fleet.members, *others])
    await both.all_after(time.monotonic())
    outcome = await deed(pool, client, both, 1)
    assert outcome.lost == []
    assert (outcome.missing, outcome.repeated, outcome.mismatched) == (0, 0, 0)
    assert all(each.seamless for each in both.members)
