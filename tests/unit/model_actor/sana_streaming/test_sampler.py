"""Steps from noise to latents: those of the release, and fewer where time is short."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from model_actor.conformance.runs import Run, run_stages
from model_actor.models.sana_streaming import sampler
from model_actor.models.sana_streaming.model import SanaStreamingModel
from model_actor.plugin import Frames
from scheduler.core.errors import InvariantError

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def model(bundle_folder: Path) -> SanaStreamingModel:
    made = SanaStreamingModel()
    made.configure({"weights": str(bundle_folder), "size": "64x64", "threads": "1"})
    made.load()
    return made


@pytest.fixture
def runs(model: SanaStreamingModel) -> Iterator[list[Run]]:
    with ExitStack() as stack:
        yield [stack.enter_context(closing(Run(model, seed=seed))) for seed in range(3)]


def test_all_steps_are_those_of_the_release() -> None:
    assert sampler.schedule() == sampler.schedule(4)
    assert [time for time, _, _ in sampler.schedule()] == [1000.0, 961.0, 893.0, 743.0]
    # A scheduler that was told to shift would do so once more.
    theirs = FlowMatchEulerDiscreteScheduler(shift=1.0)
    theirs.set_timesteps(sigmas=[1.0, 0.961, 0.893, 0.743])
    sigmas = [theirs.sigmas[0].item(), *(after for _, _, after in sampler.schedule())]
    torch.testing.assert_close(theirs.sigmas, torch.tensor(sigmas))
    torch.testing.assert_close(
        theirs.timesteps, torch.tensor([time for time, _, _ in sampler.schedule()])
    )


@pytest.mark.parametrize("steps", sampler.STEPS)
def test_fewer_steps_go_all_the_way_at_times_of_the_release(steps: int) -> None:
    made = sampler.schedule(steps)
    assert len(made) == steps
    assert (made[0][1], made[-1][2]) == (1.0, 0.0)
    assert all(before == after for (_, _, before), (_, after, _) in itertools.pairwise(made))
    assert all(sampler.SIGMAS[sampler.TIMESTEPS.index(time)] == sigma for time, sigma, _ in made)


@pytest.mark.parametrize("steps", [2, 4])
def test_fewer_steps_are_even_before_the_shift(steps: int) -> None:
    shares = [sigma / (8 - 7 * sigma) for _, sigma, _ in sampler.schedule(steps)]
    even = [1 - step / steps for step in range(steps)]
    assert shares == pytest.approx(even, abs=0.02)


@pytest.mark.parametrize("steps", [3, 5, -1])
def test_other_numbers_of_steps_are_refused(steps: int) -> None:
    with pytest.raises(InvariantError, match="steps"):
        sampler.schedule(steps)


def test_one_step_is_one_question(model: SanaStreamingModel, runs: list[Run]) -> None:
    asked = []
    transformer = model._loaded()._parts.transformer
    hook = transformer.register_forward_pre_hook(lambda _, args: asked.append(float(args[2][0])))
    try:
        for steps in (0, 2, 1):
            runs[0].steps = steps
            runs[0].advance()
    finally:
        hook.remove()
    times = [[1000.0, 961.0, 893.0, 743.0], [1000.0, 893.0], [1000.0]]
    assert asked == [time for each in times for time in (*each, 0.0)], "and one to commit each"


def test_sessions_with_different_steps_in_one_batch_are_as_alone(
    model: SanaStreamingModel, runs: list[Run]
) -> None:
    alone = []
    for run, steps in zip(runs, (0, 2, 1), strict=True):
        with closing(Run(model, seed=run.seed)) as single:
            single.advance()
            single.steps = run.steps = steps
            alone += single.advance()
    first = [run.task() for run in runs]
    for task in first:
        task.steps = 0
    run_stages(model, first)
    for run in runs:
        run.index += 1
    done = [each.result for each in run_stages(model, [run.task() for run in runs])]
    assert all(near(ours, theirs) for ours, theirs in zip(done, alone, strict=True))
    assert not near(alone[0], alone[1])


def near(ours: Frames | None, theirs: Frames) -> bool:
    return ours is not None and int(np.abs(ours.astype(int) - theirs).max()) <= 1
