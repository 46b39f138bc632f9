"""Which chunks are in time: the order of chunks on every GPU, played or extrapolated.

`EveryChunk` plays all of them with `scheduler.core.chunk_play`. `ByMix` uses two facts.
Chunks come late only where something changes: a session that starts collides with the
others, then all have their turns, and seconds repeat until the next change. And what a start
costs depends on the *mix*: how many live and file sessions run, and what starts. So a few
GPUs are watched: on them the periods after every start are played, from the phases and the
slack that their sessions really have; the periods that repeat are skipped. All other GPUs
are given what was seen of their mix on those, on average, and so are these themselves once
enough was seen.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from scheduler.core.chunk_play import Lane, Rhythm, Tally
from scheduler.core.ids import ActorId, SessionId
from scheduler.scenario.pool import GEOMETRY, ModelCosts

WATCHED = 16
"""GPUs that are played at once."""
ENOUGH = 4000
"""Starts on watched GPUs after which none is played any more."""
TRANSIENT_PERIODS = 4
"""Periods after a start that are played: the first window, and those it collides with."""
REPEATING_PERIODS = 2
"""Periods after them of which the best one stands for all until the next change: what is
late in all of them is late for ever, as on an overloaded GPU; what is late in one was the
last of the collisions."""
_WAITS = 32
"""Waits for a first window that are remembered of each mix."""


def rhythm_of(model: ModelCosts) -> Rhythm:
    """Returns the windows of a model, for the order of chunks."""
    cost_s = model.chunk_ms / 1e3
    return Rhythm(
        cost_s=cost_s,
        first_cost_s=cost_s * GEOMETRY.first_window / GEOMETRY.window,
        frames=GEOMETRY.window,
        first_frames=GEOMETRY.first_window,
        frame_rate=model.frame_rate,
        spread=model.chunk_jitter_ms / model.chunk_ms,
        gains=tuple(sorted(model.batch_gains.items())),
    )


class Chunks(NamedTuple):
    """How many chunks there were, and how many came too late."""

    made: float
    late: float


class ChunkClock(Protocol):
    """Follows the chunks of all GPUs. Times must not go back."""

    def start(
        self, actor: ActorId, session: SessionId, now: float, *, live: bool, first: bool
    ) -> float:
        """A session computes from now on.

        Returns:
            Seconds until its first window is finished, as far as that is known by now.
        """

    def stop(self, actor: ActorId, session: SessionId, now: float) -> None:
        """It does not any more."""

    def total(self, now: float) -> Chunks:
        """Returns all chunks up to now."""


class EveryChunk:
    """Plays every chunk.

    Args:
        rhythm: The windows of the model.
    """

    def __init__(self, rhythm: Rhythm) -> None:
        self._rhythm = rhythm
        self._lanes: dict[ActorId, Lane] = {}
        self._made = self._late = 0

    def start(
        self, actor: ActorId, session: SessionId, now: float, *, live: bool, first: bool
    ) -> float:
        """As in `ChunkClock`; the first window is yet to be played, so its wait is unknown."""
        lane = self._lanes.get(actor)
        if lane is None:
            lane = self._lanes[actor] = Lane(self._rhythm)
        self._run(lane, now)
        lane.start(session, now, live=live, first=first)
        return 0.0

    def stop(self, actor: ActorId, session: SessionId, now: float) -> None:
        """As in `ChunkClock`."""
        lane = self._lanes[actor]
        self._run(lane, now)
        lane.stop(session)

    def total(self, now: float) -> Chunks:
        """As in `ChunkClock`."""
        for lane in self._lanes.values():
            self._run(lane, now)
        return Chunks(self._made, self._late)

    def _run(self, lane: Lane, until: float) -> None:
        tally = lane.run(until)
        self._made += tally.chunks
        self._late += tally.late


class _Running(NamedTuple):
    """How many sessions run on a GPU."""

    live: int = 0
    file: int = 0

    def plus(self, by: int, *, live: bool) -> _Running:
        """Returns the mix with one session more or less."""
        return _Running(self.live + by, self.file) if live else _Running(self.live, self.file + by)


_NOTHING = _Running()


class _Start(NamedTuple):
    """What runs on a GPU, and what starts there."""

    running: _Running
    live: bool
    first: bool


@dataclass(slots=True)
class _Seen:
    """What the watched GPUs have shown of a mix."""

    starts: int = 0
    late: int = 0
    """Within the periods after those starts."""
    waits: deque[float] = field(default_factory=lambda: deque(maxlen=_WAITS))
    """Seconds from a start to the end of its first window."""

    @property
    def late_per_start(self) -> float:
        """Late chunks that a start brings about, on average."""
        return self.late / self.starts if self.starts else 0.0


@dataclass(slots=True)
class _Repeating:
    """What repeats on GPUs with a mix."""

    periods: int = 0
    late: int = 0

    @property
    def late_per_period(self) -> float:
        """Late chunks in a period, on average."""
        return self.late / self.periods if self.periods else 0.0


@dataclass(slots=True)
class _Gpu:
    """What computes on a GPU that is not watched."""

    sessions: dict[SessionId, bool] = field(default_factory=dict)
    """Whether each is live."""
    running: _Running = _NOTHING
    late_per_period: float = 0.0
    watch: _Watch | None = None


class _Watch:
    """A GPU that is played after every start, and skips the periods that repeat.

    The lane's own time stands still while periods are skipped: they are whole ones, so
    everything in it goes on as it would have.

    Args:
        rhythm: The windows of the model.
        now: The time.
        by_start: Where to note what starts bring about.
        by_mix: Where to note what repeats.
    """

    def __init__(
        self,
        rhythm: Rhythm,
        now: float,
        by_start: dict[_Start, _Seen],
        by_mix: dict[_Running, _Repeating],
    ) -> None:
        self.made = self.late = 0.0
        self._period_s = rhythm.period_s
        self._lane = Lane(rhythm)
        self._by_start, self._by_mix = by_start, by_mix
        self._running = _Running()
        self._seen: _Seen | None = None
        """Of the mix that the last start found."""
        self._at = now
        self._skipped_s = 0.0
        self._transient_until = now
        self._repeats: list[int] = []
        """Late chunks of each of the periods that may repeat."""

    def start(self, session: SessionId, now: float, *, live: bool, first: bool) -> None:
        """A session computes from now on."""
        self.run(now)
        self._seen = self._by_start.setdefault(_Start(self._running, live, first), _Seen())
        self._seen.starts += 1
        self._lane.start(session, now - self._skipped_s, live=live, first=first)
        self._transient_until = now + TRANSIENT_PERIODS * self._period_s
        self._change(1, live=live)

    def stop(self, session: SessionId, now: float, *, live: bool) -> None:
        """It does not any more."""
        self.run(now)
        self._lane.stop(session)
        self._change(-1, live=live)

    def run(self, until: float) -> None:
        """Goes on to a moment."""
        while self._at < until:
            if self._at < self._transient_until:
                tally = self._play(min(until, self._transient_until))
                if self._seen is not None:
                    self._seen.late += tally.late
                    self._seen.waits.extend(wait for _, wait in tally.waits)
            elif until - self._at < self._period_s:
                self._play(until)
            elif len(self._repeats) < REPEATING_PERIODS:
                self._repeats.append(self._play(self._at + self._period_s).late)
                if len(self._repeats) == REPEATING_PERIODS:
                    repeating = self._by_mix.setdefault(self._running, _Repeating())
                    repeating.periods += 1
                    repeating.late += min(self._repeats)
            else:
                self._skip((until - self._at) // self._period_s)

    def _change(self, by: int, *, live: bool) -> None:
        self._running = self._running.plus(by, live=live)
        self._repeats = []

    def _play(self, until: float) -> Tally:
        tally = self._lane.run(until - self._skipped_s)
        self._at = until
        self.made += tally.chunks
        self.late += tally.late
        return tally

    def _skip(self, periods: float) -> None:
        """Skips whole periods, as if all were like the best of those before."""
        self._skipped_s += periods * self._period_s
        self._at += periods * self._period_s
        self.made += periods * sum(self._running)
        self.late += periods * min(self._repeats)


class ByMix:
    """Plays the starts on some GPUs, and extrapolates everything else.

    Args:
        rhythm: The windows of the model.
    """

    def __init__(self, rhythm: Rhythm) -> None:
        self._rhythm = rhythm
        self._gpus: dict[ActorId, _Gpu] = {}
        self._watches: list[_Watch] = []
        self._watched = 0
        """GPUs that are watched and have sessions."""
        self.played = 0
        """Starts on watched GPUs."""
        self._by_start: dict[_Start, _Seen] = {}
        self._by_mix: dict[_Running, _Repeating] = {}
        self._made = self._late = 0.0
        self._running = 0
        self._late_per_period = 0.0
        self._at: float | None = None

    def start(
        self, actor: ActorId, session: SessionId, now: float, *, live: bool, first: bool
    ) -> float:
        """As in `ChunkClock`; the wait is one that was seen of the same mix."""
        gpu = self._gpus.get(actor)
        if gpu is None:
            gpu = self._gpus[actor] = _Gpu()
        if not gpu.sessions:
            self._may_watch(gpu, now)
        seen = self._by_start.get(_Start(gpu.running, live, first))
        if gpu.watch is not None and self.played >= ENOUGH:
            self._no_longer_watch(gpu, gpu.watch, now)
        if gpu.watch is not None:
            self.played += 1
            gpu.watch.start(session, now, live=live, first=first)
        else:
            self._extrapolate(now)
            self._late += seen.late_per_start if seen is not None else 0.0
            self._running += 1
        self._change(gpu, session, 1, live=live)
        if seen is None or not seen.waits:
            return self._rhythm.first_cost_s if first else self._rhythm.cost_s
        seen.waits.rotate()
        return seen.waits[0]

    def stop(self, actor: ActorId, session: SessionId, now: float) -> None:
        """As in `ChunkClock`."""
        gpu = self._gpus[actor]
        live = gpu.sessions[session]
        if gpu.watch is not None:
            gpu.watch.stop(session, now, live=live)
        else:
            self._extrapolate(now)
            self._running -= 1
        self._change(gpu, session, -1, live=live)
        if not gpu.sessions:
            if gpu.watch is not None:
                self._no_longer_watch(gpu, gpu.watch, now)
            del self._gpus[actor]

    def total(self, now: float) -> Chunks:
        """As in `ChunkClock`."""
        self._extrapolate(now)
        made, late = self._made, self._late
        for watch in self._watches:
            watch.run(now)
            made += watch.made
            late += watch.late
        return Chunks(made, late)

    def _may_watch(self, gpu: _Gpu, now: float) -> None:
        """A GPU is about to get its first session: it is watched if few are."""
        if self._watched < WATCHED and self.played < ENOUGH:
            self._watched += 1
            gpu.watch = _Watch(self._rhythm, now, self._by_start, self._by_mix)
            self._watches.append(gpu.watch)

    def _no_longer_watch(self, gpu: _Gpu, watch: _Watch, now: float) -> None:
        watch.run(now)
        self._watches.remove(watch)
        self._made += watch.made
        self._late += watch.late
        gpu.watch = None
        self._watched -= 1
        self._extrapolate(now)
        self._running += len(gpu.sessions)

    def _change(self, gpu: _Gpu, session: SessionId, by: int, *, live: bool) -> None:
        gpu.running = gpu.running.plus(by, live=live)
        if by > 0:
            gpu.sessions[session] = live
        else:
            del gpu.sessions[session]
        if gpu.watch is None:
            repeating = self._by_mix.get(gpu.running)
            late = repeating.late_per_period if repeating is not None else 0.0
            self._late_per_period += late - gpu.late_per_period
            gpu.late_per_period = late

    def _extrapolate(self, now: float) -> None:
        if self._at is not None:
            periods = (now - self._at) / self._rhythm.period_s
            self._made += periods * self._running
            self._late += periods * self._late_per_period
        self._at = now
