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
from tests.e2e.pool.scenarios import Site, kill, play
from tests.e2e.pool.usage import metered_exactly

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


async def test_clients_of_a_killed_gateway_go_on_at_the_next_one(site: Site, fleet: Fleet) -> None:
    outcome = await play("kill_gateway", site, fleet)
    assert outcome.faults == []
    for each in fleet.members:
        await each.session.set_prompt("it takes commands")
        assert each.errors == []
    await metered_exactly(site.client, fleet)


async def test_an_actor_and_a_gateway_may_die_together(site: Site, fleet: Fleet) -> None:
    await asyncio.gather(kill([await site.victim()]), site.revive())
    await fleet.all_after(time.monotonic())
    for each in fleet.members:
        await each.frames(30)
        # Where the picture stood died with the gateway: some of it comes again.
        assert each.numbers.lost == 0
    assert fleet.lost == []
    assert [each.mismatched for each in fleet.members] == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["drain_actor", "kill_actor"])
async def test_viewers_at_two_gateways_miss_nothing(
    site: Site, other: Client, fleet: Fleet, opened: AsyncExitStack, scenario: str
) -> None:
    others = []
    for each in fleet.members:
        session = await other.attach(each.session.session_id)
        view = viewed(session, other, decode=True)
        others.append(await opened.enter_async_context(view))
    both = Fleet([*fleet.members, *others])
    await both.all_after(time.monotonic())
    outcome = await play(scenario, site, both)
    assert outcome.faults == []
    assert all(each.seamless for each in both.members)
