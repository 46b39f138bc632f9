"""What subjects have used of their quotas (`scheduler.core.quotas`), and whether there is more.

Pure: `wall` is the time in seconds since 1970, `now` any clock that goes forward.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from scheduler.core.errors import LimitError
from scheduler.core.quotas import DAY, MONTH, Period, Quotas, Rates, Subjects, Tally

OVERSPENT: Final = "the time that may be streamed in this {} is used up"


class StreamedTime(Protocol):
    """Who knows how long the sessions of subjects have streamed: the seam to metering."""

    def begin(self, session: str, subjects: Iterable[str], wall: float) -> None:
        """A session has its place. Repeating it changes nothing."""

    def end(self, session: str, wall: float) -> tuple[str, ...]:
        """It has it no more; returns its subjects, none where it had not begun."""

    def used_s(self, subject: str, period: Period, wall: float) -> float:
        """Returns the seconds that a subject's sessions have streamed in the present period."""

    def running(self, subject: str) -> tuple[str, ...]:
        """Returns its sessions that stream now."""

    def dump(self, wall: float) -> dict[str, Any]:
        """Returns what is to outlive this process, as plain data."""

    def load(self, kept: Mapping[str, Any]) -> None:
        """Takes up what `dump` returned.

        Raises:
            ValueError: It has another form.
        """


class PlaceTime:
    """Streamed time as the scheduler sees it: how long sessions hold a place on a GPU."""

    def __init__(self) -> None:
        self._tallies = {each.name: Tally(each) for each in (DAY, MONTH)}
        self._since: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._running: dict[str, dict[str, float]] = {}

    def begin(self, session: str, subjects: Iterable[str], wall: float) -> None:
        """A session has its place; see `StreamedTime`."""
        names = tuple(subjects)
        if session in self._since or not names:
            return
        self._since[session] = (wall, names)
        for name in names:
            self._running.setdefault(name, {})[session] = wall

    def end(self, session: str, wall: float) -> tuple[str, ...]:
        """It has it no more; see `StreamedTime`."""
        since, names = self._since.pop(session, (wall, ()))
        for name in names:
            for tally in self._tallies.values():
                tally.add(name, _within(tally.period, since, wall), wall)
            running = self._running[name]
            del running[session]
            if not running:
                del self._running[name]
        return names

    def used_s(self, subject: str, period: Period, wall: float) -> float:
        """Returns what a subject used in the present period; see `StreamedTime`."""
        running = self._running.get(subject, {}).values()
        now = sum(_within(period, since, wall) for since in running)
        return self._tallies[period.name].of(subject, wall) + now

    def running(self, subject: str) -> tuple[str, ...]:
        """Returns the sessions of a subject that stream now."""
        return tuple(self._running.get(subject, ()))

    def dump(self, wall: float) -> dict[str, Any]:
        """Returns the sums, with the time of those who stream now up to this moment."""
        whole = PlaceTime()
        for name, tally in self._tallies.items():
            whole._tallies[name].load(tally.dump())
        for since, names in self._since.values():
            for tally in whole._tallies.values():
                for name in names:
                    tally.add(name, _within(tally.period, since, wall), wall)
        return {name: tally.dump() for name, tally in whole._tallies.items()}

    def load(self, kept: Mapping[str, Any]) -> None:
        """Takes up sums; see `StreamedTime`."""
        for name, tally in self._tallies.items():
            if isinstance(found := kept.get(name), dict):
                tally.load(found)


def _within(period: Period, since: float, wall: float) -> float:
    """Returns how much of a time that goes on lies in the present period."""
    return max(0.0, wall - max(since, period.begins(wall)))


_STREAMED: Final = (("streamed_per_day", DAY), ("streamed_per_month", MONTH))


class Usage:
    """What all subjects have used, and whether one may use more.

    Args:
        streamed: Knows how long sessions have streamed.
    """

    def __init__(self, streamed: StreamedTime | None = None) -> None:
        self.streamed = PlaceTime() if streamed is None else streamed
        self.rates = Rates()
        self._uploaded = Tally(DAY)
        self._stored: Counter[str] = Counter()
        self._uploads: dict[str, tuple[tuple[str, ...], dict[str, int]]] = {}
        """Of each session with uploads whom they are counted for, and the size of each."""

    # Sessions

    def may_create(self, subjects: Subjects, now: float, wall: float) -> None:
        """Passes when one more session may be created.

        Raises:
            LimitError: A quota is used up; the text, and `quota`, name it.
        """
        for subject, quotas in subjects.items():
            most = quotas.sessions_per_minute
            if most is not None and (wait := self.rates.wait_s(subject, most, now)) > 0:
                raise LimitError(
                    f"no more than {most} new sessions a minute{whose(subject)}",
                    retry_after_s=wait,
                    quota="sessions_per_minute",
                )
            for name, period, left in self._left_s(subject, quotas, wall):
                if left <= 0:
                    raise LimitError(
                        OVERSPENT.format(period.name) + whose(subject),
                        retry_after_s=period.ends(wall) - wall,
                        quota=name,
                    )

    def created(self, subjects: Subjects, now: float) -> None:
        """Counts a session that was created."""
        for subject, quotas in subjects.items():
            if quotas.sessions_per_minute is not None:
                self.rates.add(subject, now)

    # Streamed time

    def begin(self, session: str, subjects: Subjects, wall: float) -> dict[str, float]:
        """A session has its place.

        Returns:
            Of each subject whose time is limited, when it will be used up if nothing changes.
        """
        limited = {name: quotas for name, quotas in subjects.items() if quotas.limits_streaming}
        self.streamed.begin(session, limited, wall)
        return {name: wall + self.left_s(name, limited[name], wall) for name in limited}

    def left_s(self, subject: str, quotas: Quotas, wall: float) -> float:
        """Returns how long all of a subject's sessions may go on together; 0: no more."""
        streaming = max(1, len(self.streamed.running(subject)))
        left = [left for _, _, left in self._left_s(subject, quotas, wall)]
        return max(0.0, min(left, default=float("inf"))) / streaming

    def overspent(self, subject: str, quotas: Quotas, wall: float) -> Period | None:
        """Returns the period whose time a subject has used up; None: there is some left."""
        # What is left is met by a timer, which may come a rounding early.
        found = (period for _, period, left in self._left_s(subject, quotas, wall) if left < 1e-3)
        return next(found, None)

    def _left_s(
        self, subject: str, quotas: Quotas, wall: float
    ) -> Iterable[tuple[str, Period, float]]:
        for name, period in _STREAMED:
            most = getattr(quotas, name)
            if most is not None:
                yield name, period, most - self.streamed.used_s(subject, period, wall)

    # Bytes

    def reserve(
        self, session: str, upload: str, size: int, subjects: Subjects, wall: float
    ) -> None:
        """Counts an upload that was announced; one that is counted already changes nothing.

        Raises:
            LimitError: A quota is used up; the text, and `quota`, name it.
        """
        _, own = self._uploads.get(session, ((), {}))
        if upload in own:
            return
        for subject, quotas in subjects.items():
            used: dict[str, float] = {
                "uploads_per_session": sum(own.values()),
                "uploads_per_day": self._uploaded.of(subject, wall),
                "stored": self._stored[subject],
            }
            for name, before in used.items():
                most = getattr(quotas, name)
                if most is not None and before + size > most:
                    raise _too_large(name, most, subject, wall)
        self._uploads[session] = (tuple(subjects), own | {upload: size})
        for subject in subjects:
            self._stored[subject] += size
            self._uploaded.add(subject, size, wall)

    def forget(self, session: str) -> None:
        """A session has ended, and what it had stored is removed."""
        subjects, uploads = self._uploads.pop(session, ((), {}))
        for subject in subjects:
            self._stored[subject] -= sum(uploads.values())
            if self._stored[subject] <= 0:
                del self._stored[subject]

    # What outlives a process

    def dump(self, wall: float) -> dict[str, Any]:
        """Returns what is counted by day and month, as plain data."""
        return {"streamed": self.streamed.dump(wall), "uploaded": self._uploaded.dump()}

    def load(self, kept: Mapping[str, Any]) -> None:
        """Takes up what `dump` returned.

        Raises:
            ValueError: It has another form.
        """
        parts = kept.get("streamed"), kept.get("uploaded")
        if not all(isinstance(each, dict) for each in parts):
            raise ValueError("usage has the parts streamed and uploaded")
        streamed, uploaded = parts
        self.streamed.load(streamed)  # type: ignore[arg-type]
        self._uploaded.load(uploaded)  # type: ignore[arg-type]


def _too_large(name: str, most: int, subject: str, wall: float) -> LimitError:
    texts = {
        "uploads_per_session": "a session uploads at most {} bytes{}",
        "uploads_per_day": "no more than {} bytes of uploads a day{}",
        "stored": "no more than {} bytes of uploads of sessions that run{}",
    }
    retry = {"uploads_per_day": DAY.ends(wall) - wall}
    return LimitError(
        texts[name].format(most, whose(subject)), retry_after_s=retry.get(name), quota=name
    )


def whose(subject: str) -> str:
    """Returns for whom a limit is, to be put at the end of a text for people."""
    words = {"tenant": " of this tenant", "user": " of this user"}
    return words.get(subject.partition(":")[0], " with this key or token")
