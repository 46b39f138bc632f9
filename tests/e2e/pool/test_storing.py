"""What is kept of a session on no actor: in the host's memory, then in the storage, then gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import pytest

from sana_gateway import Client, Session
from sana_gateway.v1 import pool_pb2
from tests.e2e.driving import polled, stage
from tests.e2e.pool.fleet import Member, viewed
from tests.stack import Stack, serving

pytestmark = pytest.mark.e2e

HOST = Path("/dev/shm")  # noqa: S108 - where the service keeps states


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage."""
    return tmp_path_factory.mktemp("storage")


@pytest.fixture(scope="module")
def storing(root: Path) -> Iterator[Stack]:
    """A service that soon stores what it keeps of parked sessions."""
    model = {"chunk_ms": "50", "resident_slots": "2", "size": "160x88"}
    options = [
        word for name, value in model.items() for word in ("--model-option", f"{name}={value}")
    ]
    with serving(
        *("--model", "simulated", "--backend", "in-process", *options),
        *("--park-after", "1s", "--park-detached-after", "500ms", "--store-after", "1s"),
        *("--reconnect-window", "60s", "--storage-root", str(root)),
    ) as running:
        yield running


def in_memory(stack: Stack) -> list[Path]:
    """Returns what the service keeps in the host's memory."""
    pids = {each.pid for each in stack.members() if each.is_running()} | {stack.process.pid}
    folders = [path for path in HOST.glob("sana-gateway-*/*") if _owner(path) in pids]
    assert folders
    return [file for folder in folders for file in folder.iterdir()]


def _owner(folder: Path) -> int:
    pid = folder.name.partition("-")[0]
    return int(pid) if pid.isdigit() and psutil.pid_exists(int(pid)) else 0


async def parked(client: Client, opened: AsyncExitStack, clip: Path) -> tuple[Session, Member]:
    """Plays, pauses, and waits until the session is parked."""
    session = await opened.enter_async_context(await client.create_session("simulated"))
    member = await opened.enter_async_context(viewed(session, client, decode=True))
    await stage(session, clip)
    await session.start()
    await member.frames(40)
    await session.pause()
    wanted = (session.session_id, pool_pb2.LEASE_STATE_PARKED)

    async def look() -> bool:
        pool = await client.describe_pool()
        return wanted in [(each.session_id, each.state) for each in pool.sessions]

    await polled(look)
    return session, member


async def test_a_parked_session_is_stored_goes_on_and_leaves_nothing(
    storing: Stack, root: Path, opened: AsyncExitStack, minute: Path
) -> None:
    client = await opened.enter_async_context(Client(storing.grpc_address))
    session, member = await parked(client, opened, minute)

    async def stored() -> bool:
        return bool(list(root.glob("kept/*/index"))) and not in_memory(storing)

    await polled(stored)
    await session.resume()
    await member.frames(30)
    assert member.seamless
    assert member.mismatched == 0
    assert {each.continuity for each in member.moved} == {1}, "it goes on exactly"

    await session.pause()
    await polled(stored)
    await session.close()

    async def gone() -> bool:
        return not list(root.glob("kept/*")) and not in_memory(storing)

    await polled(gone)
