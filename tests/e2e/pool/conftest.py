"""The pool that is harmed, one service for all of these tests, and what it plays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sana_gateway import Client
from tests.e2e.pool.__main__ import SIZE, options_of
from tests.e2e.pool.gateways import Gateway, behind_gateways
from tests.e2e.pool.scenarios import Site
from tests.e2e.pool.victims import healthy, pool_with
from tests.media.clips import Recipe, make
from tests.stack import Stack

ACTORS = 2
SESSIONS = 3


@pytest.fixture(scope="package")
def split() -> Iterator[tuple[Stack, list[Gateway]]]:
    """A head with two actors, each with room for all, and two gateways before it."""
    with behind_gateways([*options_of(ACTORS, SESSIONS + 1), "--journal"], 2) as running:
        yield running


@pytest.fixture(scope="package")
def pool(split: tuple[Stack, list[Gateway]]) -> Stack:
    """The scheduler and the actors."""
    return split[0]


@pytest.fixture(scope="package")
def gateways(split: tuple[Stack, list[Gateway]]) -> list[Gateway]:
    """The gateways."""
    return split[1]


@pytest.fixture(scope="package")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip that lasts longer than a test."""
    width, height = SIZE
    recipe = Recipe(frames=24 * 90, width=width, height=height)
    return make(tmp_path_factory.mktemp("pool") / "minute.mp4", recipe)


@pytest.fixture
async def client(gateways: list[Gateway]) -> AsyncIterator[Client]:
    """A client of the first gateway, once all actors serve."""
    async with Client(gateways[0].address) as connected:
        await pool_with(connected, healthy(ACTORS))
        yield connected


@pytest.fixture
def site(pool: Stack, gateways: list[Gateway], client: Client) -> Site:
    """The pool, to do something to it or to its first gateway."""
    return Site(pool, client, gateways[0].revive)


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    """What a test opens; closed after it, the newest first."""
    async with AsyncExitStack() as stack:
        yield stack
