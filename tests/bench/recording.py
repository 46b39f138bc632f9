"""What it costs a gateway to record: CPU of one process that does nothing else.

    python -m tests.bench.recording [--sessions 1 8 32] [--seconds 20] [--bits 2500000]

Frames of 1280x704 at 24 a second, encoded beforehand at the given rate with a keyframe every
4 s, are given to the recorders of N sessions in real time, evenly spread. The recorders do what
they do in a gateway: they cut and remux, write segments and index into a folder, and say every
two seconds that they are there. Printed is CPU time of the process for a frame, less what the
same timers cost alone, the same as a share of a core for a session, and what of it was the
event loop's thread; the rest is threads, which hold nothing up.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import av
import numpy as np

from gateway.ports import EncodedFrame
from gateway.recording.recordings import Bounds, Recordings
from sana_gateway.v1 import media_pb2, session_pb2
from scheduler.core.ids import Principal
from scheduler.process.storage import FilesystemStorage

WIDTH, HEIGHT, RATE, GOP = 1280, 704, 24, 96
OWNER = Principal("bench", frozenset())


class Played:
    """A session that shows one loop of frames again and again, and its output."""

    def __init__(self, number: int, loop: Sequence[EncodedFrame]) -> None:
        self.session_id = f"s{number}"
        self.principal = OWNER
        self.viewer: Any = None
        self._frames = _endless(loop)

    def describe(self) -> session_pb2.Session:
        capabilities = session_pb2.Capabilities(width=WIDTH, height=HEIGHT, frame_rate=RATE)
        return session_pb2.Session(model="bench", capabilities=capabilities)

    def output(self, _: media_pb2.Codec.ValueType) -> Played:
        return self

    def record(self, recorder: Any) -> None:
        self.viewer = recorder

    def refresh(self) -> None:
        """A keyframe comes anyway."""

    def leave(self, _: Any) -> None:
        self.viewer = None

    def step(self) -> None:
        frame = next(self._frames)
        if self.viewer is not None:
            self.viewer.frame(frame)


def loop_of(bits: int) -> list[EncodedFrame]:
    """Encodes 4 s of wandering noise, with one keyframe, at about so many bits per second."""
    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, RATE), Fraction(RATE)
    encoder.bit_rate, encoder.gop_size = bits, GOP
    encoder.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "x264-params": f"scenecut=0:nal-hrd=cbr:vbv-maxrate={bits // 1000}"
        f":vbv-bufsize={bits // 4000}",
    }
    noise = np.random.default_rng(1).integers(0, 256, (HEIGHT * 3 // 2, WIDTH), np.uint8)
    frames = []
    for number in range(GOP):
        frame = av.VideoFrame.from_ndarray(np.roll(noise, number * 8, 1), format="yuv420p")
        frame.pts = number
        frames += [
            EncodedFrame(bytes(each), each.is_keyframe, media_pb2.CODEC_H264, 0, 1, 0, number, 0)
            for each in encoder.encode(frame)
        ]
    return frames


def _endless(loop: Sequence[EncodedFrame]) -> Iterator[EncodedFrame]:
    for number in count():
        yield replace(loop[number % GOP], timestamp_us=number * 1_000_000 // RATE, frame=number)


async def cpu_of(steps: Sequence[Callable[[], None]], seconds: float) -> tuple[float, float]:
    """Calls each step `RATE` times a second for a while.

    Returns:
        CPU seconds of the process for a call, and those of this thread.
    """
    loop = asyncio.get_running_loop()
    start = loop.time() + 0.05

    async def pace(step: Callable[[], None], phase: float) -> None:
        for index in range(round(seconds * RATE)):
            await asyncio.sleep(start + (index + phase) / RATE - loop.time())
            step()

    process, thread = time.process_time(), time.thread_time()
    await asyncio.gather(*(pace(step, at / len(steps)) for at, step in enumerate(steps)))
    calls = len(steps) * round(seconds * RATE)
    return (time.process_time() - process) / calls, (time.thread_time() - thread) / calls


async def measure(sessions: int, seconds: float, frames: Sequence[EncodedFrame]) -> None:
    """Prints the line of so many sessions."""
    with tempfile.TemporaryDirectory() as folder:
        storage = FilesystemStorage(Path(folder))
        bounds = Bounds(1 << 40, 1 << 40, 60.0)
        recordings = Recordings(storage, "bench", bounds, lambda *_: None)
        played = [Played(number, frames) for number in range(sessions)]
        alone = await cpu_of([each.step for each in played], seconds)
        for each in played:
            recordings.opened(each)
        await cpu_of([each.step for each in played], 5.0)
        process, thread = await cpu_of([each.step for each in played], seconds)
        await recordings.close()
        await storage.close()
    whole, loop = (process - alone[0]) * 1000, (thread - alone[1]) * 1000
    print(f"{sessions:>8} {whole:9.4f} {whole * RATE / 10:9.3f} {loop:9.4f}", flush=True)


def main() -> None:
    """Prints a line for each number of sessions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--bits", type=int, default=2_500_000)
    chosen = parser.parse_args()
    frames = loop_of(chosen.bits)
    size = sum(len(each.data) for each in frames)
    print(f"{size * 8 * RATE / GOP / 1e6:.2f} Mbit/s, keyframe {len(frames[0].data):,} bytes")
    print("sessions  ms/frame  % of core  loop ms/frame")
    for sessions in chosen.sessions:
        asyncio.run(measure(sessions, chosen.seconds, frames))


if __name__ == "__main__":
    main()
