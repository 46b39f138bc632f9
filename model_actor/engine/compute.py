"""The compute loop: which windows run next, and running them on the one compute thread."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final, Protocol, TypeVar

import numpy as np
import structlog

from model_actor.engine.clock import WindowCost
from model_actor.engine.tracing import Answers, WindowTiming
from model_actor.media.frames import FrameBlock
from model_actor.metrics import BATCHES, STAGES, WINDOWS
from model_actor.plugin import Frames, Model, ModelInfo, PromptReader, WindowTask
from scheduler.core.chunks import Candidate, ChunkOrder
from scheduler.core.errors import SanaGatewayError
from scheduler.core.quality import Quality
from scheduler.core.run import WindowPlan
from scheduler.process.instruments import exemplar

HANGS_S = 20.0
"""A call of the model that takes longer than this, ..."""
HANGS_WINDOWS = 20.0
"""... and than so many of its longest windows, never returns: a GPU that hangs raises nothing."""
_LOOK_S = 1.0
_LATCHES: Final = "generate"
"""The stage that looks at the prompt."""

log = structlog.get_logger(__name__)
_ResultT = TypeVar("_ResultT")


class ModelHangsError(SanaGatewayError):
    """A call of the model does not return."""


class ComputeSession(Protocol):
    """A session, as far as computing goes. All calls come on the event loop."""

    state: object
    quality: Quality
    """How it runs; its windows are made with these steps."""

    @property
    def closed(self) -> bool:
        """Whether it has ended: its state is the model's no more."""

    @property
    def source_clip(self) -> str:
        """Which clip its windows are of; empty: they are a camera's."""

    def candidate(self, now: float, cost_s: float) -> Candidate | None:
        """Its next window, if it may run or its source is foreseen.

        Args:
            now: The present.
            cost_s: What a steady window takes with all steps. Of others the loop knows better.
        """

    def begin_window(self) -> tuple[WindowPlan, FrameBlock, WindowTiming, Answers]:
        """Dispatches it."""

    def latch(self, plan: WindowPlan) -> tuple[WindowPlan, Answers] | None:
        """The model is about to look at the prompt of a window: the last word on it.

        Returns:
            The window and the commands it answers, where a prompt was set since it began.
        """

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

    def settled(self, plan: WindowPlan) -> None:
        """All stages of it are done, also those off the latency path.

        Between two windows: what is asked of the model with `Compute.call` before this
        returns, is done before the next stage of any window.
        """


class _Window:
    """A window under way."""

    def __init__(self, session: ComputeSession) -> None:
        self.session = session
        self.steps = session.quality.steps
        self.plan, self.block, self.timing, self.answers = session.begin_window()
        self.over = False
        """Whether the session was told of its end."""
        self._handed_out = False

    @property
    def goes_on(self) -> bool:
        """Whether the model has still to do with it."""
        return not (self.over or self.session.closed)

    def task(self) -> WindowTask:
        """Returns what the model is to do, from the first stage on."""
        plan = self.plan
        self.timing.compute_s = 0.0
        return WindowTask(
            session=self.session.state,
            run=plan.run,
            index=plan.index,
            first_frame=plan.first_frame,
            source=self.block.frames,
            seed=plan.seed,
            prompt=plan.prompt,
            steps=self.steps,
            earlier=plan.earlier,
            clip=self.session.source_clip,
            last=plan.last,
        )

    def latch(self, task: WindowTask) -> None:
        """Gives the model the prompt as it is now."""
        latched = self.session.latch(self.plan)
        if latched is not None:
            self.plan, self.answers = latched
        task.prompt, task.earlier = self.plan.prompt, self.plan.earlier

    def hand_out(self, frames: Frames) -> None:
        """Gives the session its frames, once."""
        if not self._handed_out:
            self._handed_out = True
            self.session.finish_window(
                self.plan, frames, self.block.pts_us, self.timing, self.answers
            )

    def settle(self) -> None:
        """All of it is done."""
        self.over = True
        self.session.settled(self.plan)

    def fail(self) -> None:
        """It cannot be done."""
        self.over = True
        self.session.fail_window(self.plan)


class Compute:
    """Owns the model and the thread that it runs on."""

    def __init__(self, model: Model) -> None:
        """Prepares the loop; nothing is loaded yet."""
        self._model = model
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute")
        self._changed = asyncio.Event()
        self._order = ChunkOrder()
        info = model.info
        self.cost = WindowCost(
            info.chunk_ms / 1e3,
            first_share=info.geometry.first_window / info.geometry.window,
            max_batch=info.max_batch,
            fewer_s={each.steps: each.chunk_ms / 1e3 for each in info.degraded_steps},
        )
        self.windows = 0
        """Windows computed so far."""
        self.batches = 0
        """Calls of the model that they took: several windows may be one batch."""
        self._unread: dict[str, str] = {}
        """Prompts that the model has not read yet, by their sessions: of each the newest alone,
        and the oldest session first."""
        self._called_at: float | None = None
        """When the call that the compute thread is in began."""

    @property
    def info(self) -> ModelInfo:
        """What the model declares."""
        return self._model.info

    async def load(self) -> None:
        """Loads the model."""
        await self.call(self._model.load)

    def call(
        self, function: Callable[..., _ResultT], *arguments: object
    ) -> asyncio.Future[_ResultT]:
        """Has a function of the model run on the compute thread, after what was asked before."""

        def called() -> _ResultT:
            self._called_at = time.monotonic()
            try:
                return function(*arguments)
            finally:
                self._called_at = None

        return asyncio.get_running_loop().run_in_executor(self._thread, called)

    async def watch(self) -> None:
        """Watches over the model for ever, once it is loaded and warm.

        Raises:
            ModelHangsError: A call does not return. Nothing but the end of the process helps:
                all sessions of this model stand, and would for ever.
        """
        while True:
            await asyncio.sleep(_LOOK_S)
            limit_s = max(HANGS_S, HANGS_WINDOWS * self.cost.worst_s)
            called_at = self._called_at
            if called_at is not None and time.monotonic() - called_at > limit_s:
                raise ModelHangsError(f"a call of the model took over {limit_s:.0f} s")

    def read_prompt(self, session_id: str, prompt: str) -> None:
        """Has the model read a prompt before the next window; see `PromptReader`."""
        if isinstance(self._model, PromptReader):
            self._unread[session_id] = prompt
            self._changed.set()

    def wake(self) -> None:
        """Some session's window, clock or source changed."""
        self._changed.set()

    async def run(self, sessions: Callable[[], Iterable[ComputeSession]]) -> None:
        """Runs windows for ever, in the order of `ChunkOrder`."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            await self._read_one()
            now = loop.time()
            offers: dict[str, ComputeSession] = {}
            candidates = []
            for session in sessions():
                candidate = session.candidate(now, self.cost.worst_s)
                if candidate is not None:
                    offers[candidate.key] = session
                    candidates.append(self._costed(candidate))
            decision = self._order.decide(candidates, now, self.cost.batching())
            if decision.keys:
                await self._windows([offers[key] for key in decision.keys])
                continue
            if self._unread:
                continue
            wait = None if decision.wake_at is None else max(0.0, decision.wake_at - now)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    async def close(self) -> None:
        """Ends the thread; a window under way is waited for."""
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)

    async def _read_one(self) -> None:
        """Has the model read the prompt that waits longest: one between two windows."""
        if not self._unread or not isinstance(self._model, PromptReader):
            return
        prompt = self._unread.pop(next(iter(self._unread)))
        try:
            await self.call(self._model.read_prompt, prompt)
        except Exception as error:  # a model may raise anything, and quote the prompt
            log.warning("prompt.unread", model=self.info.name, error=type(error).__name__)

    def _costed(self, candidate: Candidate) -> Candidate:
        first, steps = candidate.kind
        if not (first or steps):
            return candidate
        return replace(candidate, cost_s=self.cost.worst(first=first, steps=steps))

    async def _windows(self, sessions: Sequence[ComputeSession]) -> None:
        """Runs a window of each session, as one batch.

        Whatever goes wrong is the affair of one session alone: when a batch fails, which
        leaves its sessions as they were, each of its windows is tried once more by itself.
        """
        batch = [_Window(session) for session in sessions]
        begin = time.perf_counter()
        try:
            done = await self._attempt(batch)
            if done == len(batch):
                first, steps = batch[0].plan.index == 0, batch[0].steps
                took_s = time.perf_counter() - begin
                self.cost.observe(took_s, first=first, size=done, steps=steps)
            for window in batch:
                if window.goes_on and (len(batch) == 1 or not await self._attempt([window])):
                    window.fail()
        finally:
            for window in batch:
                window.block.release()

    async def _attempt(self, batch: Sequence[_Window]) -> int:
        """Runs all stages of windows; returns how many are done."""
        tasks = {window: window.task() for window in batch}
        try:
            await self._stages(tasks, off_latency_path=False)
            for window, task in tasks.items():
                self._hand_out(window, task)
            await self._stages(tasks, off_latency_path=True)
        except Exception as error:  # a model may raise anything, and quote the prompt
            self._log_failure(error)
            return 0
        done = [window for window in batch if window.goes_on]
        for window in done:
            window.settle()
        self.windows += len(done)
        self.batches += bool(done)
        WINDOWS.labels(self.info.name, "done").inc(len(done))
        if done:
            BATCHES.labels(self.info.name).observe(len(done))
        return len(done)

    async def _stages(self, tasks: Mapping[_Window, WindowTask], *, off_latency_path: bool) -> None:
        """Runs stages, each without the sessions that have ended by then."""
        for stage in self.info.stages:
            present = {window: task for window, task in tasks.items() if window.goes_on}
            if stage.off_latency_path is off_latency_path and present:
                begin = time.time()
                if stage.name == _LATCHES:
                    for window, task in present.items():
                        window.latch(task)
                await self.call(self._measured, stage.name, present)
                end = time.time()
                STAGES.labels(self.info.name, stage.name).observe(end - begin, _exemplar(present))
                for window in present:
                    window.timing.stages[stage.name] = (begin, end)

    def _measured(self, stage: str, tasks: Mapping[_Window, WindowTask]) -> None:
        """Runs a stage on the compute thread; each of its windows has its share of the time."""
        begin = time.perf_counter()
        try:
            self._model.stage(stage, list(tasks.values()))
        finally:
            share = (time.perf_counter() - begin) / len(tasks)
            for window in tasks:
                timing = window.timing
                timing.compute_s += share
                timing.spent_s += share
                timing.batch = len(tasks)

    def _hand_out(self, window: _Window, task: WindowTask) -> None:
        """Hands out a result, or fails the window if it is none."""
        if not window.goes_on:
            return
        try:
            window.hand_out(self._checked(task, window.plan))
        except Exception as error:
            self._log_failure(error)
            window.fail()

    def _checked(self, task: WindowTask, plan: WindowPlan) -> Frames:
        shape = (plan.made, self.info.height * 3 // 2, self.info.width)
        result = task.result
        if result is None or result.shape != shape or result.dtype != np.uint8:
            msg = f"the model must give {shape} frames of uint8"
            raise ValueError(msg)
        return result

    def _log_failure(self, error: Exception) -> None:
        WINDOWS.labels(self.info.name, "failed").inc()
        log.warning("window.failed", model=self.info.name, error=type(error).__name__)


def _exemplar(windows: Iterable[_Window]) -> dict[str, str] | None:
    """Returns the trace of a command that one of the windows answers, if that is recorded."""
    return next((found for each in windows if (found := exemplar(each.answers.parent))), None)
