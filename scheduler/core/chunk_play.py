"""Plays the order of chunks on one GPU in virtual time. Deterministic, for the simulator.

A *chunk* here is a window. The play-out clock of a session wants the first frame of a
window when the last one of the window before was shown; it is *late* when it is finished
more than half a frame after that. The clock then begins anew from it, as the gateway's does.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

from scheduler.core.chunks import Batching, Candidate, ChunkOrder

LEAD_S = 0.055
"""Seconds before its play-out by which a window has to be finished: to encode and send it."""
TOLERANCE = 0.5
"""Share of a frame period by which a window may be late."""
_GOLDEN = (math.sqrt(5) - 1) / 2
_SETTLE_PERIODS = 3


@dataclass(frozen=True, slots=True)
class Rhythm:
    """The windows of a model."""

    cost_s: float
    """Mean time of a steady window."""
    first_cost_s: float
    """Mean time of the first window of a run."""
    frames: int = 24
    first_frames: int = 33
    frame_rate: float = 24.0
    spread: float = 0.0
    """Times lie evenly between `1 - spread` and `1 + spread` of their mean."""
    gains: tuple[tuple[int, float], ...] = ()
    """Throughput by size of batch, as in `Batching`."""

    @property
    def period_s(self) -> float:
        """Seconds between the windows of a session at full rate."""
        return self.frames / self.frame_rate


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """A session that runs."""

    live: bool
    phase_s: float
    """When its windows are ready (live) or due (file), modulo its period."""
    rate_share: float = 1.0


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of some time on one GPU."""

    chunks: int = 0
    late: int = 0
    worst_late_s: float = 0.0
    """How late the latest one was."""
    busy_s: float = 0.0
    """Time of windows that began."""
    waits: tuple[tuple[str, float], ...] = ()
    """For each start-up window: whose, and seconds from its source to its end."""

    def __add__(self, other: Tally) -> Tally:
        """Returns both together."""
        return Tally(
            self.chunks + other.chunks,
            self.late + other.late,
            max(self.worst_late_s, other.worst_late_s),
            self.busy_s + other.busy_s,
            self.waits + other.waits,
        )


@dataclass(slots=True)
class _Playing:
    """A session on the thread. Its candidate changes only with its own windows."""

    live: bool
    rate: float
    """Frames per second."""
    due: float
    """When the play-out clock wants the next window."""
    candidate: Candidate


class Lane:
    """One compute thread in virtual time. Times must not go back."""

    def __init__(self, rhythm: Rhythm) -> None:
        """Begins free and without sessions."""
        self._rhythm = rhythm
        self._order = ChunkOrder()
        self._batching = Batching(dict(rhythm.gains))
        self._sessions: dict[str, _Playing] = {}
        self._now = -math.inf
        self._drawn = 0
        self._tally = _Counts()

    def start(
        self, key: str, at: float, *, live: bool, first: bool = True, rate_share: float = 1.0
    ) -> None:
        """A session begins or resumes.

        Args:
            key: Which.
            at: When the source of its first window is there.
            live: Whether it follows a camera.
            first: Whether a run begins; else one goes on, with a window of usual length.
            rate_share: Share of the usual frame rate that it runs at.
        """
        rate = self._rhythm.frame_rate * rate_share
        self._sessions[key] = _Playing(
            live, rate, -math.inf, self._candidate(key, at, -math.inf, live, rate, first=first)
        )

    def join(self, key: str, at: float, member: Member) -> None:
        """A session is there that runs already: its next window is that of its phase.

        Args:
            key: Which.
            at: The present.
            member: How it runs.
        """
        rate = self._rhythm.frame_rate * member.rate_share
        period = self._rhythm.frames / rate
        ready_at = at + (member.phase_s - at) % period
        due = ready_at + LEAD_S + (self._slow(first=False) if member.live else 0.0)
        source_at = ready_at if member.live else due - period
        candidate = self._candidate(key, source_at, due - LEAD_S, member.live, rate, first=False)
        self._sessions[key] = _Playing(member.live, rate, due, candidate)

    def stop(self, key: str) -> None:
        """A session pauses or ends; a window of it that has begun is counted."""
        self._sessions.pop(key, None)
        self._order.forget(key)

    def run(self, until: float) -> Tally:
        """Plays all windows that begin before a moment; returns what came of them."""
        now = self._now
        while now < until:
            offers = [session.candidate for session in self._sessions.values()]
            decision = self._order.decide(offers, now, self._batching) if offers else None
            if decision is not None and decision.keys:
                now = self._window(decision.keys, now)
            elif decision is None or decision.wake_at is None:
                break
            else:
                now = min(decision.wake_at, until)
        self._now = max(now, until)
        tally, self._tally = self._tally, _Counts()
        return tally.total()

    def _window(self, keys: tuple[str, ...], begin: float) -> float:
        """Runs a batch; returns when it ends."""
        rhythm = self._rhythm
        batch = [(key, self._sessions[key]) for key in keys]
        mean = sum(self._mean(first=session.candidate.first) for _, session in batch)
        cost = mean / self._batching.gains.get(len(keys), 1.0) * self._draw()
        end = begin + cost
        self._tally.busy_s += cost
        for key, session in batch:
            done = session.candidate
            frames = rhythm.first_frames if done.first else rhythm.frames
            self._tally.chunks += 1
            late = end - session.due
            if done.starts:
                self._tally.waits.append((key, end - done.ready_at))
            elif late > TOLERANCE / session.rate:
                self._tally.late += 1
                self._tally.worst_late_s = max(self._tally.worst_late_s, late)
            anew = done.starts or late > TOLERANCE / session.rate
            session.due = (end if anew else session.due) + frames / session.rate
            period = rhythm.frames / session.rate
            taken = begin if done.starts else done.ready_at
            source_at = taken + period if session.live else session.due - period
            session.candidate = self._candidate(
                key, source_at, session.due - LEAD_S, session.live, session.rate, first=False
            )
        return end

    def _candidate(
        self, key: str, ready_at: float, deadline: float, live: bool, rate: float, *, first: bool
    ) -> Candidate:
        """Returns a window, with the time that its slower half takes."""
        return Candidate(
            key=key,
            ready_at=ready_at,
            deadline=deadline,
            live=live,
            cost_s=self._slow(first=first),
            ahead=0,
            first=first,
            period_s=self._rhythm.frames / rate,
        )

    def _mean(self, *, first: bool) -> float:
        return self._rhythm.first_cost_s if first else self._rhythm.cost_s

    def _slow(self, *, first: bool) -> float:
        return self._mean(first=first) * (1 + self._rhythm.spread)

    def _draw(self) -> float:
        """Returns a factor of the time of a window: evenly spread, the same in every play."""
        self._drawn += 1
        return 1 + self._rhythm.spread * (2 * (self._drawn * _GOLDEN % 1) - 1)


@dataclass(slots=True)
class _Counts:
    """A tally under way."""

    chunks: int = 0
    late: int = 0
    worst_late_s: float = 0.0
    busy_s: float = 0.0
    waits: list[tuple[str, float]] = field(default_factory=list)

    def total(self) -> Tally:
        return Tally(self.chunks, self.late, self.worst_late_s, self.busy_s, tuple(self.waits))


@functools.lru_cache(maxsize=200_000)
def play(
    rhythm: Rhythm,
    members: tuple[Member, ...],
    horizon_s: float,
    starter: Member | None = None,
) -> Tally:
    """Plays a GPU with sessions that have run for a while.

    Args:
        rhythm: The windows of the model.
        members: Those that run. Sorted, with phases from a coarse grid, equal plays are
            found again.
        horizon_s: How long to play.
        starter: One more, whose source is there at the beginning; its phase does not count.
    """
    lane = Lane(rhythm)
    settled = _SETTLE_PERIODS * rhythm.period_s
    for number, member in enumerate(members):
        lane.join(str(number), -settled, member)
    lane.run(0.0)
    if starter is not None:
        lane.start("starter", 0.0, live=starter.live, rate_share=starter.rate_share)
    return lane.run(horizon_s)
