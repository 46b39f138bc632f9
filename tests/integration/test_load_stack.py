"""The load harness's own service: it serves, survives a gateway, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sana_gateway import Client
from scheduler.scenario.pool import ModelCosts, PoolSpec
from sdk_adapters.harness import processes
from sdk_adapters.harness.stack import Stack, StackError, StackOptions, own_stack

pytestmark = pytest.mark.integration

POOL = PoolSpec(gpus=1, memory_gb=10, model=ModelCosts(chunk_ms=50, session_gb=2, weights_gb=4))
WAIT_S = 60.0


async def asked_for(stack: Stack) -> None:
    """Asks for a session at every gateway, and gives it back."""
    for address in stack.target.grpc:
        async with Client(address) as client:
            session = await client.create_session("simulated", timeout=WAIT_S)
            await session.close()


async def test_it_serves_and_leaves_nothing(tmp_path: Path) -> None:
    async with own_stack(StackOptions(POOL, gateways=2), tmp_path / "out") as stack:
        assert len(stack.target.grpc) == len(stack.target.http) == 2
        await asked_for(stack)
        pids = [*stack.head.members(), *(pid for each in stack.gateways for pid in each.members())]
        assert len(pids) >= 3
        assert stack.service.video == "canned"
        assert stack.log.read_text()
    assert not [pid for pid in pids if processes.lives(pid)]


async def test_a_gateway_that_is_killed_comes_back_at_its_address(tmp_path: Path) -> None:
    async with own_stack(StackOptions(POOL), tmp_path) as stack:
        (gateway,) = stack.gateways
        before = gateway.pid
        assert before is not None
        await stack.revive()
        assert gateway.pid not in (None, before)
        assert not processes.lives(before)
        await asked_for(stack)


async def test_a_role_that_ends_by_itself_is_told(tmp_path: Path) -> None:
    async with own_stack(StackOptions(POOL), tmp_path) as stack:
        assert stack.fallen() == ()
        (gateway,) = stack.gateways
        await stack.revive()
        assert stack.fallen() == (), "what the harness does is no fall"
        assert gateway.pid is not None
        processes.send(gateway.pid, signal.SIGKILL)
        async with asyncio.timeout(WAIT_S):
            while not stack.fallen():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        assert "gateway 0" in stack.fallen()[0]


async def test_a_service_that_does_not_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StackOptions, "model", lambda _: {"no_such": "option"})
    with pytest.raises(StackError, match="no_such"):
        async with own_stack(StackOptions(POOL), tmp_path):
            """Does not come to this."""


PARENT = """
import subprocess, sys, time
words = ["-m", "sdk_adapters.harness.tethered", "http.server", "0", "--bind", "127.0.0.1"]
child = subprocess.Popen([sys.executable, *words], stdin=subprocess.PIPE, stdout=sys.stderr)
print(child.pid, flush=True)
time.sleep(600)
"""
"""Starts something that would serve for ever."""


async def test_what_is_tethered_ends_with_the_one_who_started_it_even_if_that_is_killed() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    assert processes.lives(child)
    parent.kill()
    await parent.wait()
    await processes.gone(child, WAIT_S)
