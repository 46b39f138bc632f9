"""Runs a model as the engine does, one window after another, on a source of its own."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from model_actor.plugin import Frames, Model, ModelInfo, SessionOptions, WindowTask
from scheduler.core.prompts import Share

PROMPT = "an oil painting"
OTHER_PROMPT = "a winter night"


@dataclass(slots=True)
class Run:
    """One session of a model under test, and the windows it was given so far."""

    model: Model
    session_id: str = "conformance"
    seed: int = 7
    prompt: str = PROMPT
    number: int = 1
    """Number of the run, as the engine counts them."""
    index: int = 0
    """Index of the next window."""
    offset: int = 0
    """Frames of the run that the model was not given: it began later, or some were left out."""
    steps: int = 0
    """Steps of the next window; 0: all."""
    earlier: tuple[Share, ...] = ()
    """What is mixed into the prompt of the next window."""
    session: object = field(init=False)

    def __post_init__(self) -> None:
        self.session = self.model.open(SessionOptions(self.session_id))

    def task(self) -> WindowTask:
        """Returns the next window, not run yet."""
        info = self.model.info
        geometry = info.geometry
        first = self.offset + geometry.window_start(self.index)
        source = moving_source(info, first, geometry.window_size(self.index))
        source.flags.writeable = False
        return WindowTask(
            session=self.session,
            run=self.number,
            index=self.index,
            first_frame=first,
            source=source,
            seed=self.seed,
            prompt=self.prompt,
            steps=self.steps,
            earlier=self.earlier,
        )

    def advance(self, windows: int = 1) -> list[Frames]:
        """Runs some windows alone, all their stages, and returns the results."""
        results = []
        for _ in range(windows):
            results.append(result(run_stages(self.model, [self.task()])[0]))
            self.index += 1
        return results

    def begin_again(self) -> None:
        """Begins the next run in the same session."""
        self.number += 1
        self.index = self.offset = 0

    def begin_anew(self) -> None:
        """Has the model begin anew at the next frame of the same run."""
        self.offset += self.model.info.geometry.window_start(self.index)
        self.index = 0

    def restored(self, snapshot: bytes, session_id: str | None = None) -> Run:
        """Returns a session that goes on where this one is, from a snapshot of it.

        Args:
            snapshot: What the model made of this one.
            session_id: Its name; that of this one if it is None.
        """
        copy = replace(self, session_id=self.session_id if session_id is None else session_id)
        self.model.close(copy.session)
        copy.session = self.model.restore(SessionOptions(copy.session_id), snapshot)
        return copy

    def close(self) -> None:
        """Closes the session."""
        self.model.close(self.session)


def run_stages(model: Model, tasks: Sequence[WindowTask]) -> Sequence[WindowTask]:
    """Runs all stages on windows, as one batch."""
    for stage in model.info.stages:
        model.stage(stage.name, tasks)
    return tasks


def result(task: WindowTask) -> Frames:
    """Returns what a window came to; an empty array where there is nothing."""
    return np.empty((0, 0, 0), np.uint8) if task.result is None else task.result


def moving_source(info: ModelInfo, first: int, count: int) -> Frames:
    """Returns frames of a grainy picture with something bright that moves over it.

    No two frames are alike anywhere, so that whatever a model remembers of one shows.
    """
    height, width = info.height, info.width
    ground = _ground(height, width)
    frames = np.full((count, height * 3 // 2, width), 128, np.uint8)
    side = max(2, height // 4)
    for number, frame in enumerate(frames, first):
        frame[:height] = ground
        frame[:height] += np.roll(_grain(height, width), number * 977)
        left = number * max(1, width // 160) % max(1, width - side)
        frame[height // 3 : height // 3 + side, left : left + side] = 200
        frame[height : height * 5 // 4, : width // 2] = 100
    return frames


@functools.cache
def _grain(height: int, width: int) -> Frames:
    return np.random.default_rng(1).integers(0, 4, (height, width), dtype=np.uint8)


@functools.cache
def _ground(height: int, width: int) -> Frames:
    y, x = np.mgrid[:height, :width]
    ground: Frames = (60 + 50 * np.sin(x / 37) * np.cos(y / 23) + 60 * x / width).astype(np.uint8)
    return ground
