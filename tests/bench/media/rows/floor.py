"""The floor: the bare encoder with our settings, on the frames that every system shows."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import av

from model_actor.media.codec import Codec
from model_actor.media.encoder import EncoderSettings, VideoEncoder
from tests.bench.media import clip as clips
from tests.bench.media.bench import BITRATE, Bench
from tests.bench.media.results import FLOOR, Figure

NOTE: Final = (
    "The same thread, encoder and frames. Back to back the encoder finds its pictures in the "
    "cache and its core awake; 24 times a second it finds neither, as in any live service."
)


async def measure(bench: Bench) -> list[Figure]:
    """CPU of one encode, and the quality that it buys."""
    figures = []
    for codec in ("vp8", "h264"):
        for paced, how in ((False, "back to back"), (True, "24 a second")):
            costs = await floor_ms(bench, codec, paced=paced)
            figures.append(
                Figure(
                    "floor",
                    f"{codec.upper()}: encode a frame, {how}",
                    FLOOR,
                    "CPU ms",
                    tuple(costs),
                    note=NOTE,
                )
            )
        quality = await asyncio.to_thread(_quality, codec, bench.clip)
        figures.append(
            Figure(
                "floor",
                f"{codec.upper()}: quality at 2.5 Mbit/s",
                FLOOR,
                "dB",
                (quality,),
                note="Quality is the PSNR of luma over one loop of the clip, each stream "
                "compared by the matrix it was made with.",
            )
        )
    return figures


async def floor_ms(bench: Bench, codec: str, *, paced: bool = False) -> list[float]:
    """Returns the floor of every run; measured once for all rows that need it.

    Args:
        bench: The run.
        codec: `vp8` or `h264`.
        paced: Whether frames come in time, as a service gets them, and not back to back.
    """
    if (codec, paced) not in bench.floor_ms:
        loops = 1 if bench.quick or paced else 2
        bench.floor_ms[codec, paced] = [
            await asyncio.to_thread(_cost, codec, bench.clip, loops, paced=paced)
            for _ in range(bench.runs)
        ]
    return bench.floor_ms[codec, paced]


def _cost(codec: str, clip: clips.Clip, loops: int, *, paced: bool) -> float:
    """CPU milliseconds of the thread for one frame, the first keyframe and one loop left out."""
    frames, encoder = clip.i420, _encoder(codec)
    for number in range(clips.FRAMES):
        encoder.encode(frames[number])
    start, began = time.monotonic(), time.thread_time()
    for index in range(loops * clips.FRAMES):
        if paced:
            time.sleep(max(0.0, start + index / clips.RATE - time.monotonic()))
        encoder.encode(frames[index % clips.FRAMES])
    spent = time.thread_time() - began
    encoder.close()
    return spent * 1e3 / (loops * clips.FRAMES)


def _quality(codec: str, clip: clips.Clip) -> float:
    encoder = _encoder(codec)
    decoder: Any = av.CodecContext.create(codec, "r")
    decoder.thread_count = 1
    matrix = "bt601" if codec == "vp8" else "bt709"
    values = []
    for number in (*range(clips.FRAMES), *range(clips.FRAMES)):
        for picture in decoder.decode(av.Packet(encoder.encode(clip.i420[number]).data)):
            plane = picture.to_ndarray()[: clips.HEIGHT]
            values.append(clips.psnr(plane, clips.luma(clip.rgb[number], matrix)))
    encoder.close()
    kept = values[clips.FRAMES :]
    return sum(kept) / len(kept)


def _encoder(codec: str) -> VideoEncoder:
    settings = EncoderSettings(Codec(codec), clips.WIDTH, clips.HEIGHT, clips.RATE, BITRATE)
    return VideoEncoder(settings)
