"""Unmodified Reactor SDKs drive the whole service, each in its own environment.

The scripts beside this file go through the flows step by step and print what they saw; what
must hold for every SDK is checked there, the rest here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.driving import polled
from tests.e2e.reactor import reactor_sdks
from tests.e2e.reactor.matrix import record
from tests.e2e.reactor.reactor_sdks import SDKS, passed
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NOTICED_S = 10.0
"""A client that was killed is missed by then; within 2 s where nothing else runs."""
CONNECTIONS = "sana_gateway_reactor_connections"
SMALL = "320x192"
MODES = ["cloud", "local"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reactor_sdks.make_clips(tmp_path_factory.mktemp("clips"))


IN_TURNS = (
    (("py08", "local"), ("native", "cloud")),
    (("native", "local"), ("py08", "cloud")),
)
"""Who goes through a flow of the documentation at the same time, in this order.

Only one at a time may be local, and it comes first: it does not wait for a place, and on a
slow machine there may be but one.
"""
Drive = Callable[[str, str, str], Awaitable[Any]]


@pytest.fixture(scope="module")
def drive(stack: Stack, clips: Path) -> Drive:
    """Drives a client through a flow in a mode; each once, however many tests look at it.

    Flows play in real time, so those of a round run side by side.
    """
    reports: dict[tuple[str, str, str], Any] = {}

    async def once(client: str, mode: str, flow: str) -> Any:
        if (client, mode, flow) not in reports:
            players = next(each for each in IN_TURNS if (client, mode) in each)
            running: list[asyncio.Task[Any]] = []
            for each, how in players:
                if running:
                    await came_in(stack.http_url, running)
                play = reactor_sdks.drive(each, stack.http_url, how, [flow], clips)
                running.append(asyncio.create_task(play))
            ran = await asyncio.gather(*running, return_exceptions=True)
            for (each, how), report in zip(players, ran, strict=True):
                failed = isinstance(report, BaseException)
                reports[each, how, flow] = report if failed else report[flow]
        return passed(reports[client, mode, flow])

    return once


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("client", sorted(SDKS))
async def test_the_live_example_works(drive: Drive, client: str, mode: str) -> None:
    with record(SDKS[client].client, mode, "live"), record(SDKS[client].client, mode, "pause"):
        report = await drive(client, mode, "live")
        assert report["statuses"][:3] == ["connecting", "waiting", "ready"]
        assert report["clip_refusal"] == "RECORDER_DISABLED"
        assert report["errors"] == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("client", sorted(SDKS))
async def test_the_file_example_works(drive: Drive, client: str, mode: str) -> None:
    with record(SDKS[client].client, mode, "file"):
        report = await drive(client, mode, "file")
        assert report["frames"] > 0
        assert report["errors"] == []


async def test_the_native_client_knows_the_commands(drive: Drive) -> None:
    report = await drive("native", "cloud", "live")
    assert "/events/set_video" in report["schema_paths"]


async def test_the_native_client_knows_each_frame_by_its_number(drive: Drive) -> None:
    report = await drive("native", "cloud", "file")
    ids = report["frame_ids"]
    assert len(ids) == report["frames"]
    # A picture that holds is sent again, under its own number.
    assert [frame_id for frame_id, _ in groupby(ids)] == sorted(set(ids))
    runs = {each >> 32 for each in ids}
    assert len(runs) == 2, "the clip was played twice"
    indices = {(each & 0xFFFFFFFF) - 1 for each in ids}
    assert min(indices) >= 0
    assert max(indices) < int(report["video_accepted"]["num_frames"])


# Flows that are not about the picture, in lanes that run side by side. A lane is one process.

LOCAL_FLOWS = ("reconnect", "uploads", "errors", "pings")
LANES = (
    ("native", "local", ("join", *LOCAL_FLOWS)),
    ("py08", "local", LOCAL_FLOWS),
    *(
        (client, "cloud", flows)
        for client in SDKS
        for flows in (("pings",), ("join", "reconnect", "uploads", "errors"))
    ),
)
CELLS = [(client, mode, flow) for client, mode, flows in LANES for flow in flows]


@pytest.fixture(scope="module")
def lanes(stack: Stack, simulated: Stack, clips: Path) -> dict[tuple[str, str, str], Any]:
    """The reports of all lanes, by client, mode and flow.

    One service has one local session, so the second local lane has a service of its own.
    """

    async def lane(client: str, mode: str, flows: tuple[str, ...]) -> Any:
        service, size = simulated, SMALL
        if (client, mode) == ("native", "local"):
            service, size = stack, "1280x704"
        return await reactor_sdks.drive(client, service.http_url, mode, flows, clips, size)

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(lane(*each) for each in LANES), return_exceptions=True)

    reports: dict[tuple[str, str, str], Any] = {}
    for (client, mode, flows), ran in zip(LANES, asyncio.run(all_of_them()), strict=True):
        for flow in flows:
            failed = isinstance(ran, BaseException)
            reports[client, mode, flow] = ran if failed else ran[flow]
    return reports


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_every_other_flow_works(lanes: dict[Any, Any], cell: tuple[str, str, str]) -> None:
    client, mode, flow = cell
    with record(SDKS[client].client, mode, flow):
        report = passed(lanes[cell])
        assert report["statuses"][:3] == ["connecting", "waiting", "ready"]
        assert report["errors"] == []


async def connections(http: aiohttp.ClientSession) -> float:
    """Returns how many Reactor connections the service counts."""
    async with http.get("/metrics") as response:
        families = text_string_to_metric_families(await response.text())
    return sum(
        each.value for family in families for each in family.samples if each.name == CONNECTIONS
    )


async def came_in(url: str, running: Sequence[asyncio.Task[Any]]) -> None:
    """Waits until so many clients are connected, or one has ended."""
    async with aiohttp.ClientSession(url) as http:

        async def look() -> bool:
            return await connections(http) >= len(running) or any(each.done() for each in running)

        await polled(look)


@pytest.mark.parametrize("client", sorted(SDKS))
async def test_a_client_that_was_killed_is_missed_soon(stack: Stack, client: str) -> None:
    sdk = SDKS[client]
    async with aiohttp.ClientSession(stack.http_url) as http:
        before = await connections(http)
        process = await asyncio.create_subprocess_exec(
            *(str(sdk.python), str(sdk.script), stack.http_url, "cloud", "stay"),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(reactor_sdks.LIMIT_S):
                assert await process.stdout.readline() == b"connected\n"
            assert await connections(http) == before + 1
        finally:
            process.kill()
            await process.wait()
        killed_at = time.monotonic()

        async def is_missed() -> bool:
            return await connections(http) == before

        await polled(is_missed)
    missed_s = time.monotonic() - killed_at
    print(f"{client}: missed after {missed_s:.2f} s")
    assert missed_s < NOTICED_S
