"""Arrays in, arrays out: cameras and decoded pictures of the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from sana_gateway.camera import Camera, Rgb, play
from sana_gateway.errors import CallError, UnavailableError, UnknownSessionError
from sana_gateway.pictures import Decoder, Pictures
from sana_gateway.retry import RetryPolicy
from sana_gateway.v1 import media_pb2
from tests.media.clips import Recipe, make

pytestmark = pytest.mark.unit

CODECS = {"h264": media_pb2.CODEC_H264, "vp8": media_pb2.CODEC_VP8}


def grey(level: int, height: int = 64, width: int = 96) -> Rgb:
    return np.full((height, width, 3), level, np.uint8)


async def encoded(codec: Any, *pictures: Rgb, camera: Camera | None = None) -> list[Any]:
    """Encodes pictures one by one."""
    camera = camera or Camera()
    frames, source = [], camera.encoded(codec)
    for number, rgb in enumerate(pictures):
        camera.push(rgb, number * 40_000)
        frames.append(await anext(source))
    camera.close()
    assert [each async for each in source] == []
    return frames


def video(frame: media_pb2.CameraFrame, codec: Any, number: int = 0) -> media_pb2.VideoFrame:
    return media_pb2.VideoFrame(
        data=frame.data, keyframe=frame.keyframe, codec=CODECS[codec], frame=number, run=1
    )


@pytest.mark.parametrize("codec", CODECS)
async def test_what_a_camera_is_shown_comes_out_of_the_decoder(codec: Any) -> None:
    levels = (40, 120, 200)
    frames = await encoded(codec, *(grey(level) for level in levels))
    assert [each.keyframe for each in frames] == [True, False, False]
    assert [each.timestamp_us for each in frames] == [0, 40_000, 80_000]
    decoder = Decoder()
    for level, frame in zip(levels, frames, strict=True):
        rgb = decoder.decode(video(frame, codec))
        assert rgb is not None
        assert rgb.shape == (64, 96, 3)
        assert abs(float(rgb.mean()) - level) < 6


@pytest.mark.parametrize("codec", CODECS)
async def test_a_change_of_size_and_a_request_begin_at_keyframes(codec: Any) -> None:
    camera = Camera()
    frames: list[media_pb2.CameraFrame] = []
    source = camera.encoded(codec)
    for rgb in (grey(40), grey(60), grey(80, 32, 48), grey(90, 32, 48)):
        if rgb[0, 0, 0] == 90:
            camera.request_keyframe()
        camera.push(rgb)
        frames.append(await anext(source))
    assert [each.keyframe for each in frames] == [True, False, True, True]
    camera.close()


async def test_the_newest_picture_counts() -> None:
    camera = Camera()
    for level in (10, 20, 30):
        camera.push(grey(level))
    camera.close()
    assert [int(rgb[0, 0, 0]) async for rgb, _ in camera.pictures()] == [30]
    assert camera.skipped == 2


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((64, 96), np.uint8),
        np.zeros((64, 96, 4), np.uint8),
        np.zeros((64, 96, 3), np.float32),
        np.zeros((63, 96, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"array of uint8|even"):
        Camera().push(wrong)


async def test_a_file_is_shown_picture_by_picture(tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mp4", Recipe(frames=4, width=64, height=48))
    shown: list[Rgb] = []

    class Shown(Camera):
        def push(self, rgb: Rgb, timestamp_us: int | None = None) -> None:
            shown.append(rgb)
            super().push(rgb, timestamp_us)

    await play(Shown(), clip)
    assert [each.shape for each in shown] == [(48, 64, 3)] * 4


async def test_playing_can_be_given_up_at_any_moment(tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mp4", Recipe(frames=24, width=640, height=352))
    for moment in range(40):
        camera = Camera()
        playing = asyncio.create_task(play(camera, clip, loop=True))
        await anext(camera.pictures())
        for _ in range(moment % 8):
            await asyncio.sleep(0)
        playing.cancel()
        with suppress(asyncio.CancelledError):
            await playing


async def test_a_stream_that_is_joined_amid_pictures_waits_for_a_keyframe() -> None:
    first, second = await encoded("vp8", grey(40), grey(200))
    decoder = Decoder()
    assert decoder.decode(video(second, "vp8")) is None
    assert decoder.decode(video(first, "vp8")) is not None


def test_what_does_not_decode_asks_for_a_keyframe() -> None:
    frame = media_pb2.VideoFrame(data=b"\x00" * 40, keyframe=True, codec=media_pb2.CODEC_H264)
    assert Decoder().decode(frame) is None


class FakeWatch:
    """Frames, then an error or an end."""

    stats = None

    def __init__(self, frames: list[media_pb2.VideoFrame], error: CallError | None) -> None:
        self.keyframes = 0
        self.closed = False
        self._items = self._run(frames, error)

    async def _run(
        self, frames: list[media_pb2.VideoFrame], error: CallError | None
    ) -> AsyncIterator[media_pb2.VideoFrame]:
        for frame in frames:
            yield frame
        if error is not None:
            raise error

    async def __anext__(self) -> media_pb2.VideoFrame:
        return await anext(self._items)

    async def request_keyframe(self) -> None:
        self.keyframes += 1

    async def aclose(self) -> None:
        self.closed = True


async def test_pictures_go_on_after_a_lost_connection_and_leave_out_held_ones() -> None:
    first, second = await encoded("vp8", grey(40), grey(200))
    held = video(first, "vp8", 0)
    held.held = True
    gone = UnavailableError("gone", grpc.StatusCode.UNAVAILABLE)
    watches = [
        FakeWatch([video(second, "vp8", 1), video(first, "vp8", 0)], gone),
        FakeWatch([], gone),
        FakeWatch([held, video(second, "vp8", 1)], None),
    ]
    left = iter(watches)
    policy = RetryPolicy(first=0.001, longest=0.001)
    async with Pictures(lambda: next(left), policy) as pictures:  # type: ignore[arg-type, return-value]
        seen = [each.frame async for each in pictures]
    assert seen == [0, 1]
    assert watches[0].keyframes == 1, "asked for, when it began amid pictures"
    assert all(each.closed for each in watches)


async def test_what_will_not_pass_is_raised() -> None:
    gone = UnknownSessionError("gone", grpc.StatusCode.NOT_FOUND)
    pictures = Pictures(lambda: FakeWatch([], gone), RetryPolicy())  # type: ignore[arg-type, return-value]
    with pytest.raises(UnknownSessionError):
        await anext(pictures)
    await pictures.aclose()


async def test_trying_again_has_an_end() -> None:
    gone = UnavailableError("gone", grpc.StatusCode.UNAVAILABLE)
    policy = RetryPolicy(window=0.05, first=0.01, longest=0.01)
    pictures = Pictures(lambda: FakeWatch([], gone), policy)  # type: ignore[arg-type, return-value]
    async with asyncio.timeout(30):
        with pytest.raises(UnavailableError):
            await anext(pictures)
    await pictures.aclose()
