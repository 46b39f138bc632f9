"""Clips of every kind, uploaded, accepted with the right facts, and played frame by frame."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import pytest

from sana_gateway import Client
from sana_gateway.v1 import media_pb2
from sana_gateway.v1.message_pb2 import VideoAccepted
from tests.e2e.driving import H264, VP8, Told, stage_another, watching
from tests.media import clips
from tests.media.clips import Recipe
from tests.stack import Stack

pytestmark = pytest.mark.e2e

AT_ONCE = 3
"""Clips that play at the same time."""


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


@dataclass(frozen=True)
class Played:
    """What became of a clip."""

    frames: int
    """What plain decoding presents."""
    accepted: VideoAccepted
    told: Told
    numbers: list[int]
    """What a viewer saw."""


def made(folder: Path, name: str) -> Path:
    kind = KINDS[name]
    path = clips.make(folder / name.replace(" ", "-"), kind.recipe)
    if kind.after is not None:
        path.write_bytes(kind.after(path.read_bytes()))
    return path


async def play(client: Client, path: Path, codec: media_pb2.Codec.ValueType) -> Played:
    async with await client.create_session("simulated") as session:
        told = Told(session)
        await session.set_mode("file")
        accepted = await stage_another(session, told, path)
        await session.set_prompt("a clay model")
        async with watching(client, session, codec) as screen:
            await session.start()
            await told.until_told("generation_complete")
            await screen.until(lambda: accepted.num_frames - 1 in screen.numbers())
    frames = len(clips.reference_numbers(path))
    return Played(frames, accepted, told, screen.numbers())


@pytest.fixture(scope="module")
def played(
    simulated: Stack, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Played | BaseException]:
    """Plays all clips, some at the same time."""
    folder = tmp_path_factory.mktemp("kinds")
    names = [name for name in KINDS if encoder_exists(KINDS[name].recipe.codec)]
    paths = [made(folder, name) for name in names]

    async def play_all() -> list[Played | BaseException]:
        turns = asyncio.Semaphore(AT_ONCE)

        async def take_turn(client: Client, path: Path) -> Played:
            async with turns:
                return await play(client, path, VP8 if "webm" in path.name else H264)

        async with Client(simulated.grpc_address) as client:
            turn = [take_turn(client, path) for path in paths]
            return await asyncio.gather(*turn, return_exceptions=True)

    return dict(zip(names, asyncio.run(play_all()), strict=True))


@pytest.mark.parametrize("name", KINDS)
def test_every_frame_of_a_clip_is_answered_by_one_frame(
    played: dict[str, Played | BaseException], name: str
) -> None:
    assert name in played, f"this PyAV has no {KINDS[name].recipe.codec}"
    result = played[name]
    if isinstance(result, BaseException):
        raise result
    frames, accepted, told = result.frames, result.accepted, result.told
    assert frames >= 33, "the clip itself is as meant"
    assert (accepted.width, accepted.height) == KINDS[name].size
    assert accepted.num_frames == frames
    assert accepted.num_latent_frames == (frames - 1) // 8 + 1
    assert result.numbers == list(range(frames))
    chunks = told.of("chunk_complete")
    assert sum(each.frames_emitted for each in chunks) == frames
    assert all(each.frames_emitted <= 24 for each in chunks)
    assert [each.chunk_index for each in chunks] == list(range(len(chunks)))
    (complete,) = told.of("generation_complete")
    assert complete.total_chunks == len(chunks)
