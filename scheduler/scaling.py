"""How many actors to ask a cluster for that can grow and shrink. Pure; times in seconds."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """Bounds and patience."""

    least: int = 1
    """Actors that are kept whatever the demand."""
    most: int = 1_000_000
    """Actors that are never exceeded."""
    shrink_after: float = 300.0
    """How long fewer actors must have been enough before one is given back."""


class Scaler:
    """Grows at once, and shrinks to the most that was wanted for a while: a dip in the demand
    ends no actor that would be started again.

    Args:
        rules: Bounds and patience.
    """

    def __init__(self, rules: ScalingRules) -> None:
        self._rules = rules
        self._peaks: deque[tuple[float, int]] = deque()
        """Times and wishes of the window, each smaller than all before it."""

    def goal(self, wanted: int, now: float) -> int:
        """Returns how many actors there should be.

        Args:
            wanted: What the demand needs now.
            now: The time; never earlier than before.
        """
        wanted = min(max(wanted, self._rules.least), self._rules.most)
        while self._peaks and self._peaks[-1][1] <= wanted:
            self._peaks.pop()
        self._peaks.append((now, wanted))
        while len(self._peaks) > 1 and self._peaks[0][0] <= now - self._rules.shrink_after:
            self._peaks.popleft()
        return self._peaks[0][1]
