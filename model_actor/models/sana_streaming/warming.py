"""Every shape of a window, computed once for nobody: what compiles, or is recorded, does so now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from model_actor.models.sana_streaming.session import SanaSession
from model_actor.plugin import Frames, ModelInfo, WindowTask

Stage = Callable[[str, Sequence[WindowTask]], None]
_LENGTHS = 3
"""Windows until the past is as long as it gets."""


def warm(stage: Stage, info: ModelInfo) -> None:
    """Computes windows in batches of all sizes.

    Args:
        stage: Runs a stage on a batch.
        info: What the model declares.
    """
    for size in range(1, info.max_batch + 1):
        sessions = warm_size(stage, info, size)
        if size > 1:
            # A second window among later ones: its past is padded, and a mask tells so.
            begun = SanaSession()
            _together(stage, info, [(begun, 0)])
            _together(stage, info, [(begun, 1), *((each, _LENGTHS) for each in sessions[1:])])


def warm_size(stage: Stage, info: ModelInfo, size: int) -> list[SanaSession]:
    """Computes the first windows of so many sessions in one batch; returns the sessions."""
    sessions = [SanaSession() for _ in range(size)]
    for index in range(_LENGTHS):
        _together(stage, info, [(session, index) for session in sessions])
    return sessions


def _together(stage: Stage, info: ModelInfo, windows: Sequence[tuple[SanaSession, int]]) -> None:
    tasks = [*_tasks(info, windows)]
    for each in info.stages:
        stage(each.name, tasks)


def _tasks(info: ModelInfo, windows: Sequence[tuple[SanaSession, int]]) -> Iterator[WindowTask]:
    for session, index in windows:
        geometry = info.geometry
        count = geometry.window if index else geometry.first_window
        first = geometry.window_start(index)
        yield WindowTask(session, 1, index, first, _black(count, info), seed=0, prompt="warm up")


def _black(count: int, info: ModelInfo) -> Frames:
    source = np.full((count, info.height * 3 // 2, info.width), 16, np.uint8)
    source[:, info.height :] = 128
    return source
