"""Drives the unmodified `reactor-sdk` 1.x; runs in its own environment, prints one JSON line."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

# The folder of `marker.py`, which needs no package of this project.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import marker  # type: ignore[import-not-found]

# The SDK imports it with the first frame: a fifth of a second that is no server's.
import numpy as np  # noqa: F401
from reactor_sdk import Reactor  # type: ignore[import-not-found]


def reactor(options: argparse.Namespace) -> Any:
    """Makes a client."""
    key = {} if options.local else {"api_key": "rk_bench"}
    return Reactor("sana-streaming", api_url=options.url, local=options.local, **key)


async def connect(options: argparse.Namespace) -> dict[str, Any]:
    """Connects, again and again; returns milliseconds until ready."""
    took = []
    for _ in range(options.times):
        client = reactor(options)
        begin = time.perf_counter()
        await client.connect()
        took.append((time.perf_counter() - begin) * 1e3)
        await client.disconnect()
        client.close()
        # A runtime with one session at a time has to end it first.
        await asyncio.sleep(options.pause)
    return {"connect_ms": took}


async def watch(options: argparse.Namespace) -> dict[str, Any]:
    """Starts the stream; returns when which frame was shown."""
    shown: list[tuple[int, int]] = []

    def frame(picture: Any, *_: Any) -> None:
        # On the media thread of the SDK: the moment a page would draw it.
        at = time.monotonic_ns()
        number = marker.read(picture[..., 1])
        if number is not None:
            shown.append((at, number))

    client = reactor(options)
    client.track("main_video").on_frame(frame)
    await client.connect()
    if options.clip:
        await client.send_command("set_mode", {"mode": "file"})
        video = await client.upload_file(options.clip)
        await client.send_command("set_video", {"video": video})
        await client.send_command("set_prompt", {"prompt": "begin"})
    started = time.monotonic_ns()
    await client.send_command("start", {})
    await asyncio.sleep(options.seconds)
    said = {"session_id": client.session_id, "started_ns": started, "shown": list(shown)}
    await client.disconnect()
    client.close()
    return said


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("deed", choices=("connect", "watch"))
    parser.add_argument("url")
    parser.add_argument("--local", action="store_true")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--clip")
    options = parser.parse_args()
    deed = {"connect": connect, "watch": watch}[options.deed]
    print(json.dumps(asyncio.run(deed(options))))


if __name__ == "__main__":
    main()
