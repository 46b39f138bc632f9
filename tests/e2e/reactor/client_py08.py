"""Drives `reactor-sdk` 0.8 (pure Python, JSON) through a scenario. Runs in its own environment."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from typing import Any

import numpy as np
import reactor_sdk.reactor
import scenario
from aiortc import VideoStreamTrack
from av import VideoFrame
from reactor_sdk import Reactor, ReactorStatus


class MovingBar(VideoStreamTrack):
    """A bar that wanders over grey."""

    def __init__(self) -> None:
        super().__init__()
        self._number = 0

    async def recv(self) -> VideoFrame:
        pts, time_base = await self.next_timestamp()
        picture = np.full((360, 640, 3), 90, np.uint8)
        at = (self._number * 8) % 600
        picture[:, at : at + 40] = (220, 40, 40)
        self._number += 1
        frame = VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = pts, time_base
        return frame


class Py08Client:
    """One `reactor_sdk.Reactor` of the 0.x line."""

    correlated = False

    def __init__(self, options: argparse.Namespace, seen: scenario.Seen) -> None:
        self._seen = seen
        local = options.mode == "local"
        if local:
            # 0.8 knows one local address only; everything else about it stays as shipped.
            reactor_sdk.reactor.LOCAL_API_URL = options.base_url
        self._reactor = Reactor(
            model_name="sana-streaming",
            api_url=options.base_url,
            local=local,
            **({} if local else {"api_key": "rk_test"}),
        )
        self._reactor.on("status_changed", seen.status)
        self._reactor.on("message", seen.message)
        self._reactor.on("runtime_message", self._runtime_message)
        self._reactor.on(
            "error", lambda error: seen.errors.append(f"{error.code}: {error.message}")
        )
        self._reactor.set_frame_callback(self._frame)

    def _runtime_message(self, message: dict[str, Any]) -> None:
        self._seen.notes.setdefault("runtime_messages", []).append(message["type"])

    def _frame(self, frame: Any) -> None:
        height, width, _ = frame.shape
        self._seen.frame(width, height)

    async def connect(self) -> None:
        await self._reactor.connect()
        await self._until_ready()

    async def _until_ready(self) -> None:
        await self._seen.until("ready", lambda: self._reactor.get_status() == ReactorStatus.READY)

    async def publish(self) -> None:
        errors = len(self._seen.errors)
        await self._reactor.publish_track("camera", MovingBar())
        assert self._seen.errors[errors:] == []

    async def unpublish(self) -> None:
        await self._reactor.unpublish_track("camera")

    async def upload(self, path: str) -> Any:
        return await self._reactor.upload_file(path)

    async def command(self, name: str, arguments: dict[str, Any]) -> Any:
        await self._reactor.send_command(name, arguments)

    async def pause_output(self) -> None:
        await self._reactor.pause_track("main_video")

    async def resume_output(self) -> None:
        await self._reactor.resume_track("main_video")

    async def reconnect(self) -> None:
        await self._reactor.disconnect(recoverable=True)
        await self._reactor.reconnect()
        await self._until_ready()

    async def extras(self, seen: scenario.Seen) -> None:
        try:
            await self._reactor.request_clip(2.0)
        except Exception as error:
            seen.notes["clip_refusal"] = getattr(error, "code", type(error).__name__)

    async def disconnect(self) -> None:
        with suppress(Exception):
            await self._reactor.disconnect()


if __name__ == "__main__":
    sys.exit(scenario.run(Py08Client))
