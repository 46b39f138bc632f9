"""Makes the windows of a run again, as the engine made them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from model_actor.media.frames import FrameBlock
from model_actor.plugin import Frames, Model, SessionOptions, WindowTask
from model_actor.replay.records import Window
from scheduler.core.errors import SanaGatewayError
from scheduler.core.prompts import Share

_ResultT = TypeVar("_ResultT")


class ReplayError(SanaGatewayError):
    """A run cannot be made again. The text says why, and what is needed."""


class Source(Protocol):
    """A decoded clip."""

    async def read(self, first: int, count: int) -> FrameBlock:
        """Returns frames from one on."""


@dataclass(frozen=True, slots=True)
class Made:
    """A window that was made again."""

    frames: Frames
    """All that the model made of it."""
    source_digest: str
    """Of its source frames."""


class Rendering:
    """One session of a model, in which runs are made again.

    Args:
        model: Configured; `load` loads it.
        session_id: Name of the session, as it was.
        source: What the windows are of.
        prompts: Prompts by their digests.
        digest_source: Returns what stands for source frames.
    """

    def __init__(
        self,
        model: Model,
        session_id: str,
        source: Source,
        prompts: Mapping[str, str],
        digest_source: Any,  # noqa: ANN401 - a function of frames
    ) -> None:
        self._model = model
        self._options = SessionOptions(session_id)
        self._source = source
        self._prompts = prompts
        self._digest_source = digest_source
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compute")
        """All calls of a model come from one thread."""
        self._state: object | None = None
        self._next: tuple[int, int] | None = None
        """(run, index) of the window that the state comes before."""

    def can_make(self, window: Window) -> bool:
        """Tells whether a window is one that the state comes before."""
        return window.index == 0 or (window.run, window.index) == self._next

    async def make(self, window: Window) -> Made:
        """Makes a window.

        Raises:
            ReplayError: A prompt of it is not known.
            ClipFailedError: The clip cannot be decoded on.
        """
        if self._state is None:
            self._state = await self._call(self._model.open, self._options)
        block = await self._source.read(window.first, window.source_frames)
        try:
            known = await asyncio.to_thread(self._digest_source, block.frames)
            frames = await self._call(self._computed, window, block.frames)
        finally:
            block.release()
        self._next = (window.run, window.index + 1)
        return Made(frames, known)

    async def load(self) -> None:
        """Loads the model."""
        await self._call(self._model.load)

    async def close(self) -> None:
        """Releases the session."""
        state, self._state = self._state, None
        if state is not None:
            await self._call(self._model.close, state)
        self._thread.shutdown()

    async def _call(self, work: Callable[..., _ResultT], *arguments: object) -> _ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def prompt(self, told: Mapping[str, Any]) -> str:
        """Returns a prompt that a journal names.

        Raises:
            ReplayError: It has only its digest, and nobody has said what it is.
        """
        known = told.get("text") or self._prompts.get(told["digest"])
        if known is None:
            raise ReplayError(
                "the journal has hashes instead of prompts: name each with --prompt TEXT; "
                f"missing is the one of digest {told['digest']}"
            )
        return str(known)

    def _computed(self, window: Window, source: Frames) -> Frames:
        state = self._state
        assert state is not None  # noqa: S101 - made before
        # Numbers depend on how many windows run in one call: the others are copies of this one.
        others = window.batch - 1
        snapshot = self._model.snapshot(state) if others else b""
        copies = [self._model.restore(self._options, snapshot) for _ in range(others)]
        try:
            tasks = [self._task(window, each, source) for each in (state, *copies)]
            for stage in self._model.info.stages:
                self._model.stage(stage.name, tasks)
        finally:
            for each in copies:
                self._model.close(each)
        result = tasks[0].result
        if result is None or len(result) < window.frames:
            raise ReplayError("the model made no frames of a window")
        return np.array(result, copy=True)

    def _task(self, window: Window, state: object, source: Frames) -> WindowTask:
        return WindowTask(
            session=state,
            run=window.run,
            index=window.index,
            first_frame=window.first,
            source=source,
            seed=window.seed,
            prompt=self.prompt(window.prompt),
            steps=window.steps,
            earlier=tuple(Share(self.prompt(each), each["share"]) for each in window.earlier),
            clip="" if window.live else "replayed",
            last=window.last,
        )
