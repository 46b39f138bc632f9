"""What sessions have used: counted where it happens, told as often as one likes, added up once.

Nothing here is ever added to anything twice, because nothing is told as a difference. Who
counts tells the whole of what it knows, and `Account.merged` takes the larger of what was told
and what is known, of each of these:

* **What was shown** (`Tally`) is counted by the session itself, chunk by chunk, at the commit
  point: when a gateway has handed out a chunk's last frame. It is part of the control snapshot,
  so it goes where the session goes. It is kept run by run, and the numbers of runs grow: a
  session that goes on from an older snapshot counts the same chunks of the same run once more,
  and the larger count stands. A chunk that was computed twice is shown, and counted, once.
* **What was spent** and **what was carried** (`Carried`) is counted by whoever does it: an
  actor under its lease, a gateway while it takes part. Each such *term* has an owner and a
  number that grows; terms of different owners, or numbers, are different work and are summed.

So any order, any repetition and any loss but that of the last word of somebody who died give
the same sum. `Account` is bounded: old runs and terms are added up into one figure, after which
nothing more is heard of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

KEPT_RUNS = 8
"""Newest runs that are counted each by itself. A run in which nothing was shown is none."""
KEPT_ORIGINS = 4
"""Newest beginnings of counting that are kept each by itself."""
KEPT_TERMS = 4
"""Newest terms of one owner that are kept each by itself."""
MOST_OWNERS = 256
"""Owners of terms of one session. What others tell is not counted, rather than counted twice."""

HOUR_S = 3600
"""Length of the periods that usage is added up in, in seconds."""

ACTORS = "actors"
"""Owner of what actors have spent: one actor has a session under one epoch."""
PARKING = "parking"
"""Owner of the times that sessions were parked."""

_T = TypeVar("_T", "Shown", "Carried")


@dataclass(frozen=True, slots=True)
class Shown:
    """What was shown to the ends of chunks."""

    chunks: int = 0
    frames: int = 0
    streamed_us: int = 0
    """Time that the frames last at the model's own rate, in microseconds."""
    compute_us: int = 0
    """Time that the model took for them, in microseconds: of a batch of windows, each one's
    share; of a chunk that was computed more than once, one of these times."""


@dataclass(frozen=True, slots=True)
class Carried:
    """What was done for a session by somebody in one term."""

    spent_us: int = 0
    """Time that the model took for it, in microseconds, whatever became of the result."""
    bytes_out: int = 0
    """Encoded video handed to its viewers, each counted."""
    bytes_in: int = 0
    """Encoded video of its camera."""
    uploaded: int = 0
    """Bytes of its uploads."""
    parked_us: int = 0
    """Time that it was parked, in microseconds."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What was shown of a session since counting began."""

    origin: int = 0
    """Epoch of the lease under which it began. Another one where all knowledge of the session was
    lost, or where it is a copy: its runs are others, whatever their numbers."""
    floor: int = 0
    """Runs below this number are in `before`."""
    before: Shown = Shown()
    runs: Mapping[int, Shown] = field(default_factory=dict)
    """By number; at most `KEPT_RUNS`."""

    def counted(self, run: int, more: Shown) -> Tally:
        """Returns it with more of a run; of one below the floor nothing more is counted."""
        if run < self.floor:
            return self
        runs = {**self.runs, run: added((self.runs.get(run, Shown()), more), Shown)}
        return _folded(Tally(self.origin, self.floor, self.before, runs))

    def merged(self, other: Tally) -> Tally:
        """Returns what both together know. Both count from the same origin."""
        floor = max(self.floor, other.floor)
        ours, theirs = _raised(self, floor), _raised(other, floor)
        runs = {
            number: larger(ours.runs.get(number, Shown()), theirs.runs.get(number, Shown()))
            for number in ours.runs.keys() | theirs.runs.keys()
        }
        return _folded(Tally(self.origin, floor, larger(ours.before, theirs.before), runs))

    @property
    def total(self) -> Shown:
        """All of it."""
        return added((self.before, *self.runs.values()), Shown)


@dataclass(frozen=True, slots=True)
class Terms:
    """What one owner has done for a session, term by term."""

    floor: int = 0
    """Terms below this number are in `before`."""
    before: Carried = Carried()
    terms: Mapping[int, Carried] = field(default_factory=dict)
    """By number; at most `KEPT_TERMS`."""

    def merged(self, number: int, told: Carried) -> Terms:
        """Returns it with what was told of a term; of one below the floor all is known."""
        if number < self.floor:
            return self
        terms = {**self.terms, number: larger(self.terms.get(number, Carried()), told)}
        oldest = sorted(terms)[:-KEPT_TERMS]
        if not oldest:
            return Terms(self.floor, self.before, terms)
        before = added((self.before, *(terms.pop(each) for each in oldest)), Carried)
        return Terms(oldest[-1] + 1, before, terms)

    @property
    def total(self) -> Carried:
        """All of it."""
        return added((self.before, *self.terms.values()), Carried)


@dataclass(frozen=True, slots=True)
class Report:
    """What somebody knows of the usage of one session: all of it, not what is new."""

    session: str
    tenant: str
    model: str
    """Name of the model as the client asked for it."""
    tally: Tally | None = None
    """What was shown; None: not known."""
    owner: str = ""
    """Who tells of a term: a gateway, by its id; ACTORS; PARKING. Empty: nobody does."""
    term: int = 0
    """Its number. Of actors and of parking the epoch of the lease."""
    carried: Carried = Carried()

    def joined(self, other: Report | None) -> Report:
        """Returns what this and another report of the same term and origin say together."""
        if other is None:
            return self
        tally = self.tally or other.tally
        if self.tally is not None and other.tally is not None:
            tally = self.tally.merged(other.tally)
        return replace(self, tally=tally, carried=larger(self.carried, other.carried))


@dataclass(frozen=True, slots=True)
class Usage:
    """What a session or a tenant has used."""

    chunks: int = 0
    frames: int = 0
    streamed_us: int = 0
    compute_us: int = 0
    spent_us: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    uploaded: int = 0
    parked_us: int = 0

    def __add__(self, other: Usage) -> Usage:
        """Returns the sum."""
        return Usage(*(_each(self, name) + _each(other, name) for name in FIGURES))

    def __sub__(self, other: Usage) -> Usage:
        """Returns what came since an earlier one."""
        return Usage(*(_each(self, name) - _each(other, name) for name in FIGURES))

    def __bool__(self) -> bool:
        """Tells whether anything was used."""
        return any(_each(self, name) for name in FIGURES)


FIGURES = tuple(each.name for each in fields(Usage))
"""Names of the figures, in order."""


@dataclass(frozen=True, slots=True)
class Account:
    """What is known of the usage of one session."""

    origin_floor: int = 0
    """Tallies of origins below this are in `before`."""
    before: Shown = Shown()
    tallies: Mapping[int, Tally] = field(default_factory=dict)
    """By origin; at most `KEPT_ORIGINS`."""
    owners: Mapping[str, Terms] = field(default_factory=dict)
    """At most `MOST_OWNERS`."""

    def merged(self, report: Report) -> Account:
        """Returns it with what was told."""
        account = self if report.tally is None else self._with_tally(report.tally)
        if not report.owner:
            return account
        terms = account.owners.get(report.owner)
        if terms is None:
            if len(account.owners) >= MOST_OWNERS:
                return account
            terms = Terms()
        owners = {**account.owners, report.owner: terms.merged(report.term, report.carried)}
        return Account(account.origin_floor, account.before, account.tallies, owners)

    @property
    def total(self) -> Usage:
        """All of it."""
        shown = added((self.before, *(each.total for each in self.tallies.values())), Shown)
        done = added((each.total for each in self.owners.values()), Carried)
        return Usage(
            chunks=shown.chunks,
            frames=shown.frames,
            streamed_us=shown.streamed_us,
            compute_us=shown.compute_us,
            spent_us=done.spent_us,
            bytes_out=done.bytes_out,
            bytes_in=done.bytes_in,
            uploaded=done.uploaded,
            parked_us=done.parked_us,
        )

    def _with_tally(self, tally: Tally) -> Account:
        if tally.origin < self.origin_floor:
            return self
        known = self.tallies.get(tally.origin, Tally(tally.origin))
        tallies = {**self.tallies, tally.origin: known.merged(tally)}
        floor, before = self.origin_floor, self.before
        oldest = sorted(tallies)[:-KEPT_ORIGINS]
        if oldest:
            before = added((before, *(tallies.pop(each).total for each in oldest)), Shown)
            floor = oldest[-1] + 1
        return Account(floor, before, tallies, self.owners)


class TenantHours:
    """What tenants have used, hour by hour, for whoever limits them.

    Args:
        kept: Hours that are remembered, the newest among them.
    """

    def __init__(self, kept: int = 25) -> None:
        self._kept = kept
        self._hours: dict[int, dict[str, Usage]] = {}

    def add(self, hour: int, tenant: str, used: Usage) -> None:
        """Counts what a tenant has used in an hour, counted from 1970."""
        of_hour = self._hours.setdefault(hour, {})
        of_hour[tenant] = of_hour.get(tenant, Usage()) + used
        for old in [each for each in self._hours if each <= max(self._hours) - self._kept]:
            del self._hours[old]

    def used(self, tenant: str, since_hour: int) -> Usage:
        """Returns what a tenant has used from an hour on."""
        hours = (used for hour, used in self._hours.items() if hour >= since_hour)
        return sum((each[tenant] for each in hours if tenant in each), Usage())


def larger(one: _T, other: _T) -> _T:
    """Returns the larger of each figure."""
    kind = type(one)
    return kind(*(max(_each(one, each.name), _each(other, each.name)) for each in fields(kind)))


def added(parts: Iterable[_T], kind: type[_T]) -> _T:
    """Returns the sum of each figure."""
    columns = [0] * len(fields(kind))
    for part in parts:
        for index, each in enumerate(fields(kind)):
            columns[index] += _each(part, each.name)
    return kind(*columns)


def _raised(tally: Tally, floor: int) -> Tally:
    """Returns a tally with the runs below a floor added up."""
    if floor <= tally.floor:
        return tally
    low = [shown for number, shown in tally.runs.items() if number < floor]
    runs = {number: shown for number, shown in tally.runs.items() if number >= floor}
    return Tally(tally.origin, floor, added((tally.before, *low), Shown), runs)


def _folded(tally: Tally) -> Tally:
    """Returns a tally with no more than the newest runs each by itself."""
    oldest = sorted(tally.runs)[:-KEPT_RUNS]
    return _raised(tally, oldest[-1] + 1) if oldest else tally


def _each(figures: object, name: str) -> int:
    value: int = getattr(figures, name)
    return value
