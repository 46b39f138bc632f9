"""Drives `reactor-sdk` 1.x (native, protobuf) through flows. Runs in its own environment."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable
from contextlib import suppress
from itertools import cycle
from typing import Any

import flows
import numpy as np
import scenario
from reactor_sdk import Reactor, ReactorError

RATE = 24


class NativeClient:
    """One `reactor_sdk.Reactor`."""

    correlated = True
    words = {"404": "NOT_FOUND", "409": "CONFLICT", "taken": "PUBLISHER_SLOT_TAKEN"}  # noqa: RUF012

    def __init__(
        self, options: argparse.Namespace, seen: scenario.Seen, model: str = "sana-streaming"
    ) -> None:
        self.local = options.mode == "local"
        self._options = options
        self._seen = seen
        self._loop = asyncio.get_running_loop()
        self._reactor = Reactor(
            model,
            api_url=options.base_url,
            local=self.local,
            **({} if self.local else {"api_key": "rk_test"}),
        )
        self._reactor.on_status(seen.status)
        self._reactor.on_message(seen.message)
        self._reactor.on_error(lambda error: seen.error(error.code, str(error)))
        self._reactor.track("main_video").on_frame(self._frame)
        self._camera: asyncio.Task[None] | None = None

    @property
    def session_id(self) -> str:
        return self._reactor.session_id or ""

    def another(self, seen: scenario.Seen, model: str = "") -> NativeClient:
        return NativeClient(self._options, seen, model or "sana-streaming")

    def _frame(self, frame: Any, frame_id: int) -> None:
        # Runs on the SDK's media thread.
        height, width, _ = frame.shape
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._seen.frame, width, height, frame_id)

    async def connect(self, session_id: str | None = None) -> None:
        await self._reactor.connect(session_id=session_id)
        assert self.is_ready(), self._reactor.status

    def is_ready(self) -> bool:
        return bool(self._reactor.status == "ready")

    async def refusal(self, asking: Awaitable[Any]) -> str:
        try:
            await asking
        except ReactorError as error:
            return str(error.code)
        return ""

    async def publish(self, sizes: list[tuple[int, int]] | None = None) -> None:
        track = await self._reactor.track("camera").publish()
        self._camera = asyncio.create_task(self._push(track, sizes or [(640, 360)]))

    async def _push(self, track: Any, sizes: list[tuple[int, int]]) -> None:
        for width, height in cycle(sizes):
            picture = np.full((height, width, 3), 90, np.uint8)
            for number in range(RATE // 2):
                moving = picture.copy()
                at = (number * 8) % (width - 40)
                moving[:, at : at + 40] = (220, 40, 40)
                track.push_frame(moving)
                await asyncio.sleep(1 / RATE)

    async def unpublish(self) -> None:
        if self._camera is not None:
            self._camera.cancel()
            self._camera = None
            self._reactor.track("camera").unpublish()

    async def upload(self, path: str) -> Any:
        return await self._reactor.upload_file(path)

    async def command(self, name: str, arguments: dict[str, Any]) -> Any:
        return await self._reactor.send_command(name, arguments)

    async def pause_output(self) -> None:
        await self._reactor.track("main_video").pause()

    async def resume_output(self) -> None:
        await self._reactor.track("main_video").resume()

    async def reconnect(self) -> None:
        await self._reactor.reconnect()
        assert self.is_ready(), self._reactor.status

    async def extras(self, seen: scenario.Seen) -> None:
        schema = await self._reactor.request_schema()
        seen.notes["schema_paths"] = sorted(schema["paths"])
        try:
            await self._reactor.request_clip(2.0)
        except ReactorError as error:
            seen.notes["clip_refusal"] = error.code

    async def disconnect(self) -> None:
        if self._camera is not None:
            self._camera.cancel()
        with suppress(ReactorError):
            await self._reactor.disconnect()
        self._reactor.close()


if __name__ == "__main__":
    sys.exit(scenario.run(NativeClient, flows.FLOWS))
