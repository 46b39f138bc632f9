"""Which windows run next on one compute thread: non-preemptive, earliest deadline first.

A window, once begun, is not interrupted. There are two classes.

*Running* windows continue a picture that moves, so each has a deadline: when its first
frame is to be shown to the viewer who needs it first. Live, a window is released as soon
as its source is there. In file mode it is released as late as its deadline allows, so that
a new prompt still lands in it: its cost and a margin before, and earlier where windows of
others need the time in between. It is never released while more than one chunk waits to be
shown.

*Start-up* windows begin a picture (of a run, after a pause, at another actor) and have no
deadline. One goes ahead of running windows where all of them still come in time, and
waits at most the time of one window where they would not. Two never go one after the
other at the cost of a deadline: in between a running window has its turn. So neither
class starves.

Windows of several sessions run as one batch only where that was measured to be worth it,
and where it makes nobody late. A file's window joins one although it could wait if it would
begin before a window alone was over: so it begins earlier by less than that, or not at all.

The order among windows that are all released is Jackson's rule (J. R. Jackson, 1955):
no other order keeps all deadlines where this one does not. The release of file windows is
the backward pass of the same rule, so waiting costs no deadline either.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from scheduler.core.chunk_phases import phase_delay

MARGIN_S = 0.1
"""Seconds by which a file's window is begun earlier than it must be."""
MOST_AHEAD = 24
"""Frames that a session in file mode may have waiting when its next window is released."""
GRACE_S = 0.07
"""A window that ends so long after its deadline still comes in time: a deadline leaves the
encoder its head start, and the play-out clock bridges half a frame. Where one class or a batch
goes at the cost of others, this is what counts: a session without any reserve would hold up
everybody else in every period for nothing."""
WORTHWHILE = 1.25
"""Least gain at which windows are batched."""
STALE_PERIODS = 2.5
"""A session that offered no window for so many periods does not run any more."""
_NO_PHASES: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Candidate:
    """The next window of one session. Times are seconds on the caller's clock."""

    key: str
    ready_at: float
    """When its source frames are there. It may lie in the future, where it is foreseen, so
    that nothing gets in its way; infinite while it is not known."""
    deadline: float
    """When its first frame has to be finished; minus infinity for a start-up window."""
    live: bool
    cost_s: float
    """How long it takes at the slow end of what is usual."""
    ahead: int
    """Outward frames of the session that were made and are not yet due."""
    first: bool = False
    """Whether it is the first window of a model's run, which is longer."""
    steps: int = 0
    """Steps that the model takes for it; 0: all. Only windows that agree in this and in
    `first` are batched."""
    period_s: float = 1.0
    """Seconds from one steady window of the session to the next."""

    @property
    def starts(self) -> bool:
        """Whether it is a start-up window."""
        return self.deadline == -math.inf

    @property
    def kind(self) -> tuple[bool, int]:
        """What windows of one batch have in common."""
        return self.first, self.steps


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now."""

    keys: tuple[str, ...] = ()
    """Whose windows to run, several as one batch; empty if no window is released."""
    wake_at: float | None = None
    """When to decide again if nothing changes before; None while nothing is foreseen."""


@dataclass(frozen=True, slots=True)
class Batching:
    """What is known of running windows of several sessions together."""

    gains: Mapping[int, float] = field(default_factory=dict)
    """By size: how many times the throughput of windows one by one; 1: as long as alone."""
    trial: int | None = None
    """A size to be tried where it makes nobody late even if it gains nothing."""


ALONE = Batching()
"""Nothing is batched."""


def choose(
    candidates: Sequence[Candidate],
    now: float,
    *,
    margin_s: float = MARGIN_S,
    batching: Batching = ALONE,
    after_start: bool = False,
    begins: Mapping[str, float] = _NO_PHASES,
) -> Decision:
    """Decides which windows run next.

    Args:
        candidates: At most one window of each session, in any order.
        now: The present.
        margin_s: Seconds by which a file's window is begun earlier than it must be.
        batching: What is known of batches.
        after_start: Whether the window before this one was a start-up window.
        begins: When start-up windows are to begin that were given a phase.
    """
    running = sorted((c for c in candidates if not c.starts), key=_urgency)
    starting = sorted(
        (begins.get(c.key, c.ready_at), c.key, c) for c in candidates if c.deadline == -math.inf
    )
    releases = _releases(running, now, margin_s)
    order = [*running, *(c for _, _, c in starting)]
    trial_at = _trial_at(releases, running, batching)
    if trial_at <= now:
        trial = _trial(running, order, now, batching)
        if trial:
            return Decision(tuple(each.key for each in trial))
    due = [c for c, at in zip(running, releases, strict=True) if at <= now]
    fresh = [c for at, _, c in starting if at <= now]
    wake_at = min(
        (at for at in (trial_at, *releases, *(at for at, _, _ in starting)) if now < at < math.inf),
        default=None,
    )
    lead = _before(due[0], running, now, margin_s) if due else None
    if fresh:
        forced_at = starting[0][0] + fresh[0].cost_s
        if _may_start(
            fresh[0], running, now, forced=now >= forced_at and not (after_start and due)
        ):
            lead = fresh[0]
        elif lead is None:
            wake_at = min(forced_at, math.inf if wake_at is None else wake_at)
    if lead is None:
        return Decision(wake_at=wake_at)
    company = [*due, *_followers(lead, running, releases, now), *fresh]
    batch = _batch(lead, company, order, now, batching)
    return Decision(tuple(each.key for each in batch), wake_at)


def _urgency(candidate: Candidate) -> tuple[float, str]:
    return candidate.deadline, candidate.key


def _releases(running: Sequence[Candidate], now: float, margin_s: float) -> list[float]:
    """Returns when running windows may begin; infinite while that is not known.

    Args:
        running: In the order of their deadlines.
        now: The present.
        margin_s: See `choose`.
    """
    releases = []
    taken_from = math.inf
    for candidate in reversed(running):
        taken_from = min(candidate.deadline, taken_from) - candidate.cost_s
        if candidate.live:
            releases.append(candidate.ready_at)
        else:
            latest = taken_from - margin_s
            releases.append(max(candidate.ready_at, latest, _not_too_far_ahead(candidate, now)))
    releases.reverse()
    return releases


def _before(
    lead: Candidate, running: Sequence[Candidate], now: float, margin_s: float
) -> Candidate:
    """Returns what has to run first where a window that is held back could not wait for `lead`.

    Args:
        lead: Of the released windows, the one with the earliest deadline.
        running: All of them, in the order of their deadlines.
        now: The present.
        margin_s: See `choose`.
    """
    first = None
    end = now + lead.cost_s
    for candidate in running:
        if candidate is lead:
            break
        if not _could_begin(candidate, now):
            continue
        first = first or candidate
        end += candidate.cost_s
        if end > candidate.deadline - margin_s:
            return first
    return lead


def _followers(
    lead: Candidate, running: Sequence[Candidate], releases: Sequence[float], now: float
) -> Iterator[Candidate]:
    """Yields windows that are held back and would begin before `lead` alone was over.

    Args:
        lead: The window that is to run.
        running: All running windows, in the order of their deadlines.
        releases: When each may begin.
        now: The present.
    """
    for candidate, release in zip(running, releases, strict=True):
        if now < release <= now + lead.cost_s and _could_begin(candidate, now):
            yield candidate


def _could_begin(candidate: Candidate, now: float) -> bool:
    """Tells whether a window is held back for no reason but that it can wait."""
    there = not candidate.live and candidate.ready_at <= now
    return there and _not_too_far_ahead(candidate, now) <= now


def _not_too_far_ahead(candidate: Candidate, now: float) -> float:
    """Returns when no more than `MOST_AHEAD` frames wait.

    The frames that wait are shown evenly until the deadline, which is when the last of
    them has been shown. An overdue window is never held back.
    """
    until_due = candidate.deadline - now
    if candidate.ahead <= MOST_AHEAD or until_due <= 0:
        return -math.inf
    if math.isinf(until_due):
        return math.inf
    return now + until_due * (1 - MOST_AHEAD / candidate.ahead)


def _may_start(start: Candidate, running: Sequence[Candidate], now: float, *, forced: bool) -> bool:
    return forced or all(
        finish <= candidate.deadline + GRACE_S
        for candidate, finish in _one_by_one(running, now + start.cost_s)
    )


def _one_by_one(order: Sequence[Candidate], at: float) -> Iterator[tuple[Candidate, float]]:
    """Plays windows in an order of preference, each once its source is there.

    Yields:
        Each with when it is finished; those whose source is not foreseen are left out.
    """
    waiting = [candidate for candidate in order if candidate.ready_at < math.inf]
    while waiting:
        ready = next((each for each in waiting if each.ready_at <= at), None)
        if ready is None:
            at = min(each.ready_at for each in waiting)
            continue
        waiting.remove(ready)
        at += ready.cost_s
        yield ready, at


def _batch(
    lead: Candidate,
    released: Sequence[Candidate],
    order: Sequence[Candidate],
    now: float,
    batching: Batching,
) -> Sequence[Candidate]:
    """Returns the windows to run with `lead`, itself first.

    Args:
        lead: The window that is to run.
        released: The windows that may run now, by preference.
        order: All windows, by preference.
        now: The present.
        batching: What is known of batches.
    """
    alone = (lead,)
    if not batching.gains:
        return alone
    fits = [lead, *(c for c in released if c is not lead and c.kind == lead.kind)]
    others = [c for c in order if c is not lead]
    before = None
    for size in range(len(fits), 1, -1):
        gain = batching.gains.get(size, 0.0)
        if gain < WORTHWHILE:
            continue
        if before is None:
            before = {lead.key: now + lead.cost_s}
            before.update((c.key, at) for c, at in _one_by_one(others, now + lead.cost_s))
        batch = fits[:size]
        if not _suffers(before, _batched(batch, order, now, gain), order):
            return batch
    return alone


def _trial_at(releases: Sequence[float], running: Sequence[Candidate], batching: Batching) -> float:
    """Returns when a batch may be tried: early enough to be as slow as its windows one by one."""
    if batching.trial is None or len(running) < batching.trial:
        return math.inf
    first = min(range(len(releases)), key=releases.__getitem__)
    return releases[first] - batching.trial * running[first].cost_s


def _trial(
    running: Sequence[Candidate], order: Sequence[Candidate], now: float, batching: Batching
) -> Sequence[Candidate]:
    """Returns windows to be tried as a batch; none where that could make somebody late.

    Args:
        running: In the order of their deadlines.
        order: All windows, by preference.
        now: The present.
        batching: Says how many.
    """
    able = [c for c in running if c.ready_at <= now and (c.live or _could_begin(c, now))]
    batch = [c for c in able if c.kind == (able[0].first, 0)][: batching.trial]
    full = len(batch) == batching.trial
    return batch if full and _makes_nobody_late(batch, order, now) else ()


def _batched(
    batch: Sequence[Candidate], order: Sequence[Candidate], now: float, gain: float
) -> dict[str, float]:
    """Returns when each window is finished if a batch runs now and the others after it."""
    end = now + sum(each.cost_s for each in batch) / gain
    finishes = dict.fromkeys((each.key for each in batch), end)
    rest = [each for each in order if each.key not in finishes]
    finishes.update((each.key, at) for each, at in _one_by_one(rest, end))
    return finishes


def _makes_nobody_late(batch: Sequence[Candidate], order: Sequence[Candidate], now: float) -> bool:
    """Tells whether a batch is harmless that gains nothing: nobody starts, nobody is late."""
    finishes = _batched(batch, order, now, gain=1.0)
    return all(finishes.get(each.key, -math.inf) <= each.deadline for each in order)


def _suffers(
    before: Mapping[str, float], after: Mapping[str, float], order: Sequence[Candidate]
) -> bool:
    """Tells whether somebody who was in time is late after all, or the latest is later yet."""
    worst_before = worst_after = 0.0
    for each in order:
        if each.starts or each.key not in before:
            continue
        due = each.deadline + GRACE_S
        late_before, late_after = before[each.key] - due, after[each.key] - due
        if late_before <= 0 < late_after:
            return True
        worst_before, worst_after = max(worst_before, late_before), max(worst_after, late_after)
    return worst_after > worst_before


class ChunkOrder:
    """The order on one compute thread, with what it has to remember from window to window.

    A live session's *phase* is chosen once, when its first window could begin: that window
    is held back by at most its own time where its later windows would otherwise fall on
    those of others. It takes the newest frames, so that all later ones are shifted by as much.
    """

    def __init__(self, margin_s: float = MARGIN_S) -> None:
        """Begins with no session.

        Args:
            margin_s: Seconds by which a file's window is begun earlier than it must be.
        """
        self._margin_s = margin_s
        self._begins: dict[str, float] = {}
        """When the start-up windows that wait are to begin."""
        self._turns: dict[str, tuple[float, float]] = {}
        """By session: when its last window was due to begin, and when it was last heard of."""
        self._slot_s = math.inf
        """How long a steady window takes."""
        self._after_start = False

    def decide(
        self, candidates: Sequence[Candidate], now: float, batching: Batching = ALONE
    ) -> Decision:
        """Decides which windows run next; they count as begun.

        Args:
            candidates: At most one window of each session, in any order.
            now: The present.
            batching: What is known of batches.
        """
        begins = {}
        for each in candidates:
            if each.deadline == -math.inf:
                if each.key in self._begins:
                    begins[each.key] = self._begins[each.key]
                elif each.ready_at <= now:
                    begins[each.key] = now + self._delay(each, now)
            elif each.deadline < math.inf:
                turn = each.ready_at if each.live else each.deadline - each.cost_s - self._margin_s
                self._turns[each.key] = (turn, now)
                self._slot_s = each.cost_s
        self._begins = begins
        decision = choose(
            candidates,
            now,
            margin_s=self._margin_s,
            batching=batching,
            after_start=self._after_start,
            begins=begins,
        )
        if decision.keys:
            self._after_start = decision.keys[0] in begins
            for key in decision.keys:
                if begins.pop(key, None) is not None:
                    self._turns[key] = (now, now)
        return decision

    def forget(self, key: str) -> None:
        """A session runs no more."""
        self._begins.pop(key, None)
        self._turns.pop(key, None)

    def _delay(self, start: Candidate, now: float) -> float:
        oldest = now - STALE_PERIODS * start.period_s
        self._turns = {key: turn for key, turn in self._turns.items() if turn[1] >= oldest}
        if not start.live:
            return 0.0
        phases = [turn for key, (turn, _) in self._turns.items() if key != start.key]
        return phase_delay(phases, now, min(start.cost_s, self._slot_s), start.period_s)
