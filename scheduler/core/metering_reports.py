"""Reports that are told until they are known to be kept.

The scheduler writes usage down once a second and then says up to which of our messages it has
done so. What was told before that and is not confirmed is told again to the next scheduler:
reports hold the whole of what is known, so repeating one changes nothing.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

MOST_WAITING = 16_384
"""Reports that may wait, one a session and term: past it the oldest is dropped. As long as the
session goes on, the next report says what it said."""
AT_ONCE = 256
"""Reports in one message."""

_KeyT = TypeVar("_KeyT", bound=Hashable)
_ReportT = TypeVar("_ReportT")


class UnkeptReports(Generic[_KeyT, _ReportT]):
    """Reports by what they are of; a newer one takes the place of an older one."""

    def __init__(self) -> None:
        self._waiting: dict[_KeyT, _ReportT] = {}
        self._told: dict[_KeyT, tuple[int, _ReportT]] = {}
        self._number = 0
        self.dropped = 0
        """Reports that were dropped."""

    def put(self, key: _KeyT, report: _ReportT) -> None:
        """Says what is known now."""
        self._waiting.pop(key, None)
        self._waiting[key] = report
        if len(self._waiting) > MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]
            self.dropped += 1

    def take(self) -> tuple[int, list[_ReportT]]:
        """Returns the reports for the next message, and its number; none: there is no need."""
        if not self._waiting:
            return 0, []
        self._number += 1
        keys = list(self._waiting)[:AT_ONCE]
        reports = []
        for key in keys:
            report = self._waiting.pop(key)
            self._told[key] = (self._number, report)
            reports.append(report)
        return self._number, reports

    def kept(self, number: int) -> None:
        """All messages up to a number are kept."""
        for key in [key for key, (told, _) in self._told.items() if told <= number]:
            del self._told[key]

    def again(self) -> None:
        """Whoever was told is gone: what is not kept is told anew, but for what is newer."""
        told, self._told = self._told, {}
        for key, (_, report) in told.items():
            if key not in self._waiting:
                self.put(key, report)

    @property
    def is_settled(self) -> bool:
        """Whether all is kept."""
        return not (self._waiting or self._told)
