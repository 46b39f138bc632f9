"""Pictures that nothing can be made of, a single line for example: as good as damaged ones."""

from __future__ import annotations

import io
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from model_actor.media.camera_source import CameraSource
from model_actor.media.clip_source import ClipSource, RefusedClipError
from model_actor.media.codec import Codec
from model_actor.media.limits import DecodeLimits, Refusal
from model_actor.media.wire import CameraPacket, OpenCamera

pytestmark = pytest.mark.media

SIZE = (64, 48)
BYTES = 64 * 48 * 3 // 2
LINE = (49, 1)


def encoded(codec: str, size: tuple[int, int], luma: int) -> bytes:
    """Returns one picture of one brightness."""
    context: Any = av.CodecContext.create(codec, "w")
    context.width, context.height = size
    context.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    context.time_base = Fraction(1, 24)
    frame = av.VideoFrame(*size, context.pix_fmt)
    for index, plane in enumerate(frame.planes):
        plane.update(bytes([128 if index else luma]) * plane.buffer_size)
    frame.pts = 0
    return b"".join(bytes(each) for each in [*context.encode(frame), *context.encode(None)])


def clip(*sizes: tuple[int, int]) -> bytes:
    """Returns a clip of pictures of these sizes, each brighter than the one before."""
    file = io.BytesIO()
    with av.open(file, "w", format="mov") as container:
        stream = container.add_stream("mjpeg", rate=24)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuvj420p"
        for index, size in enumerate(sizes):
            packet = av.Packet(encoded("mjpeg", size, 60 + 40 * index))
            packet.pts = packet.dts = index
            packet.time_base, packet.stream = Fraction(1, 24), stream
            packet.is_keyframe = True
            container.mux(packet)
    return file.getvalue()


def opened(data: bytes, tmp_path: Path) -> ClipSource:
    path = tmp_path / "clip"
    path.write_bytes(data)
    return ClipSource(os.open(path, os.O_RDONLY), SIZE, 2, DecodeLimits())


def test_in_a_clip_the_picture_before_it_stays(tmp_path: Path) -> None:
    source = opened(clip(SIZE, LINE, SIZE), tmp_path)
    assert source.facts.num_frames == 3
    memory = memoryview(bytearray(3 * BYTES))
    source.read(0, memory, range(0, 3 * BYTES, BYTES))
    first, second, third = (memory[at * BYTES + 500] for at in range(3))
    assert first == second < third


def test_a_clip_that_begins_with_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedClipError) as refused:
        opened(clip(LINE, SIZE, SIZE), tmp_path)
    assert refused.value.refusal is Refusal.NOT_VIDEO


def test_of_a_camera_the_last_picture_stays_and_it_counts_as_an_error() -> None:
    memory = memoryview(bytearray(4 * BYTES))
    order = OpenCamera(*SIZE, slots=4, frame_rate=24.0, head=0, tail=0)
    source = CameraSource(order, memory, DecodeLimits())
    told = [
        source.decode(
            CameraPacket(
                Codec.VP8, keyframe=True, timestamp_us=at * 41_667, data=encoded("libvpx", size, 90)
            )
        )
        for at, size in enumerate((SIZE, LINE, SIZE))
    ]
    assert [each.errors for each in told] == [0, 1, 0]
    assert [len(each.times_us) for each in told] == [1, 1, 1]
    assert bytes(memory[:BYTES]) == bytes(memory[BYTES : 2 * BYTES])
