"""Frames of H.264 whose pictures tell their numbers, and the numbers of a file of them."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from functools import cache
from typing import Any

import av
import numpy as np

from gateway.ports import EncodedFrame
from sana_gateway.v1 import media_pb2

WIDTH, HEIGHT = 64, 48
PERIOD_US = 40_000
DARKEST, SHADES = 16, 200


@cache
def packets(count: int, gop: int, *, first: int = 0) -> tuple[tuple[bytes, bool], ...]:
    """Encodes grey pictures: frame n has shade n. Keyframes are `gop` apart."""
    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    encoder.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "crf": "1",
        "x264-params": f"keyint={gop}:scenecut=0",
    }
    made = []
    for number in range(first, first + count):
        picture = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
        picture[:HEIGHT] = DARKEST + number % SHADES
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
        frame.pts = number
        made += [(bytes(packet), packet.is_keyframe) for packet in encoder.encode(frame)]
    return tuple(made)


def reel(
    count: int, *, gop: int = 25, first: int = 0, at_us: int | None = None, run: int = 1
) -> list[EncodedFrame]:
    """Returns frames of a run as a viewer is given them, 25 a second.

    Args:
        count: How many.
        gop: Distance of keyframes.
        first: Number of the first.
        at_us: When the first is shown on the play-out clock; None: when its number says.
        run: The run.
    """
    begin_us = first * PERIOD_US if at_us is None else at_us
    return [
        EncodedFrame(
            data, key, media_pb2.CODEC_H264, begin_us + n * PERIOD_US, run, 0, first + n, 0
        )
        for n, (data, key) in enumerate(packets(count, gop, first=first))
    ]


def numbers(files: Iterable[bytes]) -> list[int]:
    """Returns the numbers of all pictures of a file in parts, in order."""
    with av.open(io.BytesIO(b"".join(files))) as container:
        shades = [int(frame.to_ndarray()[0, 0]) for frame in container.decode(video=0)]
    return [shade - DARKEST for shade in shades]


def times_us(files: Iterable[bytes]) -> list[int]:
    """Returns when each picture of a file in parts is shown."""
    with av.open(io.BytesIO(b"".join(files))) as container:
        return [
            round(packet.pts * packet.time_base * 1_000_000)
            for packet in container.demux(video=0)
            if packet.pts is not None
        ]
