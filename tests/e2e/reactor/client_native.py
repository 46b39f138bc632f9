"""Drives `reactor-sdk` 1.x (native, protobuf) through a scenario. Runs in its own environment."""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import suppress
from typing import Any

import numpy as np
import scenario
from reactor_sdk import Reactor, ReactorError


class NativeClient:
    """One `reactor_sdk.Reactor`."""

    correlated = True

    def __init__(self, options: argparse.Namespace, seen: scenario.Seen) -> None:
        self._seen = seen
        self._loop = asyncio.get_running_loop()
        local = options.mode == "local"
        self._reactor = Reactor(
            "sana-streaming",
            api_url=options.base_url,
            local=local,
            **({} if local else {"api_key": "rk_test"}),
        )
        self._reactor.on_status(seen.status)
        self._reactor.on_message(seen.message)
        self._reactor.on_error(lambda error: seen.errors.append(f"{error.code}: {error}"))
        self._reactor.track("main_video").on_frame(self._frame)
        self._camera: asyncio.Task[None] | None = None

    def _frame(self, frame: Any, frame_id: int) -> None:
        # Runs on the SDK's media thread.
        height, width, _ = frame.shape
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._seen.frame, width, height, frame_id)

    async def connect(self) -> None:
        await self._reactor.connect()
        assert self._reactor.status == "ready", self._reactor.status

    async def publish(self) -> None:
        track = await self._reactor.track("camera").publish()
        self._camera = asyncio.create_task(self._push(track))

    async def _push(self, track: Any) -> None:
        picture = np.full((360, 640, 3), 90, np.uint8)
        number = 0
        while True:
            moving = picture.copy()
            moving[:, (number * 8) % 600 : (number * 8) % 600 + 40] = (220, 40, 40)
            track.push_frame(moving)
            number += 1
            await asyncio.sleep(1 / 24)

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
        assert self._reactor.status == "ready", self._reactor.status

    async def extras(self, seen: scenario.Seen) -> None:
        schema = await self._reactor.request_schema()
        seen.notes["schema_paths"] = sorted(schema["paths"])
        try:
            await self._reactor.request_clip(2.0)
        except ReactorError as error:
            seen.notes["clip_refusal"] = error.code
        second = Reactor("sana-streaming", jwt="whatever", api_url=self._reactor._api_url)
        if not self._reactor._local:
            await self._second_viewer(second, seen)

    async def _second_viewer(self, second: Reactor, seen: scenario.Seen) -> None:
        """Joins the session, sees its frames, and cannot take its camera."""
        frames = asyncio.Event()
        second.track("main_video").on_frame(lambda _: self._loop.call_soon_threadsafe(frames.set))
        await second.connect(session_id=self._reactor.session_id)
        try:
            async with asyncio.timeout(10):
                await frames.wait()
            try:
                await second.track("camera").publish()
            except ReactorError as error:
                seen.notes["second_publisher"] = error.code
        finally:
            await second.disconnect()
            second.close()

    async def disconnect(self) -> None:
        if self._camera is not None:
            self._camera.cancel()
        with suppress(ReactorError):
            await self._reactor.disconnect()
        self._reactor.close()


if __name__ == "__main__":
    sys.exit(scenario.run(NativeClient))
