"""Token buckets by key, of which so many are remembered. Pure.

A bucket holds at most `burst` tokens and gains `rate` of them a second; a call takes one. A
bucket that was not used for long is full, so nothing is lost by forgetting it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

MOST_BUCKETS: Final = 16_384
"""Buckets of one kind; of more those are forgotten first that were used longest ago."""
_ROUNDING_S: Final = 1e-6
"""A wait that is no longer comes of the sum of many parts of seconds."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How often something may happen."""

    per_second: float
    """On average; above 0."""
    burst: int
    """At once, after a pause; 1 or more."""


class Buckets:
    """The buckets of one kind.

    Args:
        rate: That of every bucket.
        most: How many are remembered.
    """

    def __init__(self, rate: Rate, most: int = MOST_BUCKETS) -> None:
        self._rate = rate
        self._most = most
        self._full_at: OrderedDict[str, float] = OrderedDict()
        """When each will be full again."""

    def __len__(self) -> int:
        """Returns how many are remembered."""
        return len(self._full_at)

    def wait_s(self, key: str, now: float) -> float:
        """Returns how long until a bucket has a token; 0: it has one.

        Args:
            key: Whose.
            now: Any clock that goes forward, in seconds.
        """
        full_at = self._full_at.get(key)
        if full_at is None:
            return 0.0
        # A token short of full for each part of a second that it is away from it.
        earliest = full_at - (self._rate.burst - 1) / self._rate.per_second
        wait_s = earliest - now
        return wait_s if wait_s > _ROUNDING_S else 0.0

    def take(self, key: str, now: float) -> float:
        """Takes a token, if there is one; returns how long until there is, 0 if it was taken.

        Args:
            key: Whose bucket.
            now: Any clock that goes forward, in seconds.
        """
        wait_s = self.wait_s(key, now)
        if wait_s > 0:
            self._full_at.move_to_end(key)
            return wait_s
        full_at = max(now, self._full_at.pop(key, now)) + 1 / self._rate.per_second
        self._full_at[key] = full_at
        if len(self._full_at) > self._most:
            self._full_at.popitem(last=False)
        return 0.0
