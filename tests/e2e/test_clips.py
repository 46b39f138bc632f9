"""Clips of every kind, uploaded, accepted with the right facts, and played frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import pytest

from sana_gateway import Client
from tests.e2e.driving import H264, VP8, Told, stage_another, watching
from tests.media import clips
from tests.media.clips import Recipe

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Kind:
    """A clip, and what the service must say of it."""

    recipe: Recipe
    size: tuple[int, int] = (320, 192)
    """As displayed."""
    after: Callable[[bytes], bytes] | None = None
    """Changes the file once it is written."""


def slow_then_fast(index: int) -> int:
    return index * 100 if index < 20 else 2000 + (index - 20) * 20


def trimmed(data: bytes) -> bytes:
    return clips.patch_edit_list(data, skip_frames=12, keep_frames=36)


HEVC = {"x265-params": "pools=1:log-level=none"}
KINDS = {
    "webm vp8": Kind(Recipe(codec="libvpx", container="webm")),
    "webm vp9": Kind(Recipe(codec="libvpx-vp9", container="webm")),
    "mov hevc": Kind(Recipe(codec="libx265", container="mov", options=HEVC)),
    "rotated": Kind(Recipe(rotation=90), size=(192, 320)),
    "variable frame rate": Kind(Recipe(ticks=slow_then_fast)),
    "edit list": Kind(Recipe(frames=60), after=trimmed),
    "sound beside it": Kind(Recipe(audio=True)),
    "10 bit": Kind(Recipe(pixel_format="yuv420p10le")),
    "odd size, one frame over": Kind(
        Recipe(frames=34, width=321, height=191, pixel_format="yuv444p"), size=(321, 191)
    ),
    "33 frames": Kind(Recipe(frames=33)),
}


def encoder_exists(codec: str) -> bool:
    try:
        av.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        return False
    return True


@pytest.mark.parametrize("name", KINDS)
async def test_every_frame_of_a_clip_is_answered_by_one_frame(
    client: Client, tmp_path: Path, name: str
) -> None:
    kind = KINDS[name]
    if not encoder_exists(kind.recipe.codec):
        pytest.skip(f"this PyAV has no {kind.recipe.codec}")
    path = clips.make(tmp_path / "clip", kind.recipe)
    if kind.after is not None:
        path.write_bytes(kind.after(path.read_bytes()))
    frames = len(clips.reference_numbers(path))
    assert frames >= 33, "the clip itself is as meant"
    async with await client.create_session("simulated") as session:
        told = Told(session)
        await session.set_mode("file")
        accepted = await stage_another(session, told, path)
        assert (accepted.width, accepted.height) == kind.size
        assert accepted.num_frames == frames
        assert accepted.num_latent_frames == (frames - 1) // 8 + 1
        await session.set_prompt("a clay model")
        async with watching(client, session, VP8 if "vp" in name else H264) as screen:
            await session.start()
            await told.until_told("generation_complete")
            await screen.until(lambda: frames - 1 in screen.numbers())
            assert screen.numbers() == list(range(frames))
        assert sum(each.frames_emitted for each in told.of("chunk_complete")) == frames
        assert all(each.frames_emitted <= 24 for each in told.of("chunk_complete"))
        (complete,) = told.of("generation_complete")
        assert complete.total_chunks == len(told.of("chunk_complete"))
