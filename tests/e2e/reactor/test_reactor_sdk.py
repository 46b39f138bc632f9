"""Unmodified Reactor SDKs drive the whole service, each in its own environment.

The scripts beside this file run the documented live and file examples step by step and
print what they saw; what must hold in every flow is checked there, the rest here.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.driving import polled

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
LIMIT_S = 120
NOTICED_S = 10.0
"""A client that was killed is missed by then; within 2 s where nothing else runs."""
CONNECTIONS = "sana_gateway_reactor_connections"


def _python(name: str, variable: str) -> Path:
    return Path(os.environ.get(variable) or ROOT / ".venvs" / name / "bin" / "python")


CLIENTS = {
    "native": (HERE / "client_native.py", _python("reactor-native", "REACTOR_NATIVE_PYTHON")),
    "py08": (HERE / "client_py08.py", _python("reactor-py08", "REACTOR_PY08_PYTHON")),
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 57 frames: a window of 33 and one of 24."""
    path = tmp_path_factory.mktemp("clips") / "moving.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 640, 352, "yuv420p"
        for number in range(57):
            picture = np.full((352, 640, 3), 90, np.uint8)
            picture[:, number * 8 : number * 8 + 40] = (220, 40, 40)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


IN_TURNS = (
    (("py08", "local"), ("native", "cloud")),
    (("native", "local"), ("py08", "cloud")),
)
ROUNDS = {
    "live": IN_TURNS,
    "file": IN_TURNS,
    "reconnect": ((("native", "cloud"), ("py08", "cloud")),),
}
"""Who goes through a flow at the same time, in this order: client and mode.

Only one at a time may be local, and it comes first: it does not wait for a place, and on a
slow machine there may be but one.
"""
Drive = Callable[[str, str, str], Awaitable[Any]]


@pytest.fixture(scope="module")
def drive(stack: Any, clip: Path) -> Drive:
    """Drives a client through a flow in a mode; each once, however many tests look at it.

    Flows play in real time, so those of a round run side by side.
    """
    reports: dict[tuple[str, str, str], Any] = {}

    async def once(client: str, mode: str, flow: str) -> Any:
        if (client, mode, flow) not in reports:
            players = next(each for each in ROUNDS[flow] if (client, mode) in each)
            running: list[asyncio.Task[Any]] = []
            for each, how in players:
                if running:
                    await came_in(stack.http_url, running)
                play = run(each, stack.http_url, how, flow, clip)
                running.append(asyncio.create_task(play))
            ran = await asyncio.gather(*running, return_exceptions=True)
            reports.update(
                ((each, how, flow), report)
                for (each, how), report in zip(players, ran, strict=True)
            )
        report = reports[client, mode, flow]
        if isinstance(report, BaseException):
            raise report
        return report

    return once


async def run(client: str, url: str, mode: str, flow: str, clip: Path) -> Any:
    """Runs a client to its end and returns its report, which says that all went well."""
    script, python = CLIENTS[client]
    assert python.exists(), f"{python} is missing; `make setup` makes it"
    process = await asyncio.create_subprocess_exec(
        *(str(python), str(script), url, mode, flow, str(clip), "--timeout", str(LIMIT_S - 20)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = out.decode().splitlines()
    assert lines, err.decode()[-4000:]
    report = json.loads(lines[-1])
    assert report["ok"], f"{report['failure']}\n{report}\n{err.decode()[-4000:]}"
    assert process.returncode == 0
    return report


@pytest.mark.parametrize("mode", ["cloud", "local"])
@pytest.mark.parametrize("client", sorted(CLIENTS))
async def test_the_live_example_works(drive: Drive, client: str, mode: str) -> None:
    report = await drive(client, mode, "live")
    assert report["statuses"][:3] == ["connecting", "waiting", "ready"]
    assert report["clip_refusal"] == "RECORDER_DISABLED"
    assert report["errors"] == []


@pytest.mark.parametrize("mode", ["cloud", "local"])
@pytest.mark.parametrize("client", sorted(CLIENTS))
async def test_the_file_example_works(drive: Drive, client: str, mode: str) -> None:
    report = await drive(client, mode, "file")
    assert report["frames"] > 0
    assert report["errors"] == []


@pytest.mark.parametrize("client", sorted(CLIENTS))
async def test_a_session_survives_a_reconnect(drive: Drive, client: str) -> None:
    await drive(client, "cloud", "reconnect")


async def test_a_second_viewer_joins_and_cannot_take_the_camera(drive: Drive) -> None:
    report = await drive("native", "cloud", "live")
    assert report["second_publisher"] == "PUBLISHER_SLOT_TAKEN"
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


@pytest.mark.parametrize("client", sorted(CLIENTS))
async def test_a_client_that_was_killed_is_missed_soon(stack: Any, client: str) -> None:
    script, python = CLIENTS[client]
    async with aiohttp.ClientSession(stack.http_url) as http:
        before = await connections(http)
        process = await asyncio.create_subprocess_exec(
            *(str(python), str(script), stack.http_url, "cloud", "stay"),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(LIMIT_S):
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
