"""The conformance kit finds each fault that it is there to find."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from model_actor.conformance import check_all, checks
from model_actor.conformance.runs import Run
from model_actor.plugin import FewerSteps, Model, ModelInfo, SessionOptions, Stage, WindowTask
from scheduler.core.geometry import Geometry
from tests.unit.model_actor.sound_model import Sound, Tally, declares

pytestmark = pytest.mark.unit


class OneFrameShort(Sound):
    def edit(self, task: WindowTask) -> np.ndarray:
        return super().edit(task)[1:]


class Floats(Sound):
    def edit(self, task: WindowTask) -> np.ndarray:
        return super().edit(task).astype(np.float32)


class HandsBackTheSource(Sound):
    def edit(self, task: WindowTask) -> np.ndarray:
        super().edit(task)
        return task.source


class EditsTooLate(Sound):
    def stage(self, name: str, batch: Sequence[WindowTask]) -> None:
        super().stage(name, batch)
        for task in batch:
            if name == "commit" and task.result is not None:
                task.result = task.result + np.uint8(1)


class CountsOverAll(Sound):
    """Keeps a counter in the model that belongs into the session."""

    def __init__(self) -> None:
        self.calls = 0

    def edit(self, task: WindowTask) -> np.ndarray:
        self.calls += 1
        return super().edit(task) + np.uint8(self.calls)


class SharesState(Sound):
    def __init__(self) -> None:
        self.shared = Tally()

    def open(self, options: SessionOptions) -> object:
        del options
        self.shared.windows = 0
        return self.shared


class DependsOnItsPlace(Sound):
    def stage(self, name: str, batch: Sequence[WindowTask]) -> None:
        super().stage(name, batch)
        for place, task in enumerate(batch):
            if name == "generate" and task.result is not None:
                task.result = task.result + np.uint8(40 * place)


class WorseInBatches(Sound):
    def stage(self, name: str, batch: Sequence[WindowTask]) -> None:
        super().stage(name, batch)
        for task in batch:
            if name == "generate" and task.result is not None and len(batch) > 1:
                task.result = task.result + np.uint8(9)


class ForgetsInSnapshots(Sound):
    def snapshot(self, session: object) -> bytes:
        return super().snapshot(session)[:1] + bytes([0])


class GoesOnWithItsState(Sound):
    """Tells runs apart, and takes window 0 of the same run for one that follows."""

    def edit(self, task: WindowTask) -> np.ndarray:
        state = self.state(task)
        done = state.windows if state.run == task.run else 0
        return task.source + np.uint8(1 + done)


class ChangesWithSnapshots(Sound):
    def snapshot(self, session: object) -> bytes:
        taken = super().snapshot(session)
        assert isinstance(session, Tally)
        session.windows += 1
        return taken


class ForgetsJumps(Sound):
    """Remembers where the last window ended, and not in its snapshots."""

    def edit(self, task: WindowTask) -> np.ndarray:
        state = self.state(task)
        jumped = task.index > 0 and getattr(state, "end", task.first_frame) != task.first_frame
        return super().edit(task) + np.uint8(jumped)

    def stage(self, name: str, batch: Sequence[WindowTask]) -> None:
        super().stage(name, batch)
        if name == "commit":
            for task in batch:
                self.state(task).end = task.first_frame + len(task.source)


class RestoresOnceOnly(Sound):
    """Restores from what it still has in memory."""

    def __init__(self) -> None:
        self.kept: dict[bytes, Tally] = {}

    def restore(self, options: SessionOptions, snapshot: bytes) -> object:
        copy = super().restore(options, snapshot)
        assert isinstance(copy, Tally)
        return self.kept.setdefault(snapshot, copy)


class NamesItsSessions(Sound):
    """What it makes depends on the name of the session."""

    def restore(self, options: SessionOptions, snapshot: bytes) -> object:
        copy = super().restore(options, snapshot)
        assert isinstance(copy, Tally)
        copy.windows += options.session_id.startswith("fork")
        return copy


class TakesAnySnapshot(Sound):
    def restore(self, options: SessionOptions, snapshot: bytes) -> object:
        padded = snapshot.ljust(2, b"0")
        return super().restore(options, padded[:2])


class RestoresForOtherBatches(Sound):
    """A restored session is alike in a batch, and not the same."""

    def restore(self, options: SessionOptions, snapshot: bytes) -> object:
        copy = super().restore(options, snapshot)
        assert isinstance(copy, Tally)
        copy.restored = True
        return copy

    def stage(self, name: str, batch: Sequence[WindowTask]) -> None:
        super().stage(name, batch)
        for task in batch:
            odd = getattr(self.state(task), "restored", False) and len(batch) > 1
            if name == "generate" and task.result is not None and odd:
                task.result = task.result + np.uint8(1)


class KnowsNoSteps(Sound):
    def edit(self, task: WindowTask) -> np.ndarray:
        task.steps = 0
        return super().edit(task)


class KeepsItsSteps(Sound):
    def edit(self, task: WindowTask) -> np.ndarray:
        state = self.state(task)
        state.end = task.steps = max(task.steps, getattr(state, "end", 0))
        return super().edit(task)


class KnowsNoMixtures(Sound):
    def edit(self, task: WindowTask) -> np.ndarray:
        task.earlier = ()
        return super().edit(task)


class KeepsItsMixture(Sound):
    def edit(self, task: WindowTask) -> np.ndarray:
        state = self.state(task)
        state.mixed = task.earlier = task.earlier or getattr(state, "mixed", ())
        return super().edit(task)


class Owes(Sound):
    """Looks one frame ahead."""

    info: ClassVar[ModelInfo] = replace(
        Sound.info, geometry=Geometry(first_window=5, window=4, chunk=4, lag=1)
    )

    def edit(self, task: WindowTask) -> np.ndarray:
        edited = super().edit(task)
        state = self.state(task)
        owed = state.owed if task.index else edited[:0]
        return np.concatenate((owed, edited))[: None if task.last else -1]

    def stage(self, name: str, batch: Sequence[WindowTask]) -> None:
        super().stage(name, batch)
        if name == "commit":
            for task in batch:
                self.state(task).owed = task.source[-1:] + np.uint8(1)

    def snapshot(self, session: object) -> bytes:
        assert isinstance(session, Tally)
        return super().snapshot(session) + session.owed.tobytes()

    def restore(self, options: SessionOptions, snapshot: bytes) -> object:
        copy = super().restore(options, snapshot[:2])
        assert isinstance(copy, Tally)
        if len(snapshot) > 2:
            copy.owed = np.frombuffer(snapshot[2:], np.uint8).reshape(1, 72, 64)
        return copy


class OwesForEver(Owes):
    def edit(self, task: WindowTask) -> np.ndarray:
        task.last = False
        return super().edit(task)


class ForgetsWhatItOwes(Owes):
    def restore(self, options: SessionOptions, snapshot: bytes) -> object:
        copy = super().restore(options, snapshot)
        assert isinstance(copy, Tally)
        copy.owed = np.zeros_like(copy.owed) if copy.windows else copy.owed
        return copy


class CountsBeforeItFails(Sound):
    def edit(self, task: WindowTask) -> np.ndarray:
        self.state(task).windows += 1
        result = super().edit(task)
        self.state(task).windows -= 1
        return result


class SwallowsFailures(Sound):
    def edit(self, task: WindowTask) -> np.ndarray:
        try:
            return super().edit(task)
        except ValueError:
            return task.source


FAULTS: list[tuple[Callable[[Model], None], type[Sound]]] = [
    (checks.check_geometry, declares(name="Sound Model")),
    (checks.check_geometry, declares(width=63)),
    (checks.check_geometry, declares(stages=(Stage("paint", 1),))),
    (checks.check_geometry, declares(stages=(Stage("decode", 1), Stage("generate", 1)))),
    (checks.check_geometry, declares(stages=(Stage("generate", 1, off_latency_path=True),))),
    (checks.check_geometry, declares(geometry=Geometry(4, 8, 8))),
    (checks.check_geometry, declares(max_batch=0)),
    (checks.check_geometry, declares(commands=("start", "dance"))),
    (checks.check_geometry, declares(commands=("start", "start"))),
    (checks.check_geometry, declares(degraded_rates=(1 / 2, 2 / 3))),
    (checks.check_geometry, declares(degraded_rates=(1.0,))),
    (checks.check_results, OneFrameShort),
    (checks.check_results, Floats),
    (checks.check_results, HandsBackTheSource),
    (checks.check_results, EditsTooLate),
    (checks.check_determinism, CountsOverAll),
    (checks.check_sessions_are_independent, SharesState),
    (checks.check_batch_equals_alone, DependsOnItsPlace),
    (checks.check_batch_equals_alone, WorseInBatches),
    (checks.check_batch_equals_alone, RestoresForOtherBatches),
    (checks.check_begins_anew, GoesOnWithItsState),
    (checks.check_geometry, declares(degraded_steps=(FewerSteps(0, 1.0),))),
    (checks.check_geometry, declares(degraded_steps=(FewerSteps(1, 3.0),))),
    (checks.check_geometry, declares(degraded_steps=(FewerSteps(1, 1.0), FewerSteps(1, 0.5)))),
    (checks.check_fewer_steps, KnowsNoSteps),
    (checks.check_fewer_steps, KeepsItsSteps),
    (checks.check_transitions, KnowsNoMixtures),
    (checks.check_transitions, KeepsItsMixture),
    (checks.check_geometry, declares(geometry=Geometry(5, 4, 4, lag=5))),
    (checks.check_results, declares(geometry=Geometry(5, 4, 4, lag=2))),
    (checks.check_results, OwesForEver),
    (checks.check_snapshot, ForgetsWhatItOwes),
    (checks.check_snapshot, ForgetsInSnapshots),
    (checks.check_snapshot, ChangesWithSnapshots),
    (checks.check_snapshot, ForgetsJumps),
    (checks.check_fork, RestoresOnceOnly),
    (checks.check_fork, NamesItsSessions),
    (checks.check_foreign_snapshot, TakesAnySnapshot),
    (checks.check_failure_is_atomic, CountsBeforeItFails),
    (checks.check_failure_is_atomic, SwallowsFailures),
]


@pytest.mark.parametrize("model", [Sound, Owes])
def test_a_sound_model_passes(model: type[Sound]) -> None:
    check_all(model())


@pytest.mark.parametrize(
    ("check", "faulty"), FAULTS, ids=[f"{c.__name__}-{f.__name__}" for c, f in FAULTS]
)
def test_a_fault_is_found_and_explained(
    check: Callable[[Model], None], faulty: type[Sound]
) -> None:
    with pytest.raises(checks.ConformanceError, match=r"\w+ \w+"):
        check(faulty())


def test_runs_give_the_windows_of_the_engine() -> None:
    run = Run(Sound())
    sizes = []
    for _ in range(3):
        task = run.task()
        sizes.append((task.index, task.first_frame, len(task.source)))
        run.advance()
    assert sizes == [(0, 0, 5), (1, 5, 4), (2, 9, 4)]
    run.begin_again()
    assert (run.task().run, run.task().first_frame) == (2, 0)
