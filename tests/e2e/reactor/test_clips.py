"""Unmodified Reactor SDKs ask for clips and recordings of a service that records.

The model marks every picture with its number, so that what they have downloaded can be held
against what was played: every frame once, in order, none of them held.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import aiohttp
import av
import pytest

from sdk_adapters.harness.marker import Marker, read_marker
from tests.e2e.driving import SIMULATED, polled
from tests.e2e.reactor.reactor_sdks import HERE, LIMIT_S, SDKS, passed, run
from tests.media.clips import Recipe, make
from tests.stack import Stack, serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

FRAMES = 81
RATE = 24
NAMES = ("native", "py08")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service that records, with a front door: one of its processes serves all clips, whoever
    recorded them.
    """
    folder = tmp_path_factory.mktemp("recordings")
    options = ("--recording", "--recordings-dir", str(folder), "--media-workers", "2")
    with serving(*SIMULATED, *options) as running:
        yield running


@pytest.fixture(scope="module")
def reports(
    recording: Stack, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """What the SDKs say; they go through the flow side by side, for it plays in real time."""

    async def drive_all() -> list[Any]:
        driven = (_drive(name, recording, tmp_path_factory.mktemp(name)) for name in NAMES)
        return await asyncio.gather(*driven, return_exceptions=True)

    made = asyncio.run(drive_all())
    return {name: passed(report) for name, report in zip(NAMES, made, strict=True)}


async def _drive(name: str, stack: Stack, folder: Path) -> dict[str, Any]:
    make(folder / "long.mp4", Recipe(frames=FRAMES))
    words = (stack.http_url, "cloud", "clips", str(folder), "--size", "320x192")
    script = HERE / f"clips_{name}.py"
    out, err = await run(SDKS[name].python, str(script), *words, limit_s=LIMIT_S)
    lines = [line for line in out.splitlines() if line.startswith("{")]
    assert lines, err[-4000:]
    report: dict[str, Any] = json.loads(lines[-1]) | {"stderr": err[-4000:], "folder": folder}
    return report


def markers(path: Path) -> list[Marker]:
    """Returns what the pictures of a file say."""
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray()[: frame.height] for frame in container.decode(video=0)]
    found = [read_marker(picture) for picture in pictures]
    assert None not in found, "a picture cannot be read"
    return [marker for marker in found if marker is not None]


@pytest.mark.parametrize("name", NAMES)
async def test_the_recording_has_every_frame_once_in_order(
    reports: dict[str, dict[str, Any]], name: str
) -> None:
    report = reports[name]
    played = markers(report["folder"] / "recording.mp4")
    assert [each.frame for each in played] == list(range(FRAMES))
    assert len({(each.run, each.session_tag) for each in played}) == 1
    told = report["recording"]
    assert (told["kind"], told["start_marker"]) == ("recording", 0.0)
    assert told["end_marker"] == told["now_marker"] == pytest.approx(FRAMES / RATE, abs=0.3)


@pytest.mark.parametrize("name", NAMES)
async def test_a_clip_amid_a_run_ends_with_what_was_just_played(
    reports: dict[str, dict[str, Any]], name: str
) -> None:
    report = reports[name]
    frames = [each.frame for each in markers(report["folder"] / "snap.mp4")]
    assert frames == list(range(frames[0], frames[-1] + 1))
    assert 33 <= len(frames) <= FRAMES, "two chunks had been played"
    told = report["snap"]
    assert told["kind"] == "snap"
    assert told["end_marker"] - told["start_marker"] == pytest.approx(1.0, abs=0.002)
    assert told["playlist_url"].endswith(f"&end={told['end_marker']:.3f}")


@pytest.mark.parametrize("name", NAMES)
async def test_what_there_is_not_is_refused_in_words(
    reports: dict[str, dict[str, Any]], name: str
) -> None:
    assert "nothing has been recorded yet" in reports[name]["early"]
    no_length = reports[name]["no_length"]
    assert "INVALID_DURATION" in no_length or "positive" in no_length


async def test_clips_are_served_after_their_session_has_ended(
    reports: dict[str, dict[str, Any]], recording: Stack
) -> None:
    told = reports["native"]["recording"]
    url = urljoin(recording.http_url, told["playlist_url"])
    async with aiohttp.ClientSession() as http:

        async def is_over() -> bool:
            async with http.get(f"{recording.http_url}/sessions/{told['session_id']}") as response:
                return response.status == 404 or (await response.json())["state"] == "CLOSED"

        await polled(is_over)
        async with http.get(url) as response:
            assert response.status == 200
            assert response.content_type == "application/vnd.apple.mpegurl"
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            lines = (await response.text()).splitlines()
        files = [line for line in lines if not line.startswith("#")]
        (header,) = [line.split('"')[1] for line in lines if line.startswith("#EXT-X-MAP")]
        data = b""
        for file in (header, *files):
            # As players do: without a token.
            async with http.get(urljoin(url, file)) as response:
                assert response.status == 200
                data += await response.read()
            async with http.get(urljoin(url, file.partition("?")[0])) as response:
                assert response.status == 404
        async with http.get(url.replace(told["session_id"], "s0")) as response:
            assert response.status == 404
    path = reports["native"]["folder"] / "again.mp4"
    path.write_bytes(data)
    assert len(markers(path)) == FRAMES
