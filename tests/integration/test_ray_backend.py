"""The Ray backend, on one small real cluster for the whole module."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc.aio
import psutil
import pytest

from sana_gateway.v1 import pool_pb2
from sana_gateway_internal.v1 import placement_pb2 as pb
from sana_gateway_internal.v1 import placement_pb2_grpc
from scheduler.backends.launcher import ActorSpec
from scheduler.backends.ray import Head, HeadSettings, start_head, start_worker
from scheduler.backends.ray_node import NodeSettings, RayNode, RayNodeError
from scheduler.core.errors import ConfigurationError
from scheduler.core.pool_events import PoolRules
from scheduler.runtime import SchedulerSettings
from tests.fakes.grpc_gateway import drained
from tests.fakes.launcher import EnrollingShell
from tests.required import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

SECRET = "0123456789abcdef0123456789abcdef"
ENV = {"PYTHONPATH": str(ROOT)}
PATIENCE_S = 60.0
SHELL = f"{EnrollingShell.__module__}:{EnrollingShell.__name__}"


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    folder = tmp_path_factory.mktemp("ray")
    address = f"unix:{folder}/scheduler"
    head = start_head(
        HeadSettings(
            scheduler=SchedulerSettings(
                address=address,
                lease_secret=SECRET,
                rules=PoolRules(actor_timeout=2.0, depart_timeout=0.2),
            ),
            actors=(
                ActorSpec(
                    model="model",
                    placement_address=address,
                    lease_secret=SECRET,
                    listen="unix:/{actor_id}",
                    log={"level": "info", "path": str(folder / "actor.log")},
                ),
            ),
            node=NodeSettings(surge=1, env=ENV),
            shell=SHELL,
            log={"level": "info", "path": str(folder / "scheduler.log")},
        )
    )
    assert head.node is not None
    leader = head.node.pid
    assert in_session(leader)
    yield head
    head.stop()
    assert in_session(leader) == []
    assert not head.node.folder.exists()
    head.stop()


@pytest.fixture
async def stub(head: Head) -> AsyncIterator[Any]:
    async with asyncio.timeout(PATIENCE_S), grpc.aio.insecure_channel(head.address) as channel:
        yield placement_pb2_grpc.PlacementStub(channel)


def in_session(leader: int, name: str = "") -> list[psutil.Process]:
    """Returns the living processes of a session whose title holds a name."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        try:
            session = os.getsid(process.pid)
        except ProcessLookupError:
            continue
        if session == leader and name in " ".join(process.info["cmdline"] or ()):
            found.append(process)
    return found


def only(head: Head, name: str) -> psutil.Process:
    assert head.node is not None
    [process] = in_session(head.node.pid, name)
    return process


async def pool_of(stub: Any, count: int, *, without: str = "") -> list[pool_pb2.Actor]:
    """Returns the actors, once there are so many and none of them is a certain one."""
    while True:
        request = pb.DescribePoolRequest()
        # A scheduler that is killed takes the call along.
        with suppress(grpc.aio.AioRpcError):
            pool = (await stub.DescribePool(request, wait_for_ready=True)).pool
            actors = list(pool.actors)
            if len(actors) == count and without not in [actor.actor_id for actor in actors]:
                return actors
        await asyncio.sleep(0.02)


async def place(stub: Any, session: str, *, restore: bool = False) -> pb.Lease:
    request = pb.PlaceRequest(
        session_id=session, model="model", gateway_id="gateway", restore=restore
    )
    responses = [response async for response in stub.Place(request)]
    lease: pb.Lease = responses[-1].lease
    return lease


async def connected(session: str) -> AsyncIterator[pb.PresenceRequest]:
    connections = [pb.Connections(session_id=session, count=1)]
    yield pb.PresenceRequest(gateway_id="gateway", connections=connections)
    await asyncio.Event().wait()


async def release(stub: Any, session: str) -> None:
    await stub.Release(pb.ReleaseRequest(session_id=session, reason="done"))


async def test_a_session_is_placed_on_an_actor_of_the_cluster(stub: Any) -> None:
    [actor] = await pool_of(stub, 1)
    lease = await place(stub, "s1")
    assert (lease.actor_id, lease.address) == (actor.actor_id, f"unix:/{actor.actor_id}")
    await release(stub, "s1")


async def test_a_killed_actor_is_replaced_and_its_session_goes_on_there(
    head: Head, stub: Any
) -> None:
    [actor] = await pool_of(stub, 1)
    lost = await place(stub, "s2")
    presence = stub.Presence(connected("s2"))
    await presence.initial_metadata()
    only(head, "ray::RayShellHost").kill()
    told = (await presence.read()).parked
    assert (told.session_id, told.epoch, told.restoring) == ("s2", lost.epoch, True)
    presence.cancel()
    lease = await place(stub, "s2", restore=True)
    [successor] = await pool_of(stub, 1, without=actor.actor_id)
    assert (lease.actor_id, lease.epoch > lost.epoch) == (successor.actor_id, True)
    await release(stub, "s2")


async def test_a_drained_actor_goes_when_its_successor_has_its_session(
    head: Head, stub: Any
) -> None:
    [actor] = await pool_of(stub, 1)
    lease = await place(stub, "s4")
    presence = stub.Presence(connected("s4"))
    await presence.initial_metadata()
    process = only(head, "ray::RayShellHost")
    drain = stub.Drain(pb.DrainRequest(actor_id=actor.actor_id))
    assert (await drain.read()).remaining == 1
    moves = (await presence.read()).moves.lease
    assert moves.actor_id != actor.actor_id
    assert moves.epoch > lease.epoch
    assert (await drained(drain))[-1].remaining == 0
    [successor] = await pool_of(stub, 1, without=actor.actor_id)
    assert (successor.actor_id, successor.sessions) == (moves.actor_id, 1)
    await asyncio.to_thread(process.wait, PATIENCE_S)
    presence.cancel()
    await release(stub, "s4")


async def test_an_actor_told_to_end_hands_its_session_over_first(head: Head, stub: Any) -> None:
    [actor] = await pool_of(stub, 1)
    await place(stub, "s5")
    presence = stub.Presence(connected("s5"))
    await presence.initial_metadata()
    process = only(head, "ray::RayShellHost")
    process.terminate()
    moves = (await presence.read()).moves.lease
    assert moves.actor_id != actor.actor_id
    await asyncio.to_thread(process.wait, PATIENCE_S)
    [successor] = await pool_of(stub, 1, without=actor.actor_id)
    assert (successor.actor_id, successor.sessions) == (moves.actor_id, 1)
    presence.cancel()
    await release(stub, "s5")


async def test_a_hung_actor_is_killed_and_replaced(head: Head, stub: Any) -> None:
    [actor] = await pool_of(stub, 1)
    process = only(head, "ray::RayShellHost")
    process.send_signal(signal.SIGSTOP)
    await pool_of(stub, 1, without=actor.actor_id)
    await asyncio.to_thread(process.wait, PATIENCE_S)


async def test_a_killed_scheduler_comes_back_and_finds_its_actor_and_session(
    head: Head, stub: Any
) -> None:
    [actor] = await pool_of(stub, 1)
    lease = await place(stub, "s3")
    only(head, "ray::SchedulerShell").kill()
    while True:
        [found] = await pool_of(stub, 1)
        if found.sessions:
            break
    assert found.actor_id == actor.actor_id
    request = pb.FindRequest(session_id="s3", gateway_id="gateway")
    again = (await stub.Find(request, wait_for_ready=True)).lease
    assert (again.actor_id, again.epoch) == (lease.actor_id, lease.epoch)
    await release(stub, "s3")


@pytest.mark.slow
async def test_a_node_that_joins_brings_room_for_an_actor(head: Head, stub: Any) -> None:
    assert head.node is not None
    before = await pool_of(stub, 1)
    settings = NodeSettings(
        head_address=head.node.address,
        auth_token=head.node.settings.auth_token,
        node_ip="127.0.0.3",
        env=ENV,
    )
    worker = await asyncio.to_thread(start_worker, settings)
    try:
        await pool_of(stub, 2)
        leader = worker.pid
    finally:
        await asyncio.to_thread(worker.stop)
    assert in_session(leader) == []
    # Whichever of the two it is: one too many is drained.
    assert len(await pool_of(stub, 1)) == len(before)


@pytest.mark.slow
async def test_a_node_with_another_token_does_not_join(head: Head, stub: Any) -> None:
    assert head.node is not None
    before = await pool_of(stub, 1)
    settings = NodeSettings(
        head_address=head.node.address,
        auth_token=secrets.token_hex(32),
        node_ip="127.0.0.4",
        env=ENV,
        start_timeout=20.0,
    )
    with pytest.raises(RayNodeError):
        await asyncio.to_thread(start_worker, settings)
    assert len(await pool_of(stub, 1)) == len(before)


def test_a_node_that_cannot_start_says_why_and_leaves_nothing() -> None:
    node = RayNode(NodeSettings(num_cpus=-1))
    node.launch()
    leader = node.pid
    with pytest.raises(RayNodeError, match="nonnegative"):
        node.wait_up()
    assert in_session(leader) == []
    assert not node.folder.exists()


@pytest.mark.slow
def test_a_node_does_not_outlive_who_started_it() -> None:
    program = (
        "import os, signal; from scheduler.backends.ray_node import NodeSettings, RayNode;"
        "node = RayNode(NodeSettings()); node.launch(); node.wait_up();"
        "print(node.pid, node.folder, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", program]
    started = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    pid, folder = started.stdout.split()
    deadline = time.monotonic() + PATIENCE_S
    while in_session(int(pid)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    shutil.rmtree(folder)


def test_a_folder_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="temp_dir"):
        RayNode(NodeSettings(temp_dir=tmp_path / ("x" * 40))).launch()
