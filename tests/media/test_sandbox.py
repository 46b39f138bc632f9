"""Real decode workers try what they must not: network, files, programs, processes, too much."""

from __future__ import annotations

import asyncio
import errno
import json
import platform
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from model_actor.media.fork_server import ForkServer
from model_actor.media.limits import DecodeLimits
from model_actor.media.link import WorkerLink
from model_actor.media.sandbox import SandboxStatus, sandbox_status
from model_actor.media.wire import Kind
from model_actor.media.workers import DecodeWorkers
from tests.media.probing import ATTEMPTS, NUMBERS

pytestmark = [
    pytest.mark.media,
    pytest.mark.skipif(
        platform.machine() != "x86_64", reason="the attempts know the numbers of x86-64"
    ),
]

REFUSED = f"errno {errno.EPERM}"
OTHERWISE = {
    "clone3": f"errno {errno.ENOSYS}",
    "thread": "ok",
    "more memory": "no memory",
    "more descriptors": f"errno {errno.EMFILE}",
}
"""What becomes of attempts that the filter alone does not refuse."""
DEADLY = ("more time",)


@pytest.fixture(scope="module")
def walls() -> SandboxStatus:
    return sandbox_status()


@pytest.fixture
async def workers() -> AsyncIterator[DecodeWorkers]:
    limits = DecodeLimits(cpu_s=1)
    pool = DecodeWorkers(spare=0, limits=limits)
    pool._server = ForkServer(limits, "tests.media.probing")
    yield pool
    await pool.close()


async def attempt(link: WorkerLink, name: str) -> str:
    """Returns what became of an attempt; `lost` when the worker died of it."""
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def settle(text: str) -> None:
        if not answer.done():
            answer.set_result(text)

    link.on_message = lambda _, payload: settle(json.loads(payload))
    link.on_lost = lambda: settle("lost")
    link.send(Kind.FLUSH, name.encode())
    async with asyncio.timeout(60):
        return await answer


async def test_a_worker_can_do_nothing_but_decode(
    workers: DecodeWorkers, walls: SandboxStatus
) -> None:
    assert not walls.system_calls, "this machine filters system calls"
    link = await workers.lease()
    became = {name: await attempt(link, name) for name in ATTEMPTS if name not in DEADLY}
    assert became == {name: OTHERWISE.get(name, REFUSED) for name in became}
    assert {*NUMBERS, "socket inet", "connect", "open outside", "exec"} <= became.keys()


async def test_a_worker_that_computes_without_end_is_ended(workers: DecodeWorkers) -> None:
    link = await workers.lease()
    assert await attempt(link, "more time") == "lost"


async def test_a_worker_has_no_rights_no_network_and_no_files(
    workers: DecodeWorkers, walls: SandboxStatus
) -> None:
    link = await workers.lease()
    told = Path(f"/proc/{link.pid}/status").read_text()
    status = dict(line.split(":\t", 1) for line in told.splitlines() if ":\t" in line)
    assert status["Seccomp"] == "2"
    assert status["NoNewPrivs"] == "1"
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh")} == {0}
    for wall, place in (("network", "ns/net"), ("network", "ns/user"), ("file_system", "root")):
        own, theirs = (Path(f"/proc/{pid}/{place}").readlink() for pid in ("self", link.pid))
        assert (own != theirs) is (wall not in walls.missing)


async def test_the_server_has_the_walls_that_this_machine_is_said_to_have(
    workers: DecodeWorkers, walls: SandboxStatus
) -> None:
    with structlog.testing.capture_logs() as log:
        await workers.lease()
        await workers.lease()
    assert workers._server.walls == walls
    said = "decoders.exposed" if walls.missing else "decoders.walled_in"
    assert [each["event"] for each in log] == [said], "once"


async def test_a_machine_without_walls_is_told_of(
    workers: DecodeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = SandboxStatus("no filters", "no namespaces", "no namespaces")
    monkeypatch.setattr(SandboxStatus, "unpack", lambda _: bare)
    with structlog.testing.capture_logs() as log:
        await workers.lease()
    (line,) = log
    assert line["log_level"] == "warning"
    assert line["missing"] == bare.missing
