"""The rules that every model plugin is held to, as a table, and one model held to them all."""

from __future__ import annotations

import enum
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from model_actor.conformance import checks, measuring
from model_actor.conformance.checks import ConformanceError
from model_actor.conformance.measuring import UnmeasurableError
from model_actor.plugin import Model
from scheduler.core.errors import PluginError


@dataclass(frozen=True, slots=True)
class Subject:
    """A model under examination, and what it is measured with."""

    model: Model
    """Loaded."""
    another: Callable[[], Model]
    """Makes another one, configured the same, not loaded."""
    clock: Callable[[], float] = time.perf_counter
    """Tells the time in seconds."""
    used: Callable[[], int | None] = measuring.used_bytes
    """Tells the memory in use."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Something that every model has to keep to."""

    name: str
    promise: str
    """What it says, in a sentence."""
    checks: tuple[Callable[[Model], None], ...] = ()
    """How it is found out, on a loaded model."""
    measure: Callable[[Subject], str] | None = None
    """The same for what depends on the machine; returns what was measured."""

    def hold(self, subject: Subject) -> str:
        """Holds a model to it.

        Returns:
            What there is to say; mostly nothing.

        Raises:
            ConformanceError: It does not keep to it.
            UnmeasurableError: This machine cannot tell.
        """
        for check in self.checks:
            check(subject.model)
        return self.measure(subject) if self.measure else ""


RULES: Final = (
    Rule(
        "geometry",
        "what is declared makes sense, and results have its shape",
        (checks.check_geometry, checks.check_results),
    ),
    Rule(
        "determinism",
        "the same source, seed and prompt give the same frames, whatever went before",
        (
            checks.check_determinism,
            checks.check_sessions_are_independent,
            checks.check_begins_anew,
            checks.check_fewer_steps,
            checks.check_transitions,
        ),
    ),
    Rule(
        "batching",
        "a window in a batch comes to what it comes to alone",
        (checks.check_batch_equals_alone,),
    ),
    Rule(
        "snapshots",
        "a restored session goes on bit by bit, and may be restored many times",
        (checks.check_snapshot, checks.check_fork, checks.check_foreign_snapshot),
    ),
    Rule(
        "failures",
        "a window that fails leaves every session of its batch as it was",
        (checks.check_failure_is_atomic,),
    ),
    Rule(
        "memory",
        "neither model nor sessions take more memory than declared",
        measure=lambda subject: measuring.check_memory(
            subject.model, subject.another, used=subject.used
        ),
    ),
    Rule(
        "time",
        "a window takes about the declared time",
        measure=lambda subject: measuring.check_time(subject.model, clock=subject.clock),
    ),
)
"""All rules; the last two depend on the machine."""

ALL_CHECKS: Final = tuple(check for rule in RULES for check in rule.checks)
"""All checks that do not depend on the machine."""


class Verdict(enum.Enum):
    """How a model stands to a rule."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    """It could not be found out here."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of holding a model to a rule."""

    rule: Rule
    verdict: Verdict
    told: str
    """Why, or what was measured; may be empty."""
    seconds: float = 0.0
    """That it took."""


def check_all(model: Model) -> None:
    """Holds a loaded model to all rules that do not depend on the machine.

    Raises:
        ConformanceError: The first that it does not keep to.
    """
    for check in ALL_CHECKS:
        check(model)


def examine(subject: Subject, rules: Sequence[Rule] = RULES) -> Iterator[Outcome]:
    """Holds a model to rules, one after the other; a broken one does not hide the next."""
    for rule in rules:
        began = time.perf_counter()
        outcome = _outcome(rule, subject)
        yield replace(outcome, seconds=time.perf_counter() - began)


def chosen(names: Sequence[str]) -> tuple[Rule, ...]:
    """Returns the rules of these names; all where there are none.

    Raises:
        PluginError: There is no such rule.
    """
    known = {rule.name: rule for rule in RULES}
    if unknown := sorted(set(names) - known.keys()):
        raise PluginError(f"there is no rule {unknown[0]!r}; there are {', '.join(known)}")
    return tuple(rule for rule in RULES if not names or rule.name in names)


def _outcome(rule: Rule, subject: Subject) -> Outcome:
    try:
        return Outcome(rule, Verdict.PASSED, rule.hold(subject))
    except ConformanceError as error:
        return Outcome(rule, Verdict.FAILED, str(error))
    except UnmeasurableError as error:
        return Outcome(rule, Verdict.SKIPPED, str(error))
    except Exception as error:  # a model may raise anything
        at = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(at.filename).name}:{at.lineno}"
        return Outcome(rule, Verdict.FAILED, f"{type(error).__name__} in {where}: {error}")
