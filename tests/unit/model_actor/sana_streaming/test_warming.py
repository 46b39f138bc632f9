"""Every shape that a batch may have has been computed before the first session comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from model_actor.models.sana_streaming.model import SanaStreamingModel
from model_actor.models.sana_streaming.warming import warm
from model_actor.plugin import WindowTask

pytestmark = pytest.mark.unit


def kind(batch: Sequence[WindowTask]) -> tuple[int, int, bool]:
    """Size, length of the longest past in windows, and whether one has a shorter past."""
    pasts = [min(task.index, 2) for task in batch]
    return len(batch), max(pasts), min(pasts) < max(pasts)


@pytest.mark.parametrize("most", [1, 3])
def test_all_sizes_and_pasts_come_once(most: int) -> None:
    info = replace(SanaStreamingModel.info, width=64, height=64, max_batch=most)
    seen: list[tuple[int, int, bool]] = []
    stages: list[str] = []

    def stage(name: str, batch: Sequence[WindowTask]) -> None:
        stages.append(name)
        if name != "encode":
            return
        seen.append(kind(batch))
        assert len({id(task.session) for task in batch}) == len(batch)
        for task in batch:
            assert task.source.shape == (24 if task.index else 33, 96, 64)
            assert task.first_frame == (33 + 24 * (task.index - 1) if task.index else 0)

    warm(stage, info)
    alike = {(size, past, False) for size in range(1, most + 1) for past in range(3)}
    mixed = {(size, 2, True) for size in range(2, most + 1)}
    assert set(seen) == alike | mixed
    assert stages[:4] == [each.name for each in info.stages]
