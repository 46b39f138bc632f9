"""Each rule of the kit is broken by a plugin that breaks this one alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from model_actor.conformance import RULES, Outcome, Subject, Verdict, chosen, examine
from model_actor.conformance.measuring import UNMEASURED_BYTES, used_bytes
from model_actor.plugin import ModelInfo, SessionOptions, Stage, WindowTask
from scheduler.core.errors import PluginError
from tests.unit.model_actor.sound_model import Sound, Tally

pytestmark = pytest.mark.unit

COST_MS = 100.0


class Timed(Sound):
    """Takes the time that it declares, on a clock that the test holds."""

    info: ClassVar[ModelInfo] = replace(
        Sound.info,
        stages=(
            Stage("encode", 0.2 * COST_MS),
            Stage("generate", 0.7 * COST_MS),
            Stage("commit", 0.1 * COST_MS, off_latency_path=True),
        ),
        degraded_steps=(replace(Sound.info.degraded_steps[0], chunk_ms=0.6 * COST_MS),),
        session_bytes=1000,
    )
    now: ClassVar[float] = 0.0
    factor: ClassVar[float] = 1.0
    """Times the declared time that it takes."""

    def stage(self, name: str, batch: Sequence[WindowTask]) -> None:
        super().stage(name, batch)
        share = 0.6 if batch[0].steps else 1.0
        cost = next(each.cost_ms for each in self.info.stages if each.name == name)
        Timed.now += self.factor * share * cost / 1000


class OneFrameShort(Timed):
    def edit(self, task: WindowTask) -> np.ndarray:
        return super().edit(task)[1:]


class GoesOnFromTheRunBefore(Timed):
    """Does not begin a second run anew."""

    def edit(self, task: WindowTask) -> np.ndarray:
        state = self.state(task)
        kept = state.windows if task.index == 0 and state.run not in (0, task.run) else 0
        return super().edit(task) + np.uint8(kept)


class WorseInBatches(Timed):
    def stage(self, name: str, batch: Sequence[WindowTask]) -> None:
        super().stage(name, batch)
        for task in batch:
            if name == "generate" and task.result is not None and len(batch) > 1:
                task.result = task.result + np.uint8(9)


class ForgetsJumps(Timed):
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


class CountsBeforeItFails(Timed):
    def edit(self, task: WindowTask) -> np.ndarray:
        self.state(task).windows += 1
        result = super().edit(task)
        self.state(task).windows -= 1
        return result


class Hoards(Timed):
    """Keeps more of each session than it declares, and does not tell in its snapshots."""

    def open(self, options: SessionOptions) -> object:
        return self.kept(super().open(options))

    def restore(self, options: SessionOptions, snapshot: bytes) -> object:
        return self.kept(super().restore(options, snapshot))

    @staticmethod
    def kept(state: object) -> object:
        assert isinstance(state, Tally)
        # In a part of the state that is not looked at.
        state.owed = np.ones((UNMEASURED_BYTES, 1, 1), np.uint8)
        return state


class HeavyWeights(Timed):
    def load(self) -> None:
        self.weights = np.ones(3 * UNMEASURED_BYTES, np.uint8)


class Dawdles(Timed):
    factor = 1.6


class OverInNoTime(Timed):
    factor = 0.2


class HurriesOnlyWithAllSteps(Timed):
    def stage(self, name: str, batch: Sequence[WindowTask]) -> None:
        super().stage(name, batch)
        Timed.now += 0.05 if batch[0].steps else 0.0


BROKEN: list[tuple[str, type[Timed], str]] = [
    ("geometry", OneFrameShort, r"shape \(5, 72, 64\), not \(4, 72, 64\)"),
    ("determinism", GoesOnFromTheRunBefore, "a run that is begun again"),
    ("batching", WorseInBatches, "a batch of 2 are alike to 45 dB"),
    ("snapshots", ForgetsJumps, "after a jump|before a jump"),
    ("failures", CountsBeforeItFails, "leaves every session as it was"),
    ("memory", Hoards, r"a session takes .* declare session_bytes=\d"),
    ("memory", HeavyWeights, r"the loaded model takes .* declare weights_bytes=\d"),
    ("time", Dawdles, "declared 100.0 ms on this machine; it takes 160.0 ms"),
    ("time", OverInNoTime, "it takes 20.0 ms"),
    ("time", HurriesOnlyWithAllSteps, "one with 3 steps takes"),
]


def subject(kind: type[Timed]) -> Subject:
    model = kind()
    model.load()
    return Subject(model, kind, clock=lambda: Timed.now)


def held(kind: type[Timed]) -> dict[str, Outcome]:
    return {each.rule.name: each for each in examine(subject(kind))}


def test_a_sound_model_keeps_to_every_rule() -> None:
    found = held(Timed)
    assert [each for each in found.values() if each.verdict is not Verdict.PASSED] == []
    assert "of 100.0 declared" in found["time"].told
    assert "one with 3 steps takes 60.0 ms" in found["time"].told
    assert found["memory"].told.startswith("model ")


@pytest.mark.parametrize(
    ("rule", "kind", "why"), BROKEN, ids=[each.__name__ for _, each, _ in BROKEN]
)
def test_a_broken_plugin_breaks_this_rule_alone(rule: str, kind: type[Timed], why: str) -> None:
    found = held(kind)
    failed = [name for name, each in found.items() if each.verdict is Verdict.FAILED]
    assert failed == [rule]
    assert re.search(why, found[rule].told)


def test_every_rule_is_broken_by_somebody() -> None:
    assert {rule for rule, _, _ in BROKEN} == {rule.name for rule in RULES}


def test_an_exception_breaks_a_rule_and_hides_no_other() -> None:
    class Raises(Timed):
        def snapshot(self, session: object) -> bytes:
            raise KeyError("trail")

    found = held(Raises)
    assert found["snapshots"].verdict is Verdict.FAILED
    assert found["snapshots"].told.startswith("KeyError in test_conformance_rules.py:")
    assert found["geometry"].verdict is Verdict.PASSED
    assert list(found) == [rule.name for rule in RULES]


def test_what_a_machine_does_not_tell_is_skipped() -> None:
    model = Timed()
    unknown = Subject(model, Timed, used=lambda: None)
    (outcome,) = examine(unknown, chosen(["memory"]))
    assert outcome.verdict is Verdict.SKIPPED
    assert "does not tell" in outcome.told


def test_of_a_session_that_declares_nothing_its_snapshot_is_what_counts() -> None:
    class Silent(Timed):
        info = replace(Timed.info, session_bytes=0)

        def snapshot(self, session: object) -> bytes:
            return super().snapshot(session) + bytes(2 * UNMEASURED_BYTES)

    (outcome,) = examine(subject(Silent), chosen(["memory"]))
    assert outcome.verdict is Verdict.PASSED, outcome.told


def test_memory_that_was_given_back_does_not_count() -> None:
    before = used_bytes()
    kept = np.ones(4 * UNMEASURED_BYTES, np.uint8)
    while_kept = used_bytes()
    del kept
    after = used_bytes()
    if before is None or while_kept is None or after is None:
        pytest.skip("this machine does not tell")
    assert while_kept - before > 3 * UNMEASURED_BYTES
    assert while_kept - after > 3 * UNMEASURED_BYTES


def test_rules_are_chosen_by_name() -> None:
    assert [rule.name for rule in chosen(["time", "geometry"])] == ["geometry", "time"]
    assert chosen([]) == RULES
    with pytest.raises(PluginError, match="no rule 'speed'; there are geometry, "):
        chosen(["speed"])
