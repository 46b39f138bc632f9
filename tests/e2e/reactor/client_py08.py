"""Drives `reactor-sdk` 0.8 (pure Python, JSON) through flows. Runs in its own environment."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

import flows
import numpy as np
import reactor_sdk.reactor
import scenario
from aiortc import VideoStreamTrack
from av import VideoFrame
from reactor_sdk import Reactor, ReactorStatus

RATE = 24
STATUS = re.compile(r"\b([45]\d\d)\b")
"""What the SDK tells of a refusal: the HTTP status, in a sentence."""


class MovingBar(VideoStreamTrack):
    """A bar that wanders over grey."""

    def __init__(self, sizes: list[tuple[int, int]]) -> None:
        super().__init__()
        self._sizes = sizes
        self._number = 0

    async def recv(self) -> VideoFrame:
        pts, time_base = await self.next_timestamp()
        width, height = self._sizes[self._number // (RATE // 2) % len(self._sizes)]
        picture = np.full((height, width, 3), 90, np.uint8)
        at = (self._number * 8) % (width - 40)
        picture[:, at : at + 40] = (220, 40, 40)
        self._number += 1
        frame = VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = pts, time_base
        return frame


class Py08Client:
    """One `reactor_sdk.Reactor` of the 0.x line."""

    correlated = False
    words = {"404": "404", "409": "409", "taken": "TRACK_PUBLISH_FAILED"}  # noqa: RUF012

    def __init__(
        self, options: argparse.Namespace, seen: scenario.Seen, model: str = "sana-streaming"
    ) -> None:
        self.local = options.mode == "local"
        self._options = options
        self._seen = seen
        if self.local:
            # 0.8 knows one local address only; everything else about it stays as shipped.
            reactor_sdk.reactor.LOCAL_API_URL = options.base_url
        self._reactor = Reactor(
            model_name=model,
            api_url=options.base_url,
            local=self.local,
            **({} if self.local else {"api_key": "rk_test"}),
        )
        self._reactor.on("status_changed", seen.status)
        self._reactor.on("message", seen.message)
        self._reactor.on("runtime_message", self._runtime_message)
        self._reactor.on("error", lambda error: seen.error(error.code, error.message))
        self._reactor.set_frame_callback(self._frame)

    @property
    def session_id(self) -> str:
        return self._reactor.get_session_id() or ""

    def another(self, seen: scenario.Seen, model: str = "") -> Py08Client:
        return Py08Client(self._options, seen, model or "sana-streaming")

    def _runtime_message(self, message: dict[str, Any]) -> None:
        self._seen.notes.setdefault("runtime_messages", []).append(message["type"])

    def _frame(self, frame: Any) -> None:
        height, width, _ = frame.shape
        self._seen.frame(width, height)

    async def connect(self, session_id: str | None = None) -> None:
        await self._reactor.connect(session_id=session_id)
        await self._until_ready()

    async def _until_ready(self) -> None:
        await self._seen.until("ready", self.is_ready)

    def is_ready(self) -> bool:
        return bool(self._reactor.get_status() == ReactorStatus.READY)

    async def refusal(self, asking: Awaitable[Any]) -> str:
        """Connecting raises; publishing is told of by an event alone."""
        errors = len(self._seen.errors)
        try:
            await asking
        except RuntimeError as error:
            status = STATUS.search(str(error))
            return status[1] if status else str(error)
        except AssertionError:
            code, _, _ = self._seen.errors[errors].partition(":")
            return code
        return ""

    async def publish(self, sizes: list[tuple[int, int]] | None = None) -> None:
        errors = len(self._seen.errors)
        await self._reactor.publish_track("camera", MovingBar(sizes or [(640, 360)]))
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
    sys.exit(scenario.run(Py08Client, flows.FLOWS))
