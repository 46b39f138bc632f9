"""Quotas: how much somebody may use of the service in a time, and how much was used. Pure.

A *subject* is whoever uses is counted for: a tenant (`tenant:acme`), an API key (`key:web`), a
token or a user of an identity provider. A session is counted for all of its subjects, and each
may have limits of its own. Sessions at once are `scheduler.core.tenants`'; here is what adds up
over time: sessions created in a minute, time streamed in a day and a month, bytes uploaded. What
was used is counted in `scheduler.core.usage`.

Days and months are those of UTC, so all functions take `wall`, seconds since 1970.
"""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

MINUTE_S: Final = 60.0
DAY_S: Final = 86_400.0
MOST_A_MINUTE: Final = 10_000
"""Largest quota of sessions a minute: so many moments are remembered of a subject."""
MOST_SUBJECTS: Final = 100_000
"""Subjects of one tally; of more those are forgotten first that were counted for longest ago."""


@dataclass(frozen=True, slots=True)
class Quotas:
    """What a subject may use. The names are those that people configure and are told."""

    sessions_per_minute: int | None = None
    """Sessions created in any 60 s, copies included."""
    streamed_per_day: float | None = None
    """Seconds that its sessions hold a place on a GPU in a day, added up."""
    streamed_per_month: float | None = None
    """The same of a month."""
    uploads_per_session: int | None = None
    """Announced bytes of all uploads of one session."""
    uploads_per_day: int | None = None
    """Announced bytes of all uploads in a day."""
    stored: int | None = None
    """Announced bytes of the uploads of all sessions that have not ended."""

    def within(self, other: Quotas) -> Quotas:
        """Returns of each quota the smaller one."""
        both = {
            each.name: [
                most for quotas in (self, other) if (most := getattr(quotas, each.name)) is not None
            ]
            for each in fields(Quotas)
        }
        return Quotas(**{name: min(most) for name, most in both.items() if most})

    @property
    def limits_streaming(self) -> bool:
        """Whether streamed time is limited."""
        return self.streamed_per_day is not None or self.streamed_per_month is not None


NO_QUOTAS: Final = Quotas()
Subjects = Mapping[str, Quotas]
"""Everybody that a session is counted for, and what each may use."""


def day_of(wall: float) -> str:
    """Returns the name of a day."""
    return dt.datetime.fromtimestamp(wall, dt.UTC).strftime("%Y-%m-%d")


def month_of(wall: float) -> str:
    """Returns the name of a month."""
    return dt.datetime.fromtimestamp(wall, dt.UTC).strftime("%Y-%m")


def day_begins(wall: float) -> float:
    """Returns when the day began."""
    return wall - wall % DAY_S


def month_begins(wall: float) -> float:
    """Returns when the month began."""
    now = dt.datetime.fromtimestamp(wall, dt.UTC)
    return dt.datetime(now.year, now.month, 1, tzinfo=dt.UTC).timestamp()


def month_ends(wall: float) -> float:
    """Returns when the next month begins."""
    now = dt.datetime.fromtimestamp(wall, dt.UTC)
    year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)
    return dt.datetime(year, month, 1, tzinfo=dt.UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Period:
    """A time that quotas are for."""

    name: str
    """As people call it."""
    of: Callable[[float], str]
    """Names the one that a moment is in."""
    begins: Callable[[float], float]
    ends: Callable[[float], float]


DAY: Final = Period("day", day_of, day_begins, lambda wall: day_begins(wall) + DAY_S)
MONTH: Final = Period("month", month_of, month_begins, month_ends)


class Tally:
    """Sums by subject within one period; a new period begins with none.

    Args:
        period: Which.
    """

    def __init__(self, period: Period) -> None:
        self.period = period
        self._name = ""
        self._sums: OrderedDict[str, float] = OrderedDict()

    def of(self, subject: str, wall: float) -> float:
        """Returns what was added for a subject in the present period."""
        return self._sums.get(subject, 0.0) if self._name == self.period.of(wall) else 0.0

    def add(self, subject: str, amount: float, wall: float) -> None:
        """Adds to what a subject used."""
        name = self.period.of(wall)
        if name != self._name:
            self._name = name
            self._sums.clear()
        self._sums[subject] = self._sums.pop(subject, 0.0) + amount
        if len(self._sums) > MOST_SUBJECTS:
            self._sums.popitem(last=False)

    def dump(self) -> dict[str, Any]:
        """Returns the sums as plain data."""
        return {"period": self._name, "sums": dict(self._sums)}

    def load(self, kept: Mapping[str, Any]) -> None:
        """Takes up what `dump` returned; those of another period are dropped when it shows.

        Raises:
            ValueError: It has another form.
        """
        name, sums = kept.get("period"), kept.get("sums")
        if not isinstance(name, str) or not isinstance(sums, dict):
            raise ValueError("a tally has a period and sums")  # noqa: TRY004 - what the file's reader expects
        if not all(_is_amount(amount) for amount in sums.values()):
            raise ValueError("a sum is a number of 0 or more")
        self._name = name
        self._sums = OrderedDict((str(subject), float(each)) for subject, each in sums.items())


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e18


class Rates:
    """Sessions created in the last minute, by subject, exactly."""

    def __init__(self) -> None:
        self._made: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_s(self, subject: str, most: int, now: float) -> float:
        """Returns how long until a subject may create a session; 0: it may now.

        Args:
            subject: Who.
            most: How many a minute.
            now: Any clock that goes forward, in seconds.
        """
        made = self._recent(subject, now)
        return made[-most] + MINUTE_S - now if len(made) >= most else 0.0

    def add(self, subject: str, now: float) -> None:
        """Counts a session."""
        made = self._recent(subject, now)
        made.append(now)
        if len(made) > MOST_A_MINUTE:
            made.popleft()
        self._made[subject] = made
        self._made.move_to_end(subject)
        oldest = next(iter(self._made))
        if self._made[oldest][-1] <= now - MINUTE_S or len(self._made) > MOST_SUBJECTS:
            del self._made[oldest]

    def __len__(self) -> int:
        """Returns how many subjects are remembered."""
        return len(self._made)

    def _recent(self, subject: str, now: float) -> deque[float]:
        made = self._made.get(subject, deque[float]())
        while made and made[0] <= now - MINUTE_S:
            made.popleft()
        if not made:
            self._made.pop(subject, None)
        return made
