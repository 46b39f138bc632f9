"""The last entries of an endless list, for readers who come and go and may be slow.

Each reader keeps its own place, a number, so that none costs anything while it does not read:
whoever is too slow learns how much it has missed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Read(Generic[_T]):
    """What there is after some number."""

    entries: tuple[tuple[int, _T], ...]
    """Numbers and entries, in order."""
    lost_before: int | None = None
    """Number of the first entry that is kept, where the reader has missed others."""


class Ring(Generic[_T]):
    """Numbered entries, of which the last are kept.

    Args:
        limit: How many.
        begin: Numbers begin above it: above all that were given before, so that a reader of an
            earlier ring learns that it has missed something.
    """

    def __init__(self, limit: int, begin: int = 0) -> None:
        self._entries: list[_T] = []
        self._limit = limit
        self._begin = begin
        self.last = begin
        """Number of the newest entry; before the first one, what it begins above."""

    @property
    def first(self) -> int:
        """Number of the oldest entry that is kept; one above `last` while there is none."""
        return self.last - len(self._entries) + 1

    def add(self, entry: _T) -> int:
        """Adds an entry, in the place of the oldest where all places are taken; returns its
        number.
        """
        self.last += 1
        if len(self._entries) < self._limit:
            self._entries.append(entry)
        else:
            self._entries[self._place(self.last)] = entry
        return self.last

    def after(self, number: int, most: int) -> Read[_T]:
        """Returns entries after a number.

        A number that was not given yet is one of another ring: all that is kept comes after it.

        Args:
            number: Of the last entry that was read; 0: from the oldest on.
            most: How many at once.
        """
        begin, lost = number + 1, None
        if number > self.last or (number and begin < self.first):
            begin = lost = self.first
        begin = max(begin, self.first)
        end = min(begin + most, self.last + 1)
        return Read(tuple((n, self._entries[self._place(n)]) for n in range(begin, end)), lost)

    def newest_first(self) -> tuple[_T, ...]:
        """Returns all that is kept."""
        return tuple(self._entries[self._place(n)] for n in range(self.last, self.first - 1, -1))

    def _place(self, number: int) -> int:
        return (number - self._begin - 1) % self._limit
