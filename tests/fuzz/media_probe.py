"""Clips and camera frames of strangers: the probe and the decoder, as a decode worker runs them.

The worker is a process that may die of what it reads; its owner then says that the clip is too
demanding. Here there is no such process, so whatever would end one is found.
"""

from __future__ import annotations

import io
import os
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

import av.logging

from model_actor.media.camera_source import CameraSource
from model_actor.media.clip_source import ClipSource, RefusedClipError
from model_actor.media.codec import Codec
from model_actor.media.limits import DecodeLimits
from model_actor.media.truncation import is_cut_short
from model_actor.media.wire import CameraPacket, ClipFacts, OpenCamera, Refused
from tests.fuzz.reader import Reader, chunk
from tests.media.clips import Recipe, make, numbered

SIZE: Final = (64, 48)
SLOTS: Final = 3
FRAMES: Final = 2
"""Least frames of a clip, and the frames of a window."""
LIMITS: Final = DecodeLimits(
    max_width=512, max_height=512, max_pixels=1 << 17, max_duration_s=60.0, max_bytes=1 << 20
)
_BYTES: Final = SIZE[0] * SIZE[1] * 3 // 2

av.logging.set_level(av.logging.PANIC)


def fuzz_one(data: bytes) -> None:
    """Opens a clip and reads two windows of it, or decodes what a camera sends."""
    reader = Reader(data)
    if reader.number() & 1:
        camera(reader)
    else:
        clip(reader.rest())


def clip(content: bytes) -> None:
    """Reads a clip as `Worker` does."""
    is_cut_short(lambda offset, length: content[offset : offset + length], len(content))
    descriptor = os.memfd_create("clip", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        with suppress(MemoryError, ArithmeticError):
            _read(descriptor)
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> None:
    try:
        source = ClipSource(descriptor, SIZE, FRAMES, LIMITS)
    except RefusedClipError as refused:
        told = Refused(refused.refusal, refused.value)
        assert Refused.unpack(told.pack()) == told
        return
    assert ClipFacts.unpack(source.facts.pack()) == source.facts
    assert source.facts.num_frames >= FRAMES
    memory = memoryview(bytearray(SLOTS * _BYTES))
    offsets = range(0, FRAMES * _BYTES, _BYTES)
    for first in (0, FRAMES, 0):
        with suppress(RefusedClipError):
            assert len(source.read(first, memory, offsets)) == FRAMES


def camera(reader: Reader) -> None:
    """Decodes packets of a camera as `Worker` does."""
    memory = memoryview(bytearray(SLOTS * _BYTES))
    order = OpenCamera(*SIZE, slots=SLOTS, frame_rate=24.0, head=0, tail=0)
    source = CameraSource(order, memory, LIMITS)
    time_us = shown = 0
    for _ in range(16):
        if not reader:
            break
        action = reader.number()
        codec = tuple(Codec)[action & 1]
        time_us += reader.number(2) * 64
        if action & 2:
            source.flush()
        if action & 4:
            source.free(shown)
        with suppress(MemoryError, ArithmeticError):
            decoded = source.decode(CameraPacket(codec, action & 8 > 0, time_us, reader.chunk()))
            shown += len(decoded.times_us)


@cache
def clips() -> tuple[bytes, ...]:
    """Returns small clips of every container and codec that is read."""
    few = {"frames": 4, "width": 64, "height": 48}
    recipes = [
        Recipe(**few, options={"preset": "ultrafast"}),
        Recipe(**few, b_frames=2, rotation=90, options={"preset": "fast"}),
        Recipe("libvpx", "webm", **few),
        Recipe("libvpx-vp9", "webm", **few),
        Recipe("mpeg4", "avi", **few),
        Recipe("mjpeg", "mov", **few, pixel_format="yuvj420p"),
        Recipe("libx264", "mpegts", **few, options={"preset": "ultrafast"}),
        Recipe(**few, audio=True, container_options={"movflags": "frag_keyframe+empty_moov"}),
    ]
    with tempfile.TemporaryDirectory() as folder:
        return tuple(make(Path(folder) / "clip", recipe).read_bytes() for recipe in recipes)


def packets(content: bytes) -> list[bytes]:
    """Returns the frames of a clip as they are encoded."""
    with av.open(io.BytesIO(content)) as container:
        return [bytes(each) for each in container.demux(video=0) if each.size]


def seeds() -> list[bytes]:
    """Returns small clips, parts of them, and what is none."""
    whole = clips()
    cut = [each[: len(each) * 2 // 3] for each in whole]
    assert numbered(0, *SIZE).size == _BYTES
    cameras = [
        b"\1" + b"".join(bytes([action]) + (650).to_bytes(2, "big") + chunk(each) for each in sent)
        for action, sent in ((8 | 4, packets(whole[6])), (8 | 4 | 1, packets(whole[2])))
    ]
    return [
        *(b"\0" + each for each in (*whole, *cut, b"#EXTM3U\nfile:///etc/passwd\n", b"RIFF")),
        *cameras,
        cameras[0] + cameras[1][1:],
    ]
