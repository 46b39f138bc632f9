"""Edits a clip with `reactor-sdk` 0.8, the last one in pure Python. See README.md."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import av
import numpy as np
from reactor_sdk import Reactor, ReactorStatus


async def edit(options: argparse.Namespace) -> int:
    """Uploads a clip, lets it be edited, and writes what comes back; returns how many frames."""
    ready, accepted, complete = asyncio.Event(), asyncio.Event(), asyncio.Event()
    refused: list[str] = []
    container = av.open(options.out, "w")
    stream = container.add_stream("libx264", rate=24, options={"preset": "veryfast"})
    written = 0

    reactor = Reactor("sana-streaming", api_key=options.key, api_url=options.url)

    @reactor.on_status(ReactorStatus.READY)
    def connected(_: ReactorStatus) -> None:
        ready.set()

    @reactor.on_message
    def told(message: dict[str, Any]) -> None:
        print(message["type"], message["data"])
        if message["type"] == "command_error":
            refused.append(message["data"]["reason"])
        if message["type"] in ("video_accepted", "command_error"):
            accepted.set()
        if message["type"] in ("generation_complete", "command_error"):
            complete.set()

    @reactor.on_frame
    def frame(picture: np.ndarray) -> None:
        nonlocal written
        if not complete.is_set():
            if not written:
                stream.height, stream.width, _ = picture.shape
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            written += 1

    try:
        await reactor.connect()
        await ready.wait()
        clip = await reactor.upload_file(options.clip)
        await reactor.send_command("set_mode", {"mode": "file"})
        await reactor.send_command("set_video", {"video": clip})
        await accepted.wait()
        await reactor.send_command("set_prompt", {"prompt": options.prompt})
        await reactor.send_command("start", {})
        await complete.wait()
    finally:
        await reactor.disconnect()
    if refused:
        raise RuntimeError(refused[0])
    container.mux(stream.encode(None))
    container.close()
    return written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    parser.add_argument("prompt")
    parser.add_argument("--out", default="edited.mp4")
    parser.add_argument("--url", default="http://localhost:8080")
    parser.add_argument("--key", default="rk_any", help="API key; any will do without --auth")
    arguments = parser.parse_args()
    print(f"{arguments.out}: {asyncio.run(edit(arguments))} frames")
