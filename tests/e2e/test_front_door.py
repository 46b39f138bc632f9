"""A front door and two media workers: every wire through it, and nobody's death loses a session."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import psutil
import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription

from gateway.front_door.routing import worker_of
from sana_gateway import Client, Session
from sana_gateway.v1 import command_pb2, media_pb2, session_pb2
from sdk_adapters.harness.ports import free_port
from tests.e2e.driving import (
    FULL_SIZE,
    H264,
    POLL_S,
    SIMULATED,
    WAIT_S,
    Screen,
    Told,
    polled,
    stage,
    watching,
)
from tests.e2e.reactor.reactor_sdks import drive, make_clips, passed
from tests.media.clips import Recipe, make
from tests.stack import Stack, role, serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

WORKERS = 2
FRAMES = 81
"""Frames of the clip: chunks of 9, 24, 24 and 24."""
CHUNKS = 4
WORKER_MODULE = "gateway.front_door.worker"
GARBAGE_PER_S = 300


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("clips") / "clip.mp4", Recipe(frames=FRAMES))


@pytest.fixture(scope="module")
def door() -> Iterator[Stack]:
    """The service with a front door; ends in order, and leaves nothing."""
    with serving(*FULL_SIZE, "--media-workers", str(WORKERS)) as running:
        yield running


@pytest.fixture
async def through(door: Stack) -> AsyncIterator[Client]:
    async with Client(door.grpc_address) as connected:
        yield connected


def workers_of(stack: Stack) -> list[psutil.Process]:
    """Returns the processes of media workers, by index."""
    found = [each for each in stack.members() if WORKER_MODULE in each.cmdline()]
    return sorted(found, key=lambda each: each.create_time())


def listener(session: Session) -> int:
    return worker_of(session.session_id, WORKERS)


class Steady(Screen):
    """A viewer that comes back whenever its call breaks off."""

    @contextlib.asynccontextmanager
    async def watching(self, client: Client, session: Session) -> AsyncIterator[Steady]:
        """Watches for the block; begins with the first call that is answered."""
        task = asyncio.create_task(self._watch(client, session.session_id))
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _watch(self, client: Client, session_id: str) -> None:
        while True:
            call: Any = client.stub.Media(metadata=client.metadata())  # type: ignore[call-arg]
            start = media_pb2.MediaStart(session_id=session_id, watch=True, watch_codec=H264)
            with contextlib.suppress(grpc.aio.AioRpcError):
                await call.write(media_pb2.MediaRequest(start=start))
                async for response in call:
                    if response.WhichOneof("response") == "video" and not response.video.held:
                        self.add(response.video)
            await asyncio.sleep(POLL_S)


async def check_the_run_goes_on(told: Told, screen: Steady, session: Session) -> None:
    """Waits for the end of a run; nothing was shown twice, and no chunk is missing."""
    complete = await told.until_told("generation_complete")
    await screen.until(lambda: FRAMES - 1 in screen.numbers())
    assert complete.total_chunks == CHUNKS
    assert [each.chunk_index for each in told.of("chunk_complete")] == list(range(CHUNKS))
    numbers = screen.numbers()
    assert numbers == sorted(set(numbers)), "a frame was shown twice"
    assert {each.chunk for each in screen.of(screen.run)} == set(range(CHUNKS))
    assert session.gaps == 0


# -- every wire ---------------------------------------------------------------------------------


async def test_sessions_are_spread_over_the_workers(through: Client) -> None:
    sessions = [await through.create_session("simulated", wait=False) for _ in range(4)]
    assert sorted(listener(each) for each in sessions) == [0, 0, 1, 1]
    for each in sessions:
        await each.close()


async def test_a_repeated_request_finds_the_session_that_the_first_made(through: Client) -> None:
    made = [
        await through.stub.CreateSession(  # type: ignore[misc]
            session_pb2.CreateSessionRequest(model="simulated", request_id="the same")
        )
        for _ in range(3)
    ]
    assert len({each.session.session_id for each in made}) == 1
    await through.close_session(made[0].session.session_id)


async def test_execute_answers_with_the_reason_of_a_refusal(through: Client) -> None:
    async with await through.create_session("simulated") as session:
        request = session_pb2.ExecuteRequest(
            session_id=session.session_id, command=command_pb2.Command(start=command_pb2.Start())
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await through.stub.Execute(request)  # type: ignore[misc]
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "grpc-status-details-bin" in dict(refused.value.trailing_metadata() or ())


async def test_webrtc_is_signalled_through_the_door_and_flows_past_it(through: Client) -> None:
    peer = RTCPeerConnection()
    connected = asyncio.Event()
    peer.on(
        "connectionstatechange", lambda: peer.connectionState == "connected" and connected.set()
    )
    async with await through.create_session("simulated") as session:
        video = peer.addTransceiver("video", direction="recvonly")
        await peer.setLocalDescription(await peer.createOffer())
        offer = session_pb2.Offer(
            sdp=peer.localDescription.sdp,
            tracks=[session_pb2.TrackMapping(mid=video.mid, name="main_video")],
        )
        answer = await through.stub.Signal(  # type: ignore[misc]
            session_pb2.SignalRequest(session_id=session.session_id, offer=offer)
        )
        await peer.setRemoteDescription(RTCSessionDescription(answer.sdp_answer, "answer"))
        async with asyncio.timeout(WAIT_S):
            await connected.wait()
        await peer.close()


async def test_an_unmodified_reactor_client_plays_a_clip(door: Stack, tmp_path: Path) -> None:
    ran = await drive("native", door.http_url, "cloud", ["file"], make_clips(tmp_path))
    report = passed(ran["file"])
    assert report["frames"] > 0
    assert report["errors"] == []


async def test_metrics_are_those_of_all_processes_told_apart(door: Stack) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{door.http_url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        async with http.get(f"{door.http_url}/readyz") as ready:
            assert ready.status == 200
    resident = [each for each in lines if each.startswith("process_resident_memory_bytes{")]
    assert {each.split('"')[1] for each in resident} == {"front_door", "0", "1"}
    helps = [each.split()[2] for each in lines if each.startswith("# HELP ")]
    assert len(helps) == len(set(helps))


# -- who dies -----------------------------------------------------------------------------------


async def test_a_killed_worker_loses_no_session(door: Stack, through: Client, clip: Path) -> None:
    async with await through.create_session("simulated") as session:
        told = Told(session)
        await stage(session, clip)
        async with Steady().watching(through, session) as screen:
            await session.start()
            await told.until_told("chunk_complete", 2)
            serves(door, session).kill()
            await check_the_run_goes_on(told, screen, session)
    await polled(lambda: readiness(door.http_url))
    assert len(workers_of(door)) == WORKERS


def serves(stack: Stack, session: Session) -> psutil.Process:
    """Returns the process of the worker that a session belongs to, as the log names it."""
    said = (line for line in stack.log.read_text().splitlines() if "media_worker.listening" in line)
    pids = {told["worker"]: told["pid"] for told in map(json.loads, said)}
    return psutil.Process(pids[listener(session)])


async def readiness(url: str) -> bool:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/readyz") as answer:
        return answer.status == 200


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Path]]:
    """A scheduler and an actor, for gateways that come and go; and the folder of uploads."""
    storage = tmp_path_factory.mktemp("storage")
    words = ("serve", "head", "--placement-port", "0", "--storage-root", str(storage))
    with role(*words, *SIMULATED) as running:
        yield running, storage


def gateway(
    head: tuple[Stack, Path], workers: int, http: int = 0, grpc_port: int = 0
) -> contextlib.AbstractContextManager[Stack]:
    running, storage = head
    return role(
        *("serve", "gateway", "--placement-address", running.told["placement"]),
        *("--http-port", str(http), "--grpc-port", str(grpc_port)),
        *("--storage-root", str(storage), "--media-workers", str(workers)),
    )


@contextlib.contextmanager
def doomed(head: tuple[Stack, Path], *ports: int) -> Iterator[Stack]:
    """A gateway that is killed before its time."""
    with (
        pytest.raises(RuntimeError, match="a role ended with -9"),
        gateway(head, WORKERS, *ports) as door,
    ):
        yield door


async def test_a_killed_gateway_loses_no_session_and_leaves_no_worker(
    head: tuple[Stack, Path], clip: Path
) -> None:
    ports = free_port(), free_port()
    with contextlib.ExitStack() as running:
        first, other = await asyncio.gather(
            asyncio.to_thread(running.enter_context, doomed(head, *ports)),
            asyncio.to_thread(running.enter_context, gateway(head, 0)),
        )
        async with Client(first.grpc_address) as client, Client(other.grpc_address) as elsewhere:
            session, moving = [await client.create_session("simulated") for _ in range(2)]
            told = Told(session)
            await asyncio.gather(*(stage(each, clip) for each in (session, moving)))
            async with Steady().watching(client, session) as screen:
                await session.start()
                await moving.start()
                await told.until_told("chunk_complete", 2)
                first.process.kill()
                moved = await elsewhere.attach(moving.session_id)
                told_there = Told(moved)
                # With another number of workers: ids say where to look, no more.
                await asyncio.to_thread(running.enter_context, gateway(head, 1, *ports))
                await check_the_run_goes_on(told, screen, session)
            await told_there.until_told("generation_complete")
            seen = [each.chunk_index for each in told_there.of("chunk_complete")]
            assert seen == list(range(seen[0], CHUNKS))
            await session.close()
            await moved.close()
        assert first.members() == []


# -- who disturbs -------------------------------------------------------------------------------


async def test_garbage_at_the_door_costs_a_session_no_frame(
    door: Stack, through: Client, clip: Path
) -> None:
    async with await through.create_session("simulated") as session:
        told = Told(session)
        await stage(session, clip)
        quiet = await gaps_of_a_run(through, session, told)
        async with garbage(door) as thrown:
            disturbed = await gaps_of_a_run(through, session, told)
            assert thrown() > GARBAGE_PER_S
    # A burst that held up pacing would double them; the load of this machine does not.
    assert statistics.median(disturbed) < 2 * statistics.median(quiet)


async def gaps_of_a_run(client: Client, session: Session, told: Told) -> list[float]:
    """Plays the staged clip; sees every frame, and returns the seconds between them."""
    before = len(told.of("generation_complete"))
    async with watching(client, session) as screen:
        came: list[float] = []
        add = screen.add
        screen.add = lambda frame: (came.append(time.monotonic()), add(frame))[1]  # type: ignore[method-assign,func-returns-value]
        await session.start()
        await told.until_told("generation_complete", before + 1)
        await screen.until(lambda: FRAMES - 1 in screen.numbers())
        assert screen.numbers() == list(range(FRAMES))
    return [later - earlier for earlier, later in itertools.pairwise(came)]


@contextlib.asynccontextmanager
async def garbage(stack: Stack) -> AsyncIterator[Any]:
    """Throws garbage at both ports from a process of its own; yields how much was thrown."""
    thrown = 0
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(__file__).with_name("garbage.py"))),
        *(stack.http_url.removeprefix("http://"), stack.grpc_address, str(GARBAGE_PER_S)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert process.stdout is not None

    async def count(lines: asyncio.StreamReader) -> None:
        nonlocal thrown
        async for line in lines:
            thrown = json.loads(line)

    counting = asyncio.create_task(count(process.stdout))
    try:
        yield lambda: thrown
        assert process.returncode is None, "it threw to the end"
    finally:
        process.kill()
        await process.wait()
        await counting
