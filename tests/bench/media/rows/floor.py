"""The floor: the bare encoder with our settings, on the frames that every system shows."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import av

from model_actor.media.codec import Codec
from model_actor.media.encoder import EncoderSettings, VideoEncoder
from tests.bench.media import clip as clips
from tests.bench.media.bench import BITRATE, Bench
from tests.bench.media.results import FLOOR, Figure


async def measure(bench: Bench) -> list[Figure]:
    """CPU of one encode, and the quality that it buys."""
    figures = []
    for codec in ("vp8", "h264"):
        costs = await floor_ms(bench, codec)
        figures.append(
            Figure("floor", f"{codec.upper()}: encode a frame", FLOOR, "CPU ms", tuple(costs))
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


async def floor_ms(bench: Bench, codec: str) -> list[float]:
    """Returns the floor of every run; measured once for all rows that need it."""
    if codec not in bench.floor_ms:
        loops = 1 if bench.quick else 2
        bench.floor_ms[codec] = [
            await asyncio.to_thread(_cost, codec, bench.clip, loops) for _ in range(bench.runs)
        ]
    return bench.floor_ms[codec]


def _cost(codec: str, clip: clips.Clip, loops: int) -> float:
    """CPU milliseconds of the thread for one frame, the first keyframe and one loop left out."""
    frames, encoder = clip.i420, _encoder(codec)
    for number in range(clips.FRAMES):
        encoder.encode(frames[number])
    began = time.thread_time()
    for _ in range(loops):
        for number in range(clips.FRAMES):
            encoder.encode(frames[number])
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
