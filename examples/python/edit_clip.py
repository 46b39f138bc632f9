"""Edits a clip with `reactor-sdk` 1.x. See README.md."""

from __future__ import annotations

import argparse
import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import av
import numpy as np
from reactor_sdk import Reactor


async def edit(options: argparse.Namespace) -> int:
    """Uploads a clip, lets it be edited, and writes what comes back; returns how many frames."""
    complete: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    container = av.open(options.out, "w")
    stream = container.add_stream("libx264", rate=24, options={"preset": "veryfast"})
    shown: dict[int, Future[list[av.Packet]]] = {}

    def encode(picture: np.ndarray) -> list[av.Packet]:
        return stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24"))

    with ThreadPoolExecutor(1) as encoder:
        async with Reactor("sana-streaming", options.key, api_url=options.url) as reactor:

            @reactor.on_message
            def told(message: dict[str, Any]) -> None:
                print(message["type"], message["data"])
                if message["type"] == "generation_complete" and not complete.done():
                    complete.set_result(message["data"])
                if message["type"] == "command_error" and not complete.done():
                    complete.set_exception(RuntimeError(message["data"]["reason"]))

            @reactor.track("main_video").on_frame
            def frame(picture: np.ndarray, frame_id: int) -> None:
                # On the SDK's thread, which drops the pictures that come while it is held up, so
                # another one encodes. A picture that holds comes again, under its own number.
                if frame_id not in shown and not complete.done():
                    if not shown:
                        stream.height, stream.width, _ = picture.shape
                    shown[frame_id] = encoder.submit(encode, picture)

            await reactor.connect()
            clip = await reactor.upload_file(options.clip)
            await reactor.send_command("set_mode", {"mode": "file"})
            await reactor.send_command("set_video", {"video": clip})
            await reactor.send_command("set_prompt", {"prompt": options.prompt})
            await reactor.send_command("start", {})
            await complete
            await reactor.disconnect()
    for each in shown.values():
        container.mux(each.result())
    container.mux(stream.encode(None))
    container.close()
    return len(shown)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    parser.add_argument("prompt")
    parser.add_argument("--out", default="edited.mp4")
    parser.add_argument("--url", default="http://localhost:8080")
    parser.add_argument("--key", default="rk_any", help="API key; any will do without --auth")
    arguments = parser.parse_args()
    print(f"{arguments.out}: {asyncio.run(edit(arguments))} frames")
