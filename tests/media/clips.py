"""Makes test clips: every frame carries its number in blocks that survive any codec."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

BITS = 8
RATE = 24
_DARK, _BRIGHT = 60, 190

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Recipe:
    """How to make a clip."""

    codec: str = "libx264"
    container: str = "mp4"
    frames: int = 40
    width: int = 320
    height: int = 192
    pixel_format: str = "yuv420p"
    rotation: int = 0
    audio: bool = False
    options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)
    ticks: Callable[[int], int] = lambda index: index * 1000 // RATE
    """Presentation time of a frame in milliseconds."""
    pixel_aspect: Fraction | None = None
    b_frames: int = 0
    tune: Callable[[Any], None] = lambda _context: None


def numbered(number: int, width: int, height: int) -> Picture:
    """Draws an I420 frame that carries a number in its middle, on a moving texture."""
    y = (np.add.outer(np.arange(height) * 2, np.arange(width) * 3 + number * 4) % 64 + 90).astype(
        np.uint8
    )
    for bit, (rows, columns) in enumerate(_blocks(width, height)):
        y[rows, columns] = _BRIGHT if number >> bit & 1 else _DARK
    u = np.full((-(-height // 2), -(-width // 2)), 110, np.uint8)
    v = np.full_like(u, 150)
    return np.concatenate([plane.reshape(-1) for plane in (y, u, v)])


def number_of(frame: Picture) -> int:
    """Reads the number of an I420 frame of shape `(height * 3 // 2, width)`."""
    height, width = frame.shape[0] * 2 // 3, frame.shape[1]
    return read_number(frame[:height], width, height)


def read_number(luma: Picture, width: int, height: int) -> int:
    """Reads the number of a luma plane."""
    middle = (_DARK + _BRIGHT) / 2
    return sum(
        (luma[rows, columns][3:-3, 3:-3].mean() > middle) << bit
        for bit, (rows, columns) in enumerate(_blocks(width, height))
    )


def _blocks(width: int, height: int) -> Iterator[tuple[slice, slice]]:
    """Two rows of four blocks in the middle half of the picture."""
    block_width, block_height = width // 8, height // 4
    for bit in range(BITS):
        top = height // 4 + (bit // 4) * block_height
        left = width // 4 + (bit % 4) * block_width
        yield slice(top, top + block_height), slice(left, left + block_width)


def make(path: Path, recipe: Recipe) -> Path:
    """Writes a clip."""
    with av.open(
        str(path), "w", format=recipe.container, container_options=recipe.container_options
    ) as container:
        stream = container.add_stream(recipe.codec, rate=RATE, options=recipe.options)
        stream.width, stream.height = recipe.width, recipe.height
        stream.pix_fmt = recipe.pixel_format
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.time_base = Fraction(1, 1000)
        stream.max_b_frames = recipe.b_frames
        if recipe.pixel_aspect:
            stream.codec_context.sample_aspect_ratio = recipe.pixel_aspect
        if recipe.rotation:
            stream.set_display_rotation(recipe.rotation)
        recipe.tune(stream.codec_context)
        sound = container.add_stream("aac", rate=48000) if recipe.audio else None
        for index in range(recipe.frames):
            frame = picture(numbered(index, recipe.width, recipe.height), recipe)
            frame.pts, frame.time_base = recipe.ticks(index), Fraction(1, 1000)
            container.mux(stream.encode(frame))
            if sound is not None:
                container.mux(sound.encode(silence(index)))
        container.mux(stream.encode(None))
        if sound is not None:
            container.mux(sound.encode(None))
    return path


def picture(i420: Picture, recipe: Recipe) -> av.VideoFrame:
    """Wraps a numbered frame, in the recipe's pixel format."""
    frame = av.VideoFrame(recipe.width, recipe.height, "yuv420p")
    at = 0
    for plane in frame.planes:
        for row in range(plane.height):
            line = i420[at : at + plane.width].tobytes()
            memoryview(plane).cast("B")[row * plane.line_size :][: plane.width] = line
            at += plane.width
    return frame.reformat(format=recipe.pixel_format)


def silence(index: int) -> av.AudioFrame:
    """Returns a twenty-fourth of a second of silence."""
    frame = av.AudioFrame.from_ndarray(np.zeros((2, 2000), np.float32), "fltp", "stereo")
    frame.sample_rate, frame.pts = 48000, index * 2000
    return frame


def reference_numbers(path: Path) -> list[int]:
    """Decodes a clip in the plain way and reads the number of every presented frame."""
    with av.open(str(path)) as container:
        return [
            read_number(frame.to_ndarray(format="gray"), frame.width, frame.height)
            for frame in container.decode(video=0)
        ]


def still(path: Path, width: int, height: int, pixel_format: str, frames: int) -> Path:
    """Writes a clip of one grey picture, repeated; cheap to make at any size."""
    with av.open(str(path), "w", format="mov") as container:
        stream = container.add_stream("mjpeg", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        frame = av.VideoFrame(width, height, pixel_format)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        (packet,) = stream.encode(frame)
        data = bytes(packet)
        for index in range(frames):
            copy = av.Packet(data)
            copy.pts = copy.dts = index
            copy.time_base, copy.stream, copy.is_keyframe = Fraction(1, RATE), stream, True
            container.mux(copy)
    return path


def hide_vp8(source: Path, path: Path, numbers: Sequence[int]) -> Path:
    """Copies a VP8 clip and clears show_frame (RFC 6386, 9.1) in some of its packets."""
    with av.open(str(source)) as before, av.open(str(path), "w", format="webm") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        for index, packet in enumerate(p for p in before.demux(video=0) if p.size):
            data = bytearray(bytes(packet))
            if index in numbers:
                data[0] &= ~0x10
            copy = av.Packet(bytes(data))
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.is_keyframe, copy.stream = packet.is_keyframe, stream
            after.mux(copy)
    return path


def patch_edit_list(data: bytes, skip_frames: int, keep_frames: int) -> bytes:
    """Makes the edit list of an mp4 present only `keep_frames`, after `skip_frames`.

    ISO/IEC 14496-12, 8.6.6; for the first track, of constant frame rate.
    """
    out = bytearray(data)
    at = out.index(b"elst")
    movie_scale = struct.unpack_from(">I", out, out.index(b"mvhd") + 16)[0]
    media_scale = struct.unpack_from(">I", out, out.index(b"mdhd") + 16)[0]
    start = struct.unpack_from(">i", out, at + 16)[0]
    struct.pack_into(">I", out, at + 12, round(keep_frames * movie_scale / RATE))
    struct.pack_into(">i", out, at + 16, start + round(skip_frames * media_scale / RATE))
    return bytes(out)


def jittered(rate: float, frames: int, jitter_us: Sequence[int]) -> list[int]:
    """Returns capture times in microseconds with a repeating jitter."""
    return [
        round(index * 1_000_000 / rate) + jitter_us[index % len(jitter_us)]
        for index in range(frames)
    ]
