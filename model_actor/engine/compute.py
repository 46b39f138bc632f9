"""The compute loop: which window runs next, and running it on the one compute thread."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
import structlog

from model_actor.engine.clock import WindowCost
from model_actor.engine.tracing import Answers, WindowTiming
from model_actor.media.frames import FrameBlock
from model_actor.plugin import Frames, Model, ModelInfo, WindowTask
from scheduler.core.chunks import Candidate, choose
from scheduler.core.run import WindowPlan

log = structlog.get_logger(__name__)
_ResultT = TypeVar("_ResultT")


class ComputeSession(Protocol):
    """A session, as far as computing goes."""

    state: object

    @property
    def closed(self) -> bool:
        """Whether it has ended: its state is the model's no more."""

    def candidate(self, now: float, cost_s: float) -> Candidate | None:
        """Its next window, if it may run."""

    def begin_window(self) -> tuple[WindowPlan, FrameBlock, WindowTiming, Answers]:
        """Dispatches it."""

    def finish_window(
        self,
        plan: WindowPlan,
        frames: Frames,
        source_us: tuple[int, ...],
        timing: WindowTiming,
        answers: Answers,
    ) -> None:
        """Takes its frames."""

    def fail_window(self, plan: WindowPlan) -> None:
        """It failed."""


class Compute:
    """Owns the model and the thread that it runs on."""

    def __init__(self, model: Model) -> None:
        """Prepares the loop; nothing is loaded yet."""
        self._model = model
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute")
        self._changed = asyncio.Event()
        self.cost = WindowCost(model.info.chunk_ms / 1e3)
        self.windows = 0
        """Windows computed so far."""

    @property
    def info(self) -> ModelInfo:
        """What the model declares."""
        return self._model.info

    async def load(self) -> None:
        """Loads the model."""
        await self.call(self._model.load)

    async def call(self, function: Callable[..., _ResultT], *arguments: object) -> _ResultT:
        """Runs a function of the model on the compute thread."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: function(*arguments)
        )

    def wake(self) -> None:
        """Some session's window, clock or source changed."""
        self._changed.set()

    async def run(self, sessions: Callable[[], Iterable[ComputeSession]]) -> None:
        """Runs windows for ever, earliest deadline first."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            now = loop.time()
            offers = {
                candidate.key: (candidate, session)
                for session in sessions()
                if (candidate := session.candidate(now, self.cost.worst_s)) is not None
            }
            decision = choose([candidate for candidate, _ in offers.values()], now)
            if decision.key is not None:
                await self._window(offers[decision.key][1])
                continue
            wait = None if decision.wake_at is None else max(0.0, decision.wake_at - now)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    async def close(self) -> None:
        """Ends the thread; a window under way is waited for."""
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)

    async def _window(self, session: ComputeSession) -> None:
        """Runs one window. Whatever goes wrong is the affair of its session alone."""
        plan, block, timing, answers = session.begin_window()
        begin = time.perf_counter()
        task = WindowTask(
            session=session.state,
            run=plan.run,
            index=plan.index,
            first_frame=plan.first_frame,
            source=block.frames,
            seed=plan.seed,
            prompt=plan.prompt,
        )
        try:
            try:
                await self._stages(task, timing, off_latency_path=False)
                frames = self._checked(task, plan)
            finally:
                source_us = block.pts_us
                block.release()
            session.finish_window(plan, frames, source_us, timing, answers)
            if not session.closed:
                await self._stages(task, timing, off_latency_path=True)
        except Exception as error:  # a model may raise anything, and quote the prompt
            log.warning("window.failed", model=self.info.name, error=type(error).__name__)
            session.fail_window(plan)
            return
        self.windows += 1
        if plan.index > 0:
            self.cost.observe(time.perf_counter() - begin)

    async def _stages(
        self, task: WindowTask, timing: WindowTiming, *, off_latency_path: bool
    ) -> None:
        for stage in self.info.stages:
            if stage.off_latency_path is off_latency_path:
                await self._stage(stage.name, task, timing)

    async def _stage(self, name: str, task: WindowTask, timing: WindowTiming) -> None:
        begin = time.time()
        await self.call(self._model.stage, name, [task])
        timing.stages[name] = (begin, time.time())

    def _checked(self, task: WindowTask, plan: WindowPlan) -> Frames:
        shape = (plan.source_frames, self.info.height * 3 // 2, self.info.width)
        result = task.result
        if result is None or result.shape != shape or result.dtype != np.uint8:
            msg = f"the model must give {shape} frames of uint8"
            raise ValueError(msg)
        return result
