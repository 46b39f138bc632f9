"""A small model that keeps to the interface, for tests that break it in one point each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from model_actor.plugin import FewerSteps, ModelInfo, SessionOptions, Stage, WindowTask
from scheduler.core.geometry import Geometry
from scheduler.core.prompts import Share


class Tally:
    """State of a session of `Sound`."""

    end: int
    restored: bool
    mixed: tuple[Share, ...]

    def __init__(self, run: int = 0, windows: int = 0) -> None:
        self.run, self.windows = run, windows
        self.owed = np.empty((0, 72, 64), np.uint8)


class Sound:
    """A small model that keeps to the interface; the tests break it in one point each."""

    info: ClassVar[ModelInfo] = ModelInfo(
        name="sound",
        summary="Adds the number of windows so far.",
        stages=(
            Stage("encode", 1),
            Stage("generate", 1),
            Stage("commit", 1, off_latency_path=True),
        ),
        width=64,
        height=48,
        geometry=Geometry(first_window=5, window=4, chunk=4),
        max_batch=2,
        degraded_steps=(FewerSteps(3, 1.0),),
        prompt_transitions=True,
    )

    def configure(self, options: dict[str, str]) -> None: ...

    def load(self) -> None: ...

    def open(self, options: SessionOptions) -> object:
        del options
        return Tally()

    def stage(self, name: str, batch: Sequence[WindowTask]) -> None:
        if name == "generate":
            results = [self.edit(task) for task in batch]
            for task, result in zip(batch, results, strict=True):
                task.result = result
        if name == "commit":
            for task in batch:
                state = self.state(task)
                state.windows = task.index + 1
                state.run = task.run

    def edit(self, task: WindowTask) -> np.ndarray:
        if task.source.shape[1:] != (72, 64):
            raise ValueError("wrong shape")
        state = self.state(task)
        done = state.windows if state.run == task.run and task.index else 0
        before = round(50 * sum(each.share for each in task.earlier))
        return task.source + np.uint8(1 + done + task.seed % 3 + 8 * task.steps + before)

    @staticmethod
    def state(task: WindowTask) -> Tally:
        assert isinstance(task.session, Tally)
        return task.session

    def snapshot(self, session: object) -> bytes:
        assert isinstance(session, Tally)
        return bytes([session.run, session.windows])

    def restore(self, options: SessionOptions, snapshot: bytes) -> object:
        del options
        run, windows = snapshot
        return Tally(run, windows)

    def close(self, session: object) -> None: ...


def declares(**changes: Any) -> type[Sound]:
    return type("Declares", (Sound,), {"info": replace(Sound.info, **changes)})
