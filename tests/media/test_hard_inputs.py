"""Files that are refused, each with its own sentence, and files that attack."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from model_actor.media.errors import ClipRefusedError
from model_actor.media.limits import DecodeLimits
from model_actor.media.workers import DecodeWorkers
from tests.media import clips
from tests.media.clips import Recipe

pytestmark = pytest.mark.media


@pytest.fixture
async def workers() -> AsyncIterator[DecodeWorkers]:
    pool = DecodeWorkers(spare=1)
    await pool.start()
    yield pool
    await pool.close()


async def refusal(workers: DecodeWorkers, path: Path) -> str:
    """Opens a file that must be refused and returns the sentence."""
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(ClipRefusedError) as caught:
            await workers.open_clip(fd, width=320, height=176, minimum_frames=33)
    finally:
        os.close(fd)
    assert path.name not in str(caught.value)
    assert workers.crashes == 0, "a refusal is not a crash"
    return str(caught.value)


def whole(path: Path, **recipe: object) -> bytes:
    return clips.make(path, replace(Recipe(), **recipe)).read_bytes()  # type: ignore[arg-type]


async def test_32_frames_are_one_too_few(workers: DecodeWorkers, tmp_path: Path) -> None:
    path = clips.make(tmp_path / "clip", Recipe(frames=32))
    said = await refusal(workers, path)
    assert said == "the video has 32 frames; at least 33 are needed"


@pytest.mark.parametrize(
    ("recipe", "part"),
    [
        ({"container_options": {"movflags": "faststart"}}, 0.95),
        ({"container_options": {"movflags": "faststart"}}, 0.5),
        ({}, 0.9),
        ({}, 0.3),
        ({"container_options": {"movflags": "frag_keyframe+empty_moov"}, "frames": 60}, 0.6),
        ({"codec": "libvpx", "container": "webm"}, 0.95),
        ({"codec": "libvpx", "container": "webm"}, 0.5),
        ({"codec": "libvpx-vp9", "container": "webm", "container_options": {"live": "1"}}, 0.7),
        ({"codec": "mpeg4", "container": "avi"}, 0.8),
    ],
)
async def test_files_without_their_end_are_refused(
    recipe: dict[str, object], part: float, workers: DecodeWorkers, tmp_path: Path
) -> None:
    data = whole(tmp_path / "whole", **recipe)
    path = tmp_path / "file-17"
    path.write_bytes(data[: int(len(data) * part)])
    assert await refusal(workers, path) == "the file is cut short"


async def test_a_live_recording_of_unknown_length_is_accepted(
    workers: DecodeWorkers, tmp_path: Path
) -> None:
    path = clips.make(
        tmp_path / "clip",
        Recipe(codec="libvpx", container="webm", container_options={"live": "1"}),
    )
    fd = os.open(path, os.O_RDONLY)
    clip = await workers.open_clip(fd, width=320, height=176, minimum_frames=33)
    os.close(fd)
    assert clip.facts.num_frames == 40


def png(path: Path) -> None:
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path, "PNG")


def gif(path: Path) -> None:
    pages = [Image.fromarray(np.full((64, 64), n, np.uint8)) for n in range(40)]
    pages[0].save(path, "GIF", save_all=True, append_images=pages[1:])


def jpeg(path: Path) -> None:
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path, "JPEG")


def sound(path: Path) -> None:
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=48000)
        for index in range(40):
            container.mux(stream.encode(clips.silence(index)))
        container.mux(stream.encode(None))


NOT_VIDEOS: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("hello " * 1000),
    "zeroes": lambda path: path.write_bytes(bytes(100_000)),
    "noise": lambda path: path.write_bytes(np.random.default_rng(1).bytes(100_000)),
    "png": png,
    "jpeg": jpeg,
    "gif": gif,
    "sound only": sound,
    "raw h264": lambda path: clips.make(path, Recipe(container="h264")),
}


@pytest.mark.parametrize("kind", NOT_VIDEOS)
async def test_what_is_no_video_is_refused(
    kind: str, workers: DecodeWorkers, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    NOT_VIDEOS[kind](path)
    assert await refusal(workers, path) == "this is not a video that can be decoded"


def hls(victim: Path) -> str:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{victim}\n#EXT-X-ENDLIST\n"


def concat(victim: Path) -> str:
    return f"ffconcat version 1.0\nfile '{victim}'\nduration 2\n"


def dash(victim: Path) -> str:
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT2S"><Period><AdaptationSet mimeType="video/mp4">'
        f'<Representation id="1" bandwidth="1"><BaseURL>{victim}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>"
    )


@pytest.mark.parametrize("playlist", [hls, concat, dash])
@pytest.mark.parametrize("name", ["list", "clip.m3u8", "clip.mp4"])
async def test_playlists_in_disguise_read_no_other_file(
    playlist: Callable[[Path], str], name: str, workers: DecodeWorkers, tmp_path: Path
) -> None:
    victim = clips.make(tmp_path / "victim.mp4", Recipe())
    path = tmp_path / name
    path.write_text(playlist(victim))
    assert await refusal(workers, path) == "this is not a video that can be decoded"


async def test_a_movie_that_refers_to_another_file_reads_nothing_of_it(
    workers: DecodeWorkers, tmp_path: Path
) -> None:
    data = bytearray(whole(tmp_path / "whole"))
    # The data reference no longer says "in this file" (ISO/IEC 14496-12, 8.7.2).
    at = data.index(b"url ") + 4
    data[at : at + 4] = bytes(4)
    path = tmp_path / "clip"
    path.write_bytes(bytes(data))
    fd = os.open(path, os.O_RDONLY)
    try:
        clip = await workers.open_clip(fd, width=320, height=176, minimum_frames=33)
    except ClipRefusedError:
        return
    finally:
        os.close(fd)
    # Whoever ignores the reference may read this file, and only this.
    assert clip.facts.num_frames == 40


LIMITS: dict[str, tuple[DecodeLimits, str]] = {
    "width": (DecodeLimits(max_width=300), "the picture is too large; at most 300 x 4096"),
    "height": (DecodeLimits(max_height=100), "the picture is too large; at most 4096 x 100"),
    "pixels": (DecodeLimits(max_pixels=9999), "4096 and 9999 pixels are allowed"),
    "bytes": (DecodeLimits(max_bytes=1 << 10), "the file is too large; at most 0 MiB"),
    "duration": (DecodeLimits(max_duration_s=1.5), "too long; at most 1.5 s are allowed"),
    "rate": (DecodeLimits(max_fps=20), "too many frames a second; at most 20 are allowed"),
    "probe time": (DecodeLimits(probe_s=0.001), "probing took longer than 0.001 s"),
}


@pytest.mark.parametrize("limit", LIMITS)
async def test_each_limit_has_its_own_sentence(limit: str, tmp_path: Path) -> None:
    limits, sentence = LIMITS[limit]
    path = clips.make(tmp_path / "clip", Recipe())
    pool = DecodeWorkers(spare=0, limits=limits)
    try:
        assert sentence in await refusal(pool, path)
    finally:
        await pool.close()


@pytest.mark.parametrize("honest", [True, False])
async def test_a_dimension_bomb_is_refused_before_it_is_decoded(
    honest: bool, workers: DecodeWorkers, tmp_path: Path
) -> None:
    path = clips.still(tmp_path / "bomb", 8192, 8192, "yuvj420p", 40)
    if not honest:
        data = path.read_bytes()
        size = (8192).to_bytes(2, "big") * 2
        at = data.index(b"stsd")
        assert data[at:].index(size) < 100
        small = (64).to_bytes(2, "big") * 2
        path.write_bytes(data[:at] + data[at:].replace(size, small, 1))
    assert await refusal(workers, path) in (
        "the picture is too large; at most 4096 x 4096 and 9437184 pixels are allowed",
        "this is not a video that can be decoded",
    )


async def test_a_picture_that_needs_too_much_memory_ends_the_worker_not_us(
    workers: DecodeWorkers, tmp_path: Path
) -> None:
    path = clips.still(tmp_path / "clip", 4000, 2300, "yuvj444p", 40)
    fd = os.open(path, os.O_RDONLY)
    clip = await workers.open_clip(fd, width=320, height=176, minimum_frames=33)
    assert clip.facts.num_frames == 40
    link = await workers.lease()
    usual = psutil.Process(link.pid).memory_info().vms
    workers.discard(link)
    pool = DecodeWorkers(spare=0, limits=DecodeLimits(address_space_bytes=usual + (20 << 20)))
    try:
        with pytest.raises(ClipRefusedError, match="more memory or time"):
            await pool.open_clip(fd, width=320, height=176, minimum_frames=33)
    finally:
        os.close(fd)
        await pool.close()


async def test_a_pipe_is_no_clip(workers: DecodeWorkers) -> None:
    readable, writable = os.pipe()
    try:
        with pytest.raises(ClipRefusedError, match="not a video"):
            await workers.open_clip(readable, width=320, height=176, minimum_frames=33)
    finally:
        os.close(readable)
        os.close(writable)


async def test_damage_in_the_middle_keeps_the_count(workers: DecodeWorkers, tmp_path: Path) -> None:
    data = bytearray(whole(tmp_path / "whole", frames=60))
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[middle : middle + 400] = np.random.default_rng(2).bytes(400)
    path = tmp_path / "clip"
    path.write_bytes(bytes(data))
    fd = os.open(path, os.O_RDONLY)
    clip = await workers.open_clip(fd, width=320, height=176, minimum_frames=33)
    os.close(fd)
    assert clip.facts.num_frames == 60
    first = await clip.read(0, 33)
    rest = await clip.read(33, 27)
    assert clips.number_of(first.frames[0]) == 0
    assert len(rest.frames) == 27


def test_the_limits_travel_as_json() -> None:
    assert DecodeLimits(**asdict(DecodeLimits(max_fps=99))) == DecodeLimits(max_fps=99)
