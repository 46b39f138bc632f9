"""The whole service, started once for all end-to-end tests of a kind, and what they play."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from sana_gateway import Client
from tests.e2e.driving import SIMULATED
from tests.e2e.roles import Roles, running_roles
from tests.media.clips import Recipe, make
from tests.required import ROOT, require
from tests.stack import Stack, serving


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


@pytest.fixture(scope="session", autouse=True)
def starting_roles(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Future[Roles] | None]:
    """Starts the roles, where a test needs them, while the tests before it run: they take
    their time, and most of it is waiting.
    """
    python = ROOT / ".venvs/gateway/bin/python"
    needed = any("roles" in getattr(item, "fixturenames", ()) for item in request.session.items)
    if not needed or not python.exists():
        yield None
        return
    with contextlib.ExitStack() as running, ThreadPoolExecutor(1) as thread:
        roles = running_roles(python, tmp_path_factory.mktemp("roles"))
        yield thread.submit(running.enter_context, roles)


@pytest.fixture
def roles(starting_roles: Future[Roles] | None) -> Roles:
    """Head, actor and gateway in processes of their own."""
    require(".venvs/gateway/bin/python")
    assert starting_roles is not None
    return starting_roles.result()


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
