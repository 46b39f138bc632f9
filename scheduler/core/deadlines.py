"""When something has to be looked at: a heap of deadlines that are moved more often than met."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from typing import Generic, TypeVar

_KeyT = TypeVar("_KeyT")


class Deadlines(Generic[_KeyT]):
    """One deadline per key.

    A deadline that is put off leaves its entry in the heap, and is put back at its true time
    when that entry comes up: a sign of life twice a second costs one assignment.
    """

    def __init__(self) -> None:
        self._at: dict[_KeyT, float] = {}
        self._entered: dict[_KeyT, float] = {}
        """Time of a key's earliest entry in the heap."""
        self._heap: list[tuple[float, int, _KeyT]] = []
        self._order = itertools.count()

    def set(self, key: _KeyT, at: float) -> None:
        """Sets or moves the deadline of a key."""
        self._at[key] = at
        entered = self._entered.get(key)
        if entered is None or at < entered:
            self._enter(key, at)

    def bring_forward(self, key: _KeyT, at: float) -> None:
        """Sets the deadline of a key, unless it has an earlier one."""
        known = self._at.get(key)
        if known is None or at < known:
            self.set(key, at)

    def is_due(self, now: float) -> bool:
        """Tells whether `due` may have something to yield."""
        return bool(self._heap) and self._heap[0][0] <= now

    def clear(self, key: _KeyT) -> None:
        """Removes the deadline of a key, if it has one."""
        self._at.pop(key, None)

    def get(self, key: _KeyT) -> float | None:
        """Returns the deadline of a key."""
        return self._at.get(key)

    def next(self) -> float | None:
        """Returns the earliest deadline."""
        self._settle()
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Iterator[_KeyT]:
        """Removes and yields the keys whose deadline has come, in order of time."""
        while self._heap and self._heap[0][0] <= now:
            self._settle()
            if not self._heap or self._heap[0][0] > now:
                return
            _, _, key = heapq.heappop(self._heap)
            del self._at[key], self._entered[key]
            yield key

    def _enter(self, key: _KeyT, at: float) -> None:
        self._entered[key] = at
        heapq.heappush(self._heap, (at, next(self._order), key))

    def _settle(self) -> None:
        """Makes the first entry a true one."""
        while self._heap:
            at, _, key = self._heap[0]
            if self._entered.get(key) == at and self._at.get(key) == at:
                return
            heapq.heappop(self._heap)
            if self._entered.get(key) != at:
                continue
            del self._entered[key]
            if key in self._at:
                self._enter(key, self._at[key])
