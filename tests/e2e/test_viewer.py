"""What a viewer sees: the number of every picture, and what the picture has been through."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sana_gateway import Client, ViewerStats
from sdk_adapters.harness.viewer import ViewReport, parse, view
from tests.e2e.driving import PROMPT, RATE, Camera, Told, publishing, stage, watching
from tests.media.clips import Recipe, make
from tests.stack import Stack

pytestmark = pytest.mark.e2e

WIRES = [("grpc", "h264"), ("webrtc", "h264"), ("webrtc", "vp8")]
FRAMES = 40
Outcome = ViewReport | BaseException


@pytest.fixture(scope="module")
def viewed(full_size: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Outcome]:
    """What viewers saw of the same clip, by wire and codec; they watch at the same time."""
    clip = make(tmp_path_factory.mktemp("clips") / "clip.mp4", Recipe(frames=FRAMES))
    words = ("--address", full_size.grpc_address, "--model", "simulated", "--clip", str(clip))

    async def watch(transport: str, codec: str) -> ViewReport:
        options = ("--wire", transport, "--codec", codec, "--decode", "--seconds", "30")
        return await view(parse([*words, *options]))

    async def watch_all() -> list[Outcome]:
        return await asyncio.gather(*(watch(*wire) for wire in WIRES), return_exceptions=True)

    return dict(zip(WIRES, asyncio.run(watch_all()), strict=True))


@pytest.mark.parametrize("wire", WIRES, ids="-".join)
def test_a_viewer_reads_the_number_of_every_picture(
    viewed: dict[Any, Outcome], wire: tuple[str, str]
) -> None:
    report = viewed[wire]
    if isinstance(report, BaseException):
        raise report
    counts = report.counts
    assert (counts["frames_lost"], counts["frames_repeated"]) == (0, 0)
    assert counts["frames_shown"] == FRAMES
    assert counts["pictures_read"] >= FRAMES
    assert counts.get("pictures_wrong", 0) == counts.get("pictures_unreadable", 0) == 0
    assert report.values["start_to_first_frame"]["count"] == 1


def chunks_of(stats: list[ViewerStats]) -> list[tuple[int, int]]:
    return [(each.chunk, each.frame) for each in stats]


async def test_a_clips_chunks_tell_once_each_what_the_picture_has_been_through(
    client: Client, long_clip: Path
) -> None:
    async with await client.create_session("simulated") as session:
        told = Told(session)
        await stage(session, long_clip)
        async with watching(client, session) as screen:
            await session.start()
            await screen.until(lambda: 12 in screen.numbers())
            await session.set_prompt("an engraving")
            await told.until_told("generation_complete")
            await screen.until(lambda: 80 in screen.numbers())
        assert chunks_of(screen.stats) == [(0, 0), (1, 9), (2, 33), (3, 57)]
        prompts = [each.active_prompt for each in told.of("chunk_complete")]
    frames = {frame.frame: frame for frame in screen.items}
    for stats in screen.stats:
        frame = frames[stats.frame]
        assert (stats.run, stats.timestamp_us) == (frame.run, frame.timestamp_us)
        assert stats.source_us == frame.source_us
        assert stats.source_to_emit_us == 0, "a clip has no camera"
        assert stats.bitrate > 0
        assert stats.rung == 0
    # The presentation time in the clip: 24 frames a second, stamped in whole milliseconds.
    for number, frame in frames.items():
        assert frame.source_us == pytest.approx(number * 1e6 / RATE, abs=1_000)
    answers = [stats.chunk for stats in screen.stats if stats.command_to_emit_us]
    assert answers == [0, prompts.index("an engraving")]


async def test_a_cameras_chunks_tell_the_services_share_of_glass_to_glass(client: Client) -> None:
    await asyncio.gather(*(check_a_cameras_chunks(client, codec) for codec in ("h264", "vp8")))


async def check_a_cameras_chunks(client: Client, codec: str) -> None:
    async with await client.create_session("simulated") as session:
        told, camera = Told(session), Camera(codec)
        async with watching(client, session) as screen, publishing(session, camera, codec):
            await session.set_prompt(PROMPT)
            await session.start()
            await told.until_told("chunk_complete")
            await session.set_prompt("an engraving")
            await told.until(lambda: told.of("chunk_complete")[-1].active_prompt == "an engraving")
            await screen.until(lambda: len(screen.stats) >= 4)
        seen = list(screen.stats)
        prompts = [each.active_prompt for each in told.of("chunk_complete")]
    assert [stats.chunk for stats in seen] == list(range(len(seen)))
    # The last frame of a window waits for nothing but the model; the first for the others too.
    assert all(0 < stats.source_to_emit_us < 20_000_000 for stats in seen)
    answers = [stats.chunk for stats in seen if stats.command_to_emit_us]
    landed = prompts.index("an engraving")
    assert answers == [0, landed]
    assert seen[landed].command_to_emit_us < 20_000_000
    clock_us = [frame.source_us for frame in screen.items]
    assert clock_us == sorted(clock_us), "the publisher's clock"
