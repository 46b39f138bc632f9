"""One service for all of the suite, with everything that it has: workers, recordings, keys."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.driving import SIMULATED
from tests.e2e.isolation.callers import Keyring
from tests.e2e.isolation.world import NAME, PROMPT, World, inhabited
from tests.stack import serving


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> AsyncIterator[World]:
    """The service and its inhabitants. What they brought is in no log when they have gone."""
    folder = tmp_path_factory.mktemp("isolation")
    keyring = Keyring(folder)
    kept = folder / "clip.mp4"
    kept.write_bytes(clip.read_bytes())
    options = (
        *SIMULATED,
        *("--model-option", "chunk_ms=1", "--model-option", "resident_slots=64"),
        *("--auth", "api-key", "--api-keys", str(keyring.file)),
        *("--media-workers", "2", "--recording", "--journal"),
        # Nothing is to happen to what the owner has but by somebody's doing.
        *("--reconnect-window", "10m", "--park-after", "never", "--park-detached-after", "10m"),
    )
    # Bad tokens by the hundred, from one address, are what the suite is about.
    env = {"XDG_STATE_HOME": str(keyring.state), "SANA_GATEWAY_RATES__ENABLED": "off"}
    with serving(*options, env=env) as running:
        async with inhabited(running, keyring, kept) as made:
            yield made
        logged = running.log.read_text()
    private = [PROMPT, NAME, NAME[:-4], *keyring.keys.values(), made.victim.capability]
    assert not [each for each in private if each in logged]
    assert not re.search(r"eyJ\w{10}", logged), "no token is logged"


@pytest_asyncio.fixture(loop_scope="module")
async def unharmed(world: World) -> AsyncIterator[None]:
    """Whatever a test does, the owner sees nothing of it; and no log line of that time names what
    is the owner's.
    """
    before, size = await world.standing(), world.stack.log.stat().st_size
    yield
    assert await world.standing() == before
    with world.stack.log.open("rb") as log:
        log.seek(size)
        lines = log.read().decode(errors="replace").splitlines()
    assert not [line for line in lines if any(each in line for each in world.victim.ids)]
