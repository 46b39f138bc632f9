"""Real clips of many kinds through real workers."""

from __future__ import annotations

import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from model_actor.media.clip import ClipDecoder
from model_actor.media.workers import DecodeWorkers
from scheduler.core.errors import InvariantError
from tests.media import clips
from tests.media.clips import Recipe

pytestmark = pytest.mark.media

WIDTH, HEIGHT = 320, 176
FIRST, WINDOW = 33, 24


@pytest.fixture
async def workers() -> AsyncIterator[DecodeWorkers]:
    pool = DecodeWorkers(spare=1)
    await pool.start()
    yield pool
    await pool.close()


@asynccontextmanager
async def opened(workers: DecodeWorkers, path: Path) -> AsyncIterator[ClipDecoder]:
    fd = os.open(path, os.O_RDONLY)
    try:
        clip = await workers.open_clip(fd, width=WIDTH, height=HEIGHT, minimum_frames=FIRST)
    finally:
        os.close(fd)
    yield clip
    await clip.close()


async def numbers(clip: ClipDecoder, most: int) -> list[int]:
    """Reads the clip window by window, as a session does."""
    found: list[int] = []
    while len(found) < most:
        block = await clip.read(len(found), WINDOW if found else FIRST)
        assert block.frames.flags.c_contiguous
        assert not block.frames.flags.writeable
        found += [clips.number_of(frame) for frame in block.frames]
        block.release()
    return found[:most]


def altref(context: Any) -> None:
    """Makes libvpx hide frames in superframes; only rate control in one pass does so."""
    context.bit_rate = 100_000
    context.options = {
        "deadline": "realtime",
        "cpu-used": "5",
        "lag-in-frames": "25",
        "auto-alt-ref": "1",
    }


def slow_then_fast(index: int) -> int:
    return index * 100 if index < 20 else 2000 + (index - 20) * 20


KINDS = {
    "h264": Recipe(),
    "h264 with B-frames": Recipe(b_frames=3, options={"preset": "medium"}),
    "h264 33 frames exactly": Recipe(frames=33),
    "h264 10 bit": Recipe(pixel_format="yuv420p10le"),
    "h264 4:4:4 odd size": Recipe(width=321, height=191, pixel_format="yuv444p"),
    "h264 sound beside it": Recipe(audio=True),
    "h264 fragmented": Recipe(container_options={"movflags": "frag_keyframe+empty_moov"}),
    "h264 variable rate": Recipe(ticks=slow_then_fast),
    "h264 in mkv": Recipe(container="matroska", b_frames=2),
    "h264 in mpegts": Recipe(container="mpegts"),
    "hevc in mov": Recipe(
        codec="libx265", container="mov", options={"x265-params": "pools=1:log-level=none"}
    ),
    "hevc with B-frames": Recipe(
        codec="libx265", b_frames=3, options={"x265-params": "pools=1:log-level=none"}
    ),
    "vp8": Recipe(codec="libvpx", container="webm"),
    "vp9": Recipe(codec="libvpx-vp9", container="webm"),
    "vp9 odd size": Recipe(codec="libvpx-vp9", container="webm", width=323, height=201),
    "vp9 with hidden frames": Recipe(codec="libvpx-vp9", container="webm", frames=80, tune=altref),
    "prores in mov": Recipe(codec="prores_ks", container="mov", pixel_format="yuv422p10le"),
    "mpeg4 in avi": Recipe(codec="mpeg4", container="avi"),
    "mjpeg full range": Recipe(codec="mjpeg", container="mov", pixel_format="yuvj420p"),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_counts_exactly_what_decoding_presents(
    kind: str, workers: DecodeWorkers, tmp_path: Path
) -> None:
    recipe = KINDS[kind]
    path = clips.make(tmp_path / "clip", recipe)
    expected = clips.reference_numbers(path)
    assert expected == list(range(recipe.frames)), "the clip itself is as meant"
    async with opened(workers, path) as clip:
        assert clip.facts.num_frames == recipe.frames
        assert (clip.facts.width, clip.facts.height) == (recipe.width, recipe.height)
        assert await numbers(clip, recipe.frames) == expected


def test_hidden_frames_are_really_in_the_vp9_clip(tmp_path: Path) -> None:
    path = clips.make(tmp_path / "clip", KINDS["vp9 with hidden frames"])
    with av.open(str(path)) as container:
        superframes = [p for p in container.demux(video=0) if p.size and bytes(p)[-1] >> 5 == 6]
    assert superframes


async def test_hidden_vp8_frames_do_not_count(workers: DecodeWorkers, tmp_path: Path) -> None:
    whole = clips.make(tmp_path / "whole", Recipe(codec="libvpx", container="webm", frames=50))
    path = clips.hide_vp8(whole, tmp_path / "clip", [7, 20, 21])
    expected = [number for number in range(50) if number not in (7, 20, 21)]
    assert clips.reference_numbers(path) == expected
    async with opened(workers, path) as clip:
        assert clip.facts.num_frames == 47
        assert await numbers(clip, 47) == expected


@pytest.mark.parametrize("b_frames", [0, 2])
async def test_edit_lists_are_applied(
    b_frames: int, workers: DecodeWorkers, tmp_path: Path
) -> None:
    whole = clips.make(tmp_path / "whole", Recipe(frames=80, b_frames=b_frames))
    path = tmp_path / "trimmed"
    path.write_bytes(clips.patch_edit_list(whole.read_bytes(), skip_frames=18, keep_frames=40))
    expected = clips.reference_numbers(path)
    assert expected[0] == 18
    assert len(expected) < 45
    async with opened(workers, path) as clip:
        assert clip.facts.num_frames == len(expected)
        assert await numbers(clip, len(expected)) == expected


@pytest.mark.parametrize(("rotation", "turned"), [(90, True), (180, False), (270, True)])
async def test_rotation_is_applied(
    rotation: int, turned: bool, workers: DecodeWorkers, tmp_path: Path
) -> None:
    recipe = Recipe(rotation=rotation, frames=33)
    path = clips.make(tmp_path / "clip", recipe)
    async with opened(workers, path) as clip:
        size = (clip.facts.width, clip.facts.height)
        assert size == ((192, 320) if turned else (320, 192))
        block = await clip.read(0, FIRST)
        luma = block.frames[5][:HEIGHT].astype(int)
        block.release()
    # The texture's diagonals run from the upper right to the lower left, 3 across for
    # 2 down; a quarter turn mirrors them, and changes nothing for a half turn.
    corner = luma[4:40, 4:40]
    slope_down = abs(corner[1:, 1:] - corner[:-1, :-1]).mean()
    slope_up = abs(corner[1:, :-1] - corner[:-1, 1:]).mean()
    assert (slope_down < slope_up) == turned


async def test_pixels_that_are_not_square_count_as_displayed(
    workers: DecodeWorkers, tmp_path: Path
) -> None:
    recipe = Recipe(width=240, pixel_aspect=Fraction(4, 3))
    path = clips.make(tmp_path / "clip", recipe)
    async with opened(workers, path) as clip:
        assert (clip.facts.width, clip.facts.height) == (320, 192)
        assert await numbers(clip, 40) == list(range(40))


async def test_presentation_times_are_those_of_the_source(
    workers: DecodeWorkers, tmp_path: Path
) -> None:
    path = clips.make(tmp_path / "clip", KINDS["h264 variable rate"])
    async with opened(workers, path) as clip:
        block = await clip.read(0, FIRST)
    assert [round(time / 1000) for time in block.pts_us] == [slow_then_fast(i) for i in range(33)]


async def test_the_tail_is_padded_with_the_last_frame(
    workers: DecodeWorkers, tmp_path: Path
) -> None:
    path = clips.make(tmp_path / "clip", Recipe(frames=40))
    async with opened(workers, path) as clip:
        assert await numbers(clip, FIRST + WINDOW) == [*range(40), *[39] * (FIRST + WINDOW - 40)]
        block = await clip.read(50, WINDOW)
        assert [clips.number_of(frame) for frame in block.frames] == [39] * WINDOW
        assert list(block.pts_us) == sorted(set(block.pts_us))


@pytest.mark.parametrize("kind", ["h264 with B-frames", "vp9", "mpeg4 in avi", "h264 in mpegts"])
async def test_any_window_can_be_read_at_any_time(
    kind: str, workers: DecodeWorkers, tmp_path: Path
) -> None:
    path = clips.make(tmp_path / "clip", KINDS[kind])
    async with opened(workers, path) as clip:
        for first in (21, 5, 0, 30, 0, 3):
            block = await clip.read(first, 8)
            found = [clips.number_of(frame) for frame in block.frames]
            assert found == list(range(first, first + 8))
            block.release()


async def test_replay_gives_the_same_pictures(workers: DecodeWorkers, tmp_path: Path) -> None:
    path = clips.make(tmp_path / "clip", Recipe(frames=60))
    async with opened(workers, path) as clip:
        first = (await clip.read(0, FIRST)).frames.copy()
        again = await clip.read(0, FIRST)
        assert (again.frames == first).all()


async def test_a_block_stays_as_it_is_until_released(
    workers: DecodeWorkers, tmp_path: Path
) -> None:
    path = clips.make(tmp_path / "clip", Recipe(frames=200))
    async with opened(workers, path) as clip:
        kept = await clip.read(0, FIRST)
        for first in range(FIRST, 190, WINDOW):
            (await clip.read(first, WINDOW)).release()
        assert [clips.number_of(frame) for frame in kept.frames] == list(range(FIRST))


async def test_frames_outlive_the_decoder(workers: DecodeWorkers, tmp_path: Path) -> None:
    path = clips.make(tmp_path / "clip", Recipe(frames=40))
    async with opened(workers, path) as clip:
        block = await clip.read(0, FIRST)
    del clip
    assert [clips.number_of(frame) for frame in block.frames] == list(range(FIRST))


async def test_more_windows_than_there_is_room_for_are_our_mistake(
    workers: DecodeWorkers, tmp_path: Path
) -> None:
    path = clips.make(tmp_path / "clip", Recipe(frames=120))
    async with opened(workers, path) as clip:
        held = [await clip.read(first, WINDOW) for first in (0, 24, 48)]
        with pytest.raises(InvariantError):
            await clip.read(72, WINDOW)
        held[1].release()
        block = await clip.read(72, WINDOW)
        assert clips.number_of(block.frames[0]) == 72


async def test_bt601_full_range_becomes_bt709_limited_range(
    workers: DecodeWorkers, tmp_path: Path
) -> None:
    def tag(context: Any) -> None:
        context.colorspace, context.color_range = 6, 2

    # The ground of every test picture is U 110, V 150: read as BT.601, full range.
    path = clips.make(tmp_path / "clip", Recipe(pixel_format="yuv420p", tune=tag))
    async with opened(workers, path) as clip:
        frame = (await clip.read(0, FIRST)).frames[0]
    u = frame[HEIGHT : HEIGHT * 5 // 4].mean()
    v = frame[HEIGHT * 5 // 4 :].mean()
    # BT.601 to RGB, RGB to BT.709 (ITU-R BT.709-6, table 3), scaled to 224 steps.
    cb, cr = (110 - 128) / 255, (150 - 128) / 255
    red, green, blue = 1.402 * cr, -0.344136 * cb - 0.714136 * cr, 1.772 * cb
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    assert u == pytest.approx(128 + 224 * (blue - luma) / 1.8556, abs=2)
    assert v == pytest.approx(128 + 224 * (red - luma) / 1.5748, abs=2)


def test_the_edit_list_of_the_test_clips_is_version_0(tmp_path: Path) -> None:
    data = clips.make(tmp_path / "clip", Recipe()).read_bytes()
    assert struct.unpack_from(">BxxxI", data, data.index(b"elst") + 4) == (0, 1)
