"""The whole service, started once for all end-to-end tests of a kind, and what they play."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
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
def simulated(begin_roles: Callable[[], Future[Roles]]) -> Iterator[Stack]:
    """The service with the model that writes a frame marker, without Ray."""
    with serving(*SIMULATED) as running:
        # From here on there is time: most of the tests on this service only wait.
        begin_roles()
        yield running


@pytest.fixture(scope="session")
def begin_roles(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[], Future[Roles]]]:
    """Starts the roles in the background, once: they take their time, most of it waiting."""
    python = ROOT / ".venvs/gateway/bin/python"
    with contextlib.ExitStack() as running, ThreadPoolExecutor(1) as thread:

        @functools.cache
        def begin() -> Future[Roles]:
            roles = running_roles(python, tmp_path_factory.mktemp("roles"))
            return thread.submit(running.enter_context, roles)

        yield begin


@pytest.fixture
def roles(begin_roles: Callable[[], Future[Roles]]) -> Roles:
    """Head, actor and gateway in processes of their own."""
    require(".venvs/gateway/bin/python")
    return begin_roles().result()


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
