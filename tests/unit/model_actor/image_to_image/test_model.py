"""The plugin keeps to what every model must keep to, and does as it is told."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from model_actor.conformance import (
    ALL_CHECKS,
    Subject,
    Verdict,
    check_batch_equals_alone,
    check_foreign_snapshot,
    check_results,
    chosen,
    examine,
)
from model_actor.conformance.runs import Run, run_stages
from model_actor.models.image_to_image import prompts
from model_actor.models.image_to_image.model import ImageToImageModel
from model_actor.plugin import Frames, Model, ModelInfo
from scheduler.core.errors import InvariantError, PluginError
from tests.unit.model_actor.image_to_image.conftest import SIZE, Loaded

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("check", ALL_CHECKS, ids=lambda check: check.__name__)
def test_it_keeps_to(check: Callable[[Model], None], consistency: Path, loaded: Loaded) -> None:
    check(loaded(consistency, max_batch="2"))


@pytest.mark.parametrize("steps", ["1", "3"])
@pytest.mark.parametrize("check", [check_results, check_batch_equals_alone, check_foreign_snapshot])
def test_it_keeps_to_with_other_steps(
    check: Callable[[Model], None], steps: str, turbo: Path, loaded: Loaded
) -> None:
    check(loaded(turbo, steps=steps, max_batch="2"))


@pytest.mark.slow
def test_it_takes_no_more_memory_than_it_declares(turbo: Path, loaded: Loaded) -> None:
    model = loaded(turbo)
    options = {"weights": str(turbo), "size": SIZE, "device": "cpu"}

    def another() -> Model:
        made = ImageToImageModel()
        made.configure(options)
        return made

    (outcome,) = examine(Subject(model, another), chosen(["memory"]))
    assert outcome.verdict is not Verdict.FAILED, outcome.told


def test_a_snapshot_is_no_larger_than_a_session_is_declared(turbo: Path, loaded: Loaded) -> None:
    model = loaded(turbo)
    with closing(Run(model)) as run:
        run.advance(2)
        assert len(model.snapshot(run.session)) <= model.info.session_bytes


def made(model: Model, prompt: str = "oil", seed: int = 7) -> Frames:
    with closing(Run(model, prompt=prompt, seed=seed)) as run:
        return np.concatenate(run.advance(2))


def apart(these: Frames, those: Frames) -> float:
    return float(np.abs(these.astype(int) - those).mean())


def test_pictures_follow_prompt_seed_and_strength(turbo: Path, loaded: Loaded) -> None:
    model = loaded(turbo)
    oil = made(model)
    assert apart(oil, made(model, prompt="a winter night")) > 1
    assert apart(oil, made(model, seed=8)) > 1
    assert apart(oil, made(loaded(turbo, strength="0.9"))) > 1


def test_a_still_scene_stays_still(turbo: Path, loaded: Loaded) -> None:
    """All frames of a run have the same noise: nothing boils."""
    model = loaded(turbo)
    with closing(Run(model)) as run:
        task = run.task()
        task.source = np.repeat(task.source[:1], len(task.source), axis=0)
        run_stages(model, [task])
        assert task.result is not None
        assert apart(task.result, np.repeat(task.result[:1], len(task.result), axis=0)) < 0.1


@pytest.mark.parametrize(
    ("steps", "answers"), [("1", [8, 8, 8]), ("2", [4, 8, 12]), ("3", [8, 8, 16])]
)
def test_every_frame_is_answered_once_and_late_by_what_is_under_way(
    steps: str, answers: list[int], turbo: Path, loaded: Loaded
) -> None:
    model = loaded(turbo, steps=steps)
    with closing(Run(model)) as run:
        sizes = []
        for index in range(3):
            task = run.task()
            task.last = index == 2
            run_stages(model, [task])
            assert task.result is not None
            sizes.append(len(task.result))
            run.index += 1
    assert sizes == answers


def test_frames_come_in_order(turbo: Path, loaded: Loaded) -> None:
    """A run in which one frame is white shows it where it was."""
    model = loaded(turbo, strength="0.05")
    height = model.info.height

    def shown(white: int) -> Frames:
        frames = []
        with closing(Run(model)) as run:
            for index in range(2):
                task = run.task()
                source = np.full_like(task.source, 90)
                if 0 <= white - task.first_frame < len(source):
                    source[white - task.first_frame, :height] = 220
                task.source, task.last = source, index == 1
                run_stages(model, [task])
                assert task.result is not None
                frames.append(task.result)
                run.index += 1
        return np.concatenate(frames)

    plain = shown(-1)
    for white in (0, 4, 15):
        changed = np.abs(shown(white).astype(int) - plain).mean(axis=(1, 2))
        assert int(changed.argmax()) == white
        assert np.delete(changed, white).max() < changed[white] / 4


def test_windows_at_the_beginning_in_the_middle_and_at_the_end_go_in_one_call(
    turbo: Path, loaded: Loaded
) -> None:
    model = loaded(turbo)
    alone = []
    for before, last in ((0, False), (1, False), (2, True)):
        with closing(Run(model)) as run:
            run.advance(before)
            task = run.task()
            task.last = last
            alone.append(run_stages(model, [task])[0].result)
    runs = [Run(model) for _ in alone]
    with ExitStack() as stack:
        first, second, third = (stack.enter_context(closing(run)) for run in runs)
        second.advance(1)
        third.advance(2)
        tasks = [each.task() for each in (first, second, third)]
        tasks[2].last = True
        run_stages(model, tasks)
    for task, expected in zip(tasks, alone, strict=True):
        assert task.result is not None
        assert expected is not None
        assert task.result.shape == expected.shape
        assert apart(task.result, expected) < 0.1


def test_a_prompt_is_read_once_and_the_oldest_is_forgotten(
    turbo: Path, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "KEPT", 2)
    model = loaded(turbo)
    known = model._loaded().prompts
    model.read_prompt("first")
    states = known.read("first")
    model.read_prompt("second")
    assert known.read("first") is states
    model.read_prompt("third")
    assert known.known == ("first", "third")


def test_windows_are_refused_out_of_order(turbo: Path, loaded: Loaded) -> None:
    model = loaded(turbo)
    with closing(Run(model)) as run:
        run.advance()
        task = run.task()
        task.index = 2
        with pytest.raises(InvariantError, match="window 2 of run 1"):
            model.stage("encode", [task])
        with pytest.raises(InvariantError, match="before the one that it needs"):
            model.stage("decode", [run.task()])
        with pytest.raises(InvariantError, match="no stage"):
            model.stage("commit", [run.task()])


def test_snapshots_of_other_steps_or_sizes_are_refused(turbo: Path, loaded: Loaded) -> None:
    with closing(Run(loaded(turbo))) as run:
        run.advance()
        snapshot = run.model.snapshot(run.session)
        for other in (loaded(turbo, steps="3"), loaded(turbo, size="64x32")):
            with closing(Run(other)) as elsewhere, pytest.raises(PluginError, match="another size"):
                elsewhere.restored(snapshot)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"weights": ""}, "needs its weights"),
        ({"weights": "/no/such/folder"}, "there is no folder"),
        ({"colour": "blue"}, "no option 'colour'"),
        ({"size": "100x100"}, "multiples of 16"),
        ({"size": "big"}, "WIDTHxHEIGHT"),
        ({"threads": "many"}, "threads is a whole number"),
        ({"steps": "4"}, "steps is a whole number from 1 to 3"),
        ({"strength": "0"}, "strength is a number from 0.05 to 1"),
        ({"device": "abacus"}, "device is cuda"),
        ({"device": "cuda"}, "no GPU"),
        ({"dtype": "int4"}, "dtype is one of"),
    ],
)
def test_what_it_cannot_use_is_told(turbo: Path, options: dict[str, str], why: str) -> None:
    model = ImageToImageModel()

    def begin() -> None:
        model.configure({"weights": str(turbo), **options})
        model.load()

    with pytest.raises(PluginError, match=why):
        begin()


def test_what_is_declared_follows_weights_size_and_steps(turbo: Path, consistency: Path) -> None:
    def info(weights: Path = turbo, **options: str) -> ModelInfo:
        model = ImageToImageModel()
        model.configure({"weights": str(weights), "size": SIZE, "device": "cpu", **options})
        return model.info

    two, three = info(), info(steps="3")
    assert (two.geometry.lag, three.geometry.lag) == (4, 8)
    assert three.chunk_ms > two.chunk_ms
    assert three.session_bytes > two.session_bytes
    assert info(size="96x64").chunk_ms == pytest.approx(4 * two.chunk_ms)
    assert info(chunk_ms="60").chunk_ms == pytest.approx(60)
    assert info(vae=str(consistency / "vae")).chunk_ms > two.chunk_ms
    assert 2 * info(dtype="float16").weights_bytes == two.weights_bytes
