"""How many actors there should be, and which come and go for it. Pure; times in seconds.

One policy for the product (`scheduler.supervision`) and the simulator. Out at once, in late:
an actor is started when it is wanted, and given back when so many were not needed at any moment
of the last minutes. What is given back has not begun to serve, or is emptied first.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

_KeyT = TypeVar("_KeyT")


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """Bounds and patience."""

    least: int = 1
    """Actors that are kept whatever the demand."""
    most: int = 1_000_000
    """Actors that are never exceeded."""
    shrink_after: float = 300.0
    """How long fewer actors must have been enough before one is given back."""
    spare_share: float = 0.0
    """Actors of a model beyond those wanted, as a share of them. What the pool wants has its
    reserve for sessions that come back already."""
    spare: int = 0
    """And at least so many of them."""
    start_at_once: int = 64
    """Most actors of a model that start at the same time."""


class Highest:
    """The highest of the values of the last seconds.

    Args:
        span: How many seconds.
    """

    def __init__(self, span: float) -> None:
        self._span = span
        self._falling: deque[tuple[float, int]] = deque()
        """Times and values of the span, each smaller than all before it."""

    def push(self, value: int, now: float) -> int:
        """Takes in a value; returns the highest of the span. Time never goes back."""
        falling = self._falling
        while falling and falling[-1][1] <= value:
            falling.pop()
        falling.append((now, value))
        while len(falling) > 1 and falling[0][0] <= now - self._span:
            falling.popleft()
        return falling[0][1]


class Scaler:
    """Follows the demand, by model: a dip ends no actor that would be started again.

    Args:
        rules: Bounds and patience.
        default: The model of those that are kept whatever the demand.
    """

    def __init__(self, rules: ScalingRules, default: str) -> None:
        self._rules = rules
        self._default = default
        self._highest: dict[str, Highest] = {}

    def begin(self, running: Mapping[str, int], now: float) -> None:
        """Counts what runs already as needed until now."""
        for model, actors in running.items():
            self._push(model, actors, now)

    def goals(
        self, wanted: Mapping[str, int], running: Mapping[str, int], now: float
    ) -> dict[str, int]:
        """Returns how many actors of each model there should be.

        Args:
            wanted: What the demand needs now.
            running: What there is, with what starts: no fewer than are wanted, and no more than
                were wanted at any moment of the last while.
            now: The time; never earlier than before.
        """
        wanted = {model: actors + self._spare(actors) for model, actors in wanted.items()}
        short = self._rules.least - sum(wanted.values())
        if short > 0:
            wanted[self._default] = wanted.get(self._default, 0) + short
        goals = {}
        for model in dict.fromkeys((*wanted, *self._highest)):
            least = wanted.get(model, 0)
            most = self._push(model, least, now)
            goals[model] = min(max(running.get(model, 0), least), most)
        return share_out(self._rules.most, running, goals)

    def _spare(self, wanted: int) -> int:
        return max(self._rules.spare, math.ceil(self._rules.spare_share * wanted))

    def _push(self, model: str, actors: int, now: float) -> int:
        highest = self._highest.setdefault(model, Highest(self._rules.shrink_after))
        return highest.push(actors, now)


def share_out(room: int, running: Mapping[str, int], goals: Mapping[str, int]) -> dict[str, int]:
    """Returns goals that fit into the room: what runs goes before what is to come, and of both
    the model with the most gives, and the one that lacks most gets.

    Args:
        room: Actors that there is room for in all.
        running: How many run of each model.
        goals: How many there should be.
    """
    shared = {model: min(running.get(model, 0), goal) for model, goal in goals.items()}
    total, room = sum(shared.values()), min(room, sum(goals.values()))
    while total > room:
        shared[max(shared, key=shared.__getitem__)] -= 1
        total -= 1
    while total < room:
        shared[max(shared, key=lambda model: goals[model] - shared[model])] += 1
        total += 1
    return shared


class Stage(enum.Enum):
    """How far an actor has come."""

    STARTING = enum.auto()
    """Not yet of use: given up without a loss."""
    SERVING = enum.auto()
    BOUND = enum.auto()
    """It counts, and is left alone."""
    SHED = enum.auto()
    """It is emptied because it was one too many: taken back when it is not."""


class Standing(NamedTuple, Generic[_KeyT]):
    """An actor, or a place for one, as scaling sees it."""

    key: _KeyT
    stage: Stage
    use: tuple[int, ...] = ()
    """Of several that serve the least goes first."""


class Changes(NamedTuple, Generic[_KeyT]):
    """What is to be done."""

    start: int = 0
    keep: tuple[_KeyT, ...] = ()
    """Take these back into service that are being emptied."""
    drop: tuple[_KeyT, ...] = ()
    """Give these up that have not begun to serve."""
    shed: tuple[_KeyT, ...] = ()
    """Empty these, then end them."""


def fit(goal: int, standings: Sequence[Standing[_KeyT]], most_starting: int) -> Changes[_KeyT]:
    """Returns what makes of the actors of a model as many as there should be.

    Args:
        goal: How many.
        standings: Those that there are; the oldest first.
        most_starting: How many may start at the same time.
    """
    at = {stage: [each for each in standings if each.stage is stage] for stage in Stage}
    starting, serving, shed = at[Stage.STARTING], at[Stage.SERVING], at[Stage.SHED]
    lack = goal - len(starting) - len(serving) - len(at[Stage.BOUND])
    if lack >= 0:
        kept = sorted(shed, key=_use, reverse=True)[:lack]
        start = min(lack - len(kept), max(0, most_starting - len(starting)))
        return Changes(start, keep=_keys(kept))
    dropped = starting[lack:]
    least = sorted(serving, key=_use)[: -lack - len(dropped)]
    return Changes(drop=_keys(dropped), shed=_keys(least))


def _use(standing: Standing[_KeyT]) -> tuple[int, ...]:
    return standing.use


def _keys(standings: Sequence[Standing[_KeyT]]) -> tuple[_KeyT, ...]:
    return tuple(standing.key for standing in standings)
