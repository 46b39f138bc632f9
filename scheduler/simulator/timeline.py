"""Virtual time: what is to happen, in order."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

Action = Callable[..., None]


class Timeline:
    """Future happenings. Of equal times, what was put in first happens first."""

    def __init__(self, begin: float) -> None:
        self.now = begin
        self._heap: list[tuple[float, int, Action, tuple[Any, ...]]] = []
        self._numbers = count()

    def at(self, time: float, action: Action, *arguments: object) -> None:
        """Calls `action(*arguments)` at a time, which is not before now."""
        heapq.heappush(self._heap, (max(time, self.now), next(self._numbers), action, arguments))

    def after(self, seconds: float, action: Action, *arguments: object) -> None:
        """Calls `action(*arguments)` so many seconds from now."""
        heapq.heappush(self._heap, (self.now + seconds, next(self._numbers), action, arguments))

    def next(self, end: float) -> tuple[Action, tuple[Any, ...]] | None:
        """Goes on to the next happening; None, at the end, when there is none before it."""
        if not self._heap or self._heap[0][0] > end:
            self.now = end
            return None
        self.now, _, action, arguments = heapq.heappop(self._heap)
        return action, arguments
