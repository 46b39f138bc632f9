"""Windows of a model, stage by stage, with a clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import torch

from model_actor.models.sana_streaming.engine import Engine
from model_actor.models.sana_streaming.model import SanaStreamingModel
from model_actor.models.sana_streaming.speed import Speed
from model_actor.models.sana_streaming.warming import warm_size
from model_actor.plugin import Frames, ModelInfo, WindowTask
from tests.bench.sana.models import Size, random_parts

STAGES: Final = ("encode", "generate", "decode", "commit")
LEAST, MOST = 5, 100
"""Windows that are measured."""


@dataclass(frozen=True)
class Bench:
    """What all rows share."""

    size: Size
    device: torch.device
    dtype: torch.dtype
    seconds: float
    """How long windows of one row are measured."""

    @property
    def on_gpu(self) -> bool:
        """Whether there is a GPU."""
        return self.device.type == "cuda"

    @property
    def info(self) -> ModelInfo:
        """What the model declares at this size."""
        size = self.size
        return replace(SanaStreamingModel.info, width=size.width, height=size.height)

    def settle(self) -> None:
        """Waits for the device."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def clean(self) -> None:
        """Gives back what earlier rows took, and begins to count anew."""
        torch._dynamo.reset()
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_bytes(self) -> int:
        """Returns the most memory of the device that was taken."""
        return torch.cuda.max_memory_allocated(self.device) if self.on_gpu else 0

    def engine(self, speed: Speed, *, batch: int = 1) -> Engine:
        """Makes a model that is ready."""
        torch.set_float32_matmul_precision("highest")
        parts = random_parts(self.size, self.device, self.dtype)
        engine = Engine(parts, (self.size.height, self.size.width), self.device)
        engine.hasten(speed)
        if speed.warms:
            warm_size(engine.stage, self.info, 1 if speed.overlap else batch)
        return engine


@dataclass
class Times:
    """Seconds that something took, again and again."""

    seen: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """Returns quantiles in milliseconds, and how many were seen."""
        ordered = sorted(self.seen)

        def at(share: float) -> float:
            return ordered[max(0, math.ceil(share * len(ordered)) - 1)] * 1e3

        return {"p50_ms": at(0.5), "p99_ms": at(0.99), "windows": len(ordered)}


class Runner:
    """Sessions that make windows together."""

    def __init__(self, bench: Bench, engine: Engine, sessions: int) -> None:
        """Opens sessions."""
        self._bench, self._engine = bench, engine
        self.sessions = [engine.open() for _ in range(sessions)]
        self._index = 0
        random = np.random.default_rng(1)
        shape = (33, bench.size.height * 3 // 2, bench.size.width)
        self._pictures: Frames = random.integers(16, 235, shape, dtype=np.uint8)

    def tasks(self) -> list[WindowTask]:
        """Returns the next window of each session."""
        count = 24 if self._index else 33
        first = 33 + 24 * (self._index - 1) if self._index else 0
        source = self._pictures[:count]
        self._index += 1
        return [
            WindowTask(session, 1, self._index - 1, first, source, seed, prompt="")
            for seed, session in enumerate(self.sessions)
        ]

    def window(self, times: dict[str, Times] | None = None) -> float:
        """Makes a window of each session; returns the seconds that it took.

        Args:
            times: What the stages took goes here. To tell them apart, each is waited for.
        """
        tasks, settle = self.tasks(), self._bench.settle
        began = time.perf_counter()
        for name in STAGES:
            stage_began = time.perf_counter()
            self._engine.stage(name, tasks)
            if times is not None:
                settle()
                times[name].seen.append(time.perf_counter() - stage_began)
        settle()
        return time.perf_counter() - began

    def run(self, stage: str, tasks: Sequence[WindowTask]) -> None:
        """Runs one stage."""
        self._engine.stage(stage, tasks)

    def steady(self) -> None:
        """Makes windows until all later ones are alike."""
        for _ in range(4):
            self.window()


def measured(
    bench: Bench, engine: Engine, *, sessions: int = 1, apart: bool = True
) -> dict[str, Any]:
    """Measures steady windows.

    Args:
        bench: How long.
        engine: The model.
        sessions: How many make windows together.
        apart: Whether stages are waited for one by one. Where they are to overlap, they are not.
    """
    runner = Runner(bench, engine, sessions)
    runner.steady()
    times = {name: Times() for name in STAGES}
    whole = Times()
    repeated(lambda: whole.seen.append(runner.window(times if apart else None)), bench.seconds)
    made: dict[str, Any] = {"chunk": whole.figures(), "sessions": sessions}
    if apart:
        made["stages"] = {name: each.figures() for name, each in times.items()}
    made["peak_bytes"] = bench.peak_bytes()
    return made


def repeated(work: Callable[[], object], seconds: float) -> None:
    """Does something again and again for some time: at least `LEAST` times, at most `MOST`."""
    began = time.perf_counter()
    for count in range(MOST):
        if count >= LEAST and time.perf_counter() - began > seconds:
            return
        work()


def timed(bench: Bench, work: Callable[[], object]) -> Times:
    """Measures some work of the device."""
    times = Times()

    def once() -> None:
        bench.settle()
        began = time.perf_counter()
        work()
        bench.settle()
        times.seen.append(time.perf_counter() - began)

    for _ in range(2):
        work()
    repeated(once, min(bench.seconds, 5.0))
    return times
