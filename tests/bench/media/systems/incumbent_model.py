"""The equivalent model for `reactor-runtime`; runs in its own environment.

`Clip` emits a chunk of 24 frames once a second from a `run` of its own that sleeps in
between, which is the cheapest its interface offers; `ClipBlock` uses the default loop, and
its `generate` blocks until the chunk is due, as a call to a GPU does.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from reactor_runtime import (
    ApplicationError,
    ModelMessage,
    Output,
    ReactorApp,
    Video,
    event,
    session_started,
)

CHUNK = 24
FRAMES = 96
SHAPE = (-1, 704, 1280, 3)


class MainOutput(Output):
    """What clients see."""

    main_video: Video


@dataclass
class State(ModelMessage):
    """What clients are told after a command."""

    current_prompt: str


class _Replay(ReactorApp):
    """What both models share."""

    fps = 24

    def load(self, config_path: Path | None) -> None:
        """Maps the clip."""
        del config_path
        mapped = np.memmap(os.environ["BENCH_CLIP"], np.uint8, "r")
        self._frames = mapped.reshape(SHAPE)
        self._log = os.open(os.environ["BENCH_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._begun = asyncio.Event()
        self._began = 0.0
        self._chunk = 0

    @session_started
    def _started(self) -> None:
        # Not a new event: `run` may be waiting for this one.
        self._begun.clear()
        self._chunk = 0

    @event(name="set_prompt", description="Sets the prompt.")
    async def set_prompt(self, prompt: str) -> None:
        """Answers with the state."""
        await self.send(State(current_prompt=prompt))

    @event(name="start", description="Starts the stream.")
    async def start(self) -> None:
        """Lets the first chunk go."""
        self._began = time.monotonic()
        self._begun.set()

    def _due_in(self) -> float:
        return self._began + self._chunk * CHUNK / self.fps - time.monotonic()

    def _next(self) -> Any:
        first = self._chunk * CHUNK % FRAMES
        os.write(self._log, f"- 0 {self._chunk * CHUNK} {time.monotonic_ns()}\n".encode())
        self._chunk += 1
        return MainOutput(main_video=self._frames[first : first + CHUNK])


class Clip(_Replay):
    """Sleeps between chunks, and answers commands meanwhile."""

    async def run(self) -> None:
        """Emits a chunk a second, while a session has begun."""
        while True:
            await self._begun.wait()
            await asyncio.sleep(max(0.0, self._due_in()))
            await self.emit(self._next())


class ClipBlock(_Replay):
    """Occupies its loop until each chunk is due."""

    async def process_input(self) -> None:
        """Refuses until the stream has been started."""
        if not self._begun.is_set():
            raise ApplicationError("not started")

    def generate(self, _: Any) -> MainOutput:
        """Blocks until the chunk is due."""
        time.sleep(max(0.0, self._due_in()))
        return self._next()
