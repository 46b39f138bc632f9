"""Unmodified Reactor SDKs ask for clips and recordings of a service that records.

The model marks every picture with its number, so that what they have downloaded can be held
against what was played: every frame once, in order, none of them held.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import aiohttp
import av
import pytest

from sdk_adapters.harness.marker import Marker, read_marker
from tests.e2e.driving import SIMULATED, polled
from tests.e2e.reactor.reactor_sdks import HERE, LIMIT_S, SDKS, passed, run
from tests.e2e.reactor.wire_client import connected
from tests.media.clips import Recipe, make
from tests.stack import Stack, serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

FRAMES = 81
LONG = 33 + 24 * 4
"""Frames of more than 4 s."""
LONGEST_SEGMENT_S = 4.25
"""A keyframe comes every 4 s; on a machine that runs other tests beside, a few frames later."""
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
    async with aiohttp.ClientSession(recording.http_url) as http:

        async def is_over() -> bool:
            async with http.get(f"/sessions/{told['session_id']}") as response:
                return response.status == 404 or (await response.json())["state"] == "CLOSED"

        await polled(is_over)
        served = await fetched(http, told["playlist_url"])
        for url in (
            *(file.partition("?")[0] for file in served.files),
            served.url.replace(told["session_id"], "s0"),
        ):
            async with http.get(url) as response:
                assert response.status == 404
    path = reports["native"]["folder"] / "again.mp4"
    path.write_bytes(served.header + b"".join(served.segments))
    assert len(markers(path)) == FRAMES


@dataclass(frozen=True)
class Served:
    """A clip as players get it."""

    url: str
    """Of its playlist."""
    files: list[str]
    """Addresses of its header and its segments."""
    lengths: list[float]
    """Of its segments, in seconds, as the playlist has them."""
    header: bytes
    segments: list[bytes]


async def fetched(http: aiohttp.ClientSession, path: str) -> Served:
    """Fetches the playlist of a clip, and then all that it names."""

    async def playlist() -> tuple[str, list[str]] | None:
        async with http.get(path, headers={"Origin": "http://localhost"}) as response:
            assert response.status in (200, 202), response.status
            if response.status == 202:
                return None
            assert response.content_type == "application/vnd.apple.mpegurl"
            assert response.headers["Access-Control-Allow-Origin"] == "http://localhost"
            return str(response.url), (await response.text()).splitlines()

    told = await polled(playlist)
    assert told is not None
    url, lines = told
    (header,) = [line.split('"')[1] for line in lines if line.startswith("#EXT-X-MAP")]
    names = [header, *(line for line in lines if not line.startswith("#"))]
    lengths = [float(line[8:-1]) for line in lines if line.startswith("#EXTINF:")]
    files, parts = [urljoin(url, name) for name in names], []
    for file in files:
        # As players do: without a token.
        async with http.get(file) as response:
            assert response.status == 200
            parts.append(await response.read())
    return Served(url, files, lengths, parts[0], parts[1:])


def keyframes(data: bytes) -> list[bool]:
    """Tells of each frame of a file whether it is a keyframe."""
    with av.open(io.BytesIO(data)) as container:
        return [packet.is_keyframe for packet in container.demux(video=0) if packet.size]


async def test_the_json_wire_gets_clips_too_and_every_segment_begins_with_a_keyframe(
    recording: Stack, tmp_path: Path
) -> None:
    film = make(tmp_path / "film.mp4", Recipe(frames=LONG))
    async with connected(recording.http_url, "js-2.12") as one:
        one.runtime("requestClip", duration_seconds=2.0)
        failed = await one.until_heard("clipFailed")
        assert "nothing has been recorded yet" in failed.data["reason"]
        one.command("set_mode", mode="file")
        one.command("set_video", {"video": await one.upload(film)})
        await one.until_heard("state", has_video=True)
        one.command("set_prompt", prompt="a charcoal drawing")
        one.command("start")
        await one.until_heard("generation_complete")
        one.runtime("requestClip", duration_seconds=LONG / RATE + 1)
        ready = await one.until_heard("clipReady")
        assert (ready.scope, ready.data["kind"]) == ("runtime", "snap")
        assert ready.data["session_id"] == one.session_id
        assert ready.data["start_marker"] == 0.0
        served = await fetched(one.http, ready.data["playlist_url"])
    path = tmp_path / "clip.mp4"
    path.write_bytes(served.header + b"".join(served.segments))
    assert [each.frame for each in markers(path)] == list(range(LONG))
    assert len(served.lengths) == len(served.segments) >= 2, "it is longer than 4 s"
    assert sum(served.lengths) == pytest.approx(LONG / RATE, abs=0.3)
    assert max(served.lengths) <= LONGEST_SEGMENT_S
    for segment in served.segments:
        assert keyframes(served.header + segment)[0], "each can be played alone"
