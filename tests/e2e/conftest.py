"""The whole service, started once for all end-to-end tests of a kind, and what they play."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from sana_gateway import Client
from tests.e2e import spread
from tests.e2e.driving import FULL_SIZE, SIMULATED
from tests.media.clips import Recipe, make
from tests.stack import Stack, serving


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Spreads the tests over workers; see `tests.e2e.spread`."""
    return spread.scheduler(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts the tests that take longest first, where workers share them."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: spread.rank(item.nodeid))


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The service as `make demo` runs it: Ray, `painter`, WebRTC, gRPC."""
    with serving("--model", "painter") as running:
        yield running


@pytest.fixture(scope="session")
def simulated() -> Iterator[Stack]:
    """The service with the model that writes a frame marker, without Ray."""
    with serving(*SIMULATED) as running:
        yield running


@pytest.fixture(scope="session")
def full_size() -> Iterator[Stack]:
    """The same with pictures of the size that users see."""
    with serving(*FULL_SIZE) as running:
        yield running


@pytest.fixture
async def client(simulated: Stack) -> AsyncIterator[Client]:
    """A client of the service without Ray."""
    async with Client(simulated.grpc_address) as connected:
        yield connected


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 40 frames: a window of 33 and one of 7."""
    return make(tmp_path_factory.mktemp("clips") / "short.mp4", Recipe(frames=40))


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 81 frames, for what happens in the middle of a run: windows of 33, 24, 24."""
    return make(tmp_path_factory.mktemp("clips") / "long.mp4", Recipe(frames=81))
