"""What a front door adds: round trips, CPU for each forwarded frame, memory.

    python -m tests.bench.front_door [--json OUT] [--streams N] [--seconds S] [--workers N ...]

The same service, once in one process (`--workers 0`) and once behind a front door, with
`video=canned`, so that no encoder takes part. Commands are timed with all streams running.
CPU is process time, read from the kernel; the round trips are wall times.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil

from sana_gateway import Client, Session
from tests.bench.service import percentile, playing
from tests.media.clips import Recipe, make
from tests.stack import Stack, serving

MODEL = ("--model", "simulated", "--backend", "in-process", "--spare-decoders", "0")
OPTIONS = ("chunk_ms=5", "video=canned", "resident_slots=64")
COMMANDS = 200
WORKER = "gateway.front_door.worker"


async def watch(session: Session, frames: list[int]) -> None:
    """Counts the frames of a session."""
    async for _ in session.watch("h264"):
        frames[0] += 1


def gateway_processes(stack: Stack) -> dict[str, psutil.Process]:
    """Returns the gateway's own process and its workers."""
    found = {"gateway": psutil.Process(stack.process.pid)}
    workers = [each for each in stack.members() if WORKER in each.cmdline()]
    for index, each in enumerate(sorted(workers, key=lambda each: each.pid)):
        found[f"worker {index}"] = each
    return found


def seconds(process: psutil.Process) -> float:
    """Returns the CPU time of a process."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def round_trips(session: Session) -> dict[str, float]:
    """Times a command and its acknowledgement, again and again."""
    times = []
    for seed in range(COMMANDS):
        begin = time.perf_counter()
        await session.set_seed(seed)
        times.append((time.perf_counter() - begin) * 1e3)
    return {
        "command p50 ms": round(percentile(times, 0.5), 2),
        "command p90 ms": round(percentile(times, 0.9), 2),
    }


async def measure(stack: Stack, clip: Path, streams: int, length_s: float) -> dict[str, Any]:
    """Plays to so many gRPC viewers; returns what it costs each process."""
    processes = gateway_processes(stack)
    idle = {name: each.memory_full_info() for name, each in processes.items()}
    result: dict[str, Any] = {
        f"{name} MB idle": {"rss": memory.rss >> 20, "pss": memory.pss >> 20}
        for name, memory in idle.items()
    }
    async with Client(stack.grpc_address) as client, AsyncExitStack() as held:
        sessions = [
            await held.enter_async_context(playing(client, "simulated", clip, "x"))
            for _ in range(streams)
        ]
        frames = [0]
        watching = [asyncio.create_task(watch(each, frames)) for each in sessions]
        for each in sessions:
            await each.start()
        await sessions[-1].wait_for(lambda state: state.running, 30)
        result |= await round_trips(sessions[0])
        before, began = {name: seconds(each) for name, each in processes.items()}, frames[0]
        await asyncio.sleep(length_s)
        sent = frames[0] - began
        result["frames"] = sent
        for name, each in processes.items():
            result[f"{name} CPU ms a frame"] = round((seconds(each) - before[name]) * 1e3 / sent, 3)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
    return result


async def bench(streams: int, length_s: float, counts: list[int]) -> dict[str, Any]:
    """Measures each number of workers."""
    results = {}
    options = [word for option in OPTIONS for word in ("--model-option", option)]
    with tempfile.TemporaryDirectory() as folder:
        clip = make(Path(folder) / "clip.mp4", Recipe(frames=24 * int(length_s + 20)))
        for workers in counts:
            with serving(*MODEL, *options, "--media-workers", str(workers)) as stack:
                results[f"{workers} workers"] = await measure(stack, clip, streams, length_s)
    return results


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    results = asyncio.run(bench(options.streams, options.seconds, options.workers))
    text = json.dumps(results, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
