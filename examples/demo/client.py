"""The demo's client: an unmodified `reactor-sdk`, nothing of ours imported.

Runs in an environment of its own (reactor-sdk, numpy, av):

    python client.py file  URL CLIP OUT.mp4 REPORT.json PROMPT PROMPT
    python client.py live  URL CLIP OUT.mp4 REPORT.json PROMPT PROMPT

It edits CLIP with the first prompt, changes to the second midway, writes what it
received to OUT.mp4, and prints one line of progress for each chunk.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from reactor_sdk import Reactor

RATE = 24
CLOCK = 90_000
"""Ticks a second in the files."""
TAIL_S = 1.0
"""How long the last frame may be on its way through the client's decoder."""
LIVE_SECONDS = 8.0
"""How long the camera runs after the first edited frame."""
STEP_TIMEOUT_S = 30.0


class Recorder:
    """Writes received frames to a file, on a thread of its own, each at its source's time.

    The gateway numbers frames in their metadata, `frame_id` is `(run << 32) + frame + 1`, and
    gives each the time of the source frame it answers. A frame that never came shows as the
    one before it, and is counted.
    """

    def __init__(self, path: Path) -> None:
        self.first_at: float | None = None
        self.received = 0
        self.indices: set[int] = set()
        self.repeated = 0
        self.unnumbered = 0
        self.last_at = 0.0
        self.longest_gap_s = 0.0
        self._path = path
        self._frames: queue.Queue[tuple[int, np.ndarray] | None] = queue.Queue(maxsize=96)
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def frame(self, frame: np.ndarray, frame_id: int, source_us: int) -> None:
        """Takes a frame; called on the SDK's media thread, which must not wait."""
        now = time.perf_counter()
        if frame_id == 0:
            self.unnumbered += 1
            return
        index = (frame_id - 1) & 0xFFFFFFFF
        if self.first_at is None:
            self.first_at = now
        else:
            self.longest_gap_s = max(self.longest_gap_s, now - self.last_at)
        self.last_at = now
        self.received += 1
        if index in self.indices:
            self.repeated += 1
            return
        with self._changed:
            self.indices.add(index)
            self._changed.notify_all()
        self._frames.put((source_us, frame))

    def wait_for(self, index: int, within_s: float) -> None:
        """Returns when a frame has come, or when it will not."""
        with self._changed:
            self._changed.wait_for(lambda: index in self.indices, within_s)

    def close(self) -> None:
        """Finishes the file."""
        self._frames.put(None)
        self._thread.join()

    def _write(self) -> None:
        with av.open(str(self._path), "w", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=RATE)
            stream.width, stream.height, stream.pix_fmt = 1280, 704, "yuv420p"
            stream.options = {"preset": "ultrafast", "crf": "20"}
            stream.codec_context.time_base = Fraction(1, CLOCK)
            start_us = None
            while (item := self._frames.get()) is not None:
                source_us, pixels = item
                start_us = source_us if start_us is None else start_us
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                picture.pts = (source_us - start_us) * CLOCK // 1_000_000
                picture.time_base = Fraction(1, CLOCK)
                container.mux(stream.encode(picture))
            container.mux(stream.encode())


class Session:
    """One session of the SDK, with what it said."""

    def __init__(self, url: str) -> None:
        self.reactor = Reactor("sana-streaming", api_key="rk_demo", api_url=url)
        self.messages: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._changed = asyncio.Event()
        self.reactor.on_message(self._message)
        self.reactor.on_error(lambda error: self.errors.append(str(error)))

    def _message(self, message: dict[str, Any]) -> None:
        self.messages.append({"at": time.perf_counter(), **message})
        if message["type"] == "chunk_complete":
            data = message["data"]
            # The SDK delivers every number as a float.
            index, frames = int(data["chunk_index"]), int(data["frames_emitted"])
            print(f"  chunk {index:>2}: {frames} frames", flush=True)
        elif message["type"] == "command_error":
            data = message["data"]
            print(f"  refused: {data['command']}: {data['reason']}", flush=True)
        self._changed.set()

    async def wait(self, kind: str, *, count: int = 1, within_s: float = STEP_TIMEOUT_S) -> dict:
        """Returns the `count`-th message of a kind, as soon as it is there."""
        async with asyncio.timeout(within_s):
            while True:
                found = [message for message in self.messages if message["type"] == kind]
                if len(found) >= count:
                    return found[count - 1]
                self._changed.clear()
                await self._changed.wait()


async def run_file(session: Session, clip: Path, prompts: tuple[str, str]) -> dict[str, Any]:
    """File mode: every source frame is answered."""
    reference = await session.reactor.upload_file(clip)
    await session.reactor.send_command("set_mode", {"mode": "file"})
    await session.reactor.send_command("set_video", {"video": reference})
    accepted = await session.wait("video_accepted")
    frames = int(accepted["data"]["num_frames"])
    await session.reactor.send_command("set_prompt", {"prompt": prompts[0]})
    started_at = time.perf_counter()
    await session.reactor.send_command("start", {})
    await session.wait("generation_started")
    # 9 frames, then 24 a chunk: change the prompt when about half has been shown.
    await session.wait("chunk_complete", count=max(1, frames // 48), within_s=frames / RATE + 30)
    await session.reactor.send_command("set_prompt", {"prompt": prompts[1]})
    done = await session.wait("generation_complete", within_s=frames / RATE + 30)
    return {
        "expected": frames,
        "chunks": int(done["data"]["total_chunks"]),
        "started_at": started_at,
    }


async def run_live(session: Session, clip: Path, prompts: tuple[str, str]) -> dict[str, Any]:
    """Live mode: the clip plays into the camera, for as long as is needed."""
    camera = await session.reactor.track("camera").publish()
    pushed = 0
    stop = threading.Event()

    def push() -> None:
        nonlocal pushed
        next_at = time.perf_counter()
        while not stop.is_set():
            with av.open(str(clip)) as container:
                for frame in container.decode(video=0):
                    if stop.is_set():
                        return
                    camera.push_frame(frame.to_ndarray(format="rgb24"))
                    pushed += 1
                    next_at += 1 / RATE
                    time.sleep(max(0.0, next_at - time.perf_counter()))

    pusher = threading.Thread(target=push)
    pusher.start()
    try:
        await session.reactor.send_command("set_prompt", {"prompt": prompts[0]})
        await session.reactor.send_command("set_mode", {"mode": "live"})
        started_at = time.perf_counter()
        await session.reactor.send_command("start", {})
        await session.wait("generation_started")
        half = round(LIVE_SECONDS * RATE / 24 / 2)
        await session.wait("chunk_complete", count=half)
        await session.reactor.send_command("set_prompt", {"prompt": prompts[1]})
        await session.wait("chunk_complete", count=2 * half)
        await session.reactor.send_command("pause", {})
    finally:
        stop.set()
        await asyncio.to_thread(pusher.join)
    chunks = [message for message in session.messages if message["type"] == "chunk_complete"]
    return {
        "pushed": pushed,
        "expected": sum(int(message["data"]["frames_emitted"]) for message in chunks),
        "chunks": len(chunks),
        "started_at": started_at,
    }


async def main(flow: str, url: str, clip: Path, out: Path, prompts: tuple[str, str]) -> dict:
    """Runs one session and returns its report."""
    session = Session(url)
    recorder = Recorder(out)
    begin = time.perf_counter()
    await session.reactor.connect()
    ready_s = time.perf_counter() - begin
    print(f"  connected in {ready_s * 1e3:.0f} ms", flush=True)

    def on_frame(frame: np.ndarray, frame_id: int, timestamp_us: int) -> None:
        recorder.frame(frame, frame_id, timestamp_us)

    session.reactor.track("main_video").on_frame(on_frame)
    try:
        told = await {"file": run_file, "live": run_live}[flow](session, clip, prompts)
        await asyncio.to_thread(recorder.wait_for, told["expected"] - 1, TAIL_S)
    finally:
        await session.reactor.disconnect()
        await asyncio.to_thread(recorder.close)
    expected = told.pop("expected")
    shown = recorder.indices & set(range(expected))
    started_at = told.pop("started_at")
    first_at = recorder.first_at or float("nan")
    states = [message["data"] for message in session.messages if message["type"] == "state"]
    return {
        "flow": flow,
        "connect_to_ready_s": round(ready_s, 3),
        "start_to_first_frame_s": round(first_at - started_at, 3),
        "frames_expected": expected,
        "frames_received": len(shown),
        "frames_missing": expected - len(shown),
        "frames_repeated": recorder.repeated,
        "frames_without_number": recorder.unnumbered,
        "longest_gap_between_frames_s": round(recorder.longest_gap_s, 3),
        "prompts": list(prompts),
        "messages": [message["type"] for message in session.messages],
        "last_state": states[-1] if states else None,
        "errors": session.errors,
        **told,
    }


if __name__ == "__main__":
    flow, url, clip, out, report, *prompts = sys.argv[1:]
    result = asyncio.run(main(flow, url, Path(clip), Path(out), (prompts[0], prompts[1])))
    Path(report).write_text(json.dumps(result, indent=2) + "\n")
