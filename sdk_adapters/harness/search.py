"""The largest number of sessions that holds, where a trial costs a minute and may be wrong. Pure.

First up from a guess in growing steps until a number fails, then by halves between what held
and what failed, one trial each. Then the two neighbours on either side of the limit are
tried until a majority of some repeats says what they are; if that overturns one, the search
goes on from there. All trials are remembered, so that a search can be taken up again, and no
number is tried more often than the repeats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

DOUBLING: Final = 4
"""The first step up from a guess is this part of it."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How to search."""

    guess: int = 1
    """Where to begin, at least 1."""
    most: int = 4096
    """No more sessions than these are tried."""
    repeats: int = 3
    """A number is tried so often at most."""
    needed: int = 2
    """So often it has to hold of these; more than half, or the answer is a matter of luck."""
    runs: int = 60
    """Trials of a search at most; without an answer until then, what is known is told."""

    def __post_init__(self) -> None:
        if not (self.repeats / 2 < self.needed <= self.repeats):
            raise ValueError("a number holds if it does so in more than half of the repeats")
        if not 1 <= self.guess <= self.most:
            raise ValueError("the guess lies between 1 and the most that is tried")

    @property
    def step(self) -> int:
        """The first step away from the guess."""
        return max(1, self.guess // DOUBLING)


@dataclass(slots=True)
class Tally:
    """What came of one number."""

    held: int = 0
    failed: int = 0

    @property
    def runs(self) -> int:
        """How often it was tried."""
        return self.held + self.failed

    def settled(self, rules: Rules) -> bool | None:
        """Whether it holds; None while further repeats may change that."""
        if self.held >= rules.needed:
            return True
        return False if self.failed > rules.repeats - rules.needed else None

    def leans(self, rules: Rules) -> bool:
        """Whether it holds, as far as is known; in doubt it does not."""
        settled = self.settled(rules)
        return self.held > self.failed if settled is None else settled


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The answer."""

    sessions: int
    """The most that hold; 0: not even one."""
    failing: int | None
    """The fewest that do not; None: none was found, the answer is a lower bound."""
    confirmed: bool
    """Whether both stand by a majority of repeats, and are neighbours."""
    why: str
    """Why the search ended."""
    tallies: Mapping[int, Tally] = field(default_factory=dict)
    """By number."""

    @property
    def interval(self) -> tuple[int, int | None]:
        """The limit lies from the one, included, to the other, not included."""
        return self.sessions, self.failing


def tallied(trials: Iterable[tuple[int, bool]]) -> dict[int, Tally]:
    """Returns what came of each number.

    Args:
        trials: Numbers, and whether they held.
    """
    tallies: dict[int, Tally] = {}
    for sessions, held in trials:
        tally = tallies.setdefault(sessions, Tally())
        tally.held += held
        tally.failed += not held
    return tallies


def bounds(tallies: Mapping[int, Tally], rules: Rules) -> tuple[int, int | None]:
    """Returns the largest number that holds below the smallest that fails, and that one.

    Args:
        tallies: What is known.
        rules: Of the search.
    """
    failing = min((each for each, tally in tallies.items() if not tally.leans(rules)), default=None)
    below = (each for each in tallies if failing is None or each < failing)
    return max(below, default=0), failing


def step(tallies: Mapping[int, Tally], rules: Rules) -> int | Found:
    """Returns the number to try next, or the answer.

    Args:
        tallies: What is known.
        rules: Of the search.
    """
    holding, failing = bounds(tallies, rules)
    if failing is None and holding < rules.most:
        wanted: int | None = _up(holding, rules)
    elif failing is not None and failing - holding > 1:
        wanted = _between(holding, failing, rules)
    else:
        wanted = _unsettled(holding, failing, tallies, rules)
    runs = sum(tally.runs for tally in tallies.values())
    if wanted is not None and runs < rules.runs:
        return wanted
    if wanted is not None:
        return Found(
            sessions=holding,
            failing=failing,
            confirmed=False,
            why=f"{runs} runs were made",
            tallies=tallies,
        )
    if failing is None:
        why = f"{holding} sessions hold: no more are tried"
        return Found(sessions=holding, failing=None, confirmed=False, why=why, tallies=tallies)
    why = "both neighbours are settled"
    return Found(sessions=holding, failing=failing, confirmed=True, why=why, tallies=tallies)


def _up(holding: int, rules: Rules) -> int:
    """Nothing failed yet: further, in steps that double."""
    if not holding:
        return rules.guess
    ahead = rules.step
    while rules.guess + ahead <= holding:
        ahead = 2 * ahead + rules.step
    return min(rules.most, rules.guess + ahead)


def _between(holding: int, failing: int, rules: Rules) -> int:
    """Halves; while nothing held, no further down from the guess than the way up would be."""
    middle = (holding + failing) // 2
    return middle if holding else max(middle, failing - rules.step)


def _unsettled(
    holding: int, failing: int | None, tallies: Mapping[int, Tally], rules: Rules
) -> int | None:
    """Returns which of the neighbours to try again, that which was tried less; None: neither."""
    pair = [each for each in (holding, failing) if each]
    open_ = [each for each in pair if tallies[each].settled(rules) is None]
    return min(open_, key=lambda each: (tallies[each].runs, each), default=None)
