"""Which window runs next on one compute thread.

A window, once begun, is not interrupted, and one runs at a time. The order is earliest
deadline first among the windows that are *released*:

* live: as soon as its source frames are there;
* file: not before its frames are needed, so that a new prompt still lands in it: when
  its cost and a margin remain until its deadline, and never while more than one chunk
  waits to be shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MOST_AHEAD = 24
"""Frames that a session in file mode may have waiting when its next window is released."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """The next window of one session. Times are seconds on the caller's clock."""

    key: str
    ready_at: float
    """When its source frames are there; infinite while that is not known."""
    deadline: float
    """When its first frame is due; minus infinity for the first window of a run."""
    live: bool
    cost_s: float
    """How long it is expected to take."""
    ahead: int
    """Outward frames of the session that were made and are not yet due."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now."""

    key: str | None
    """Whose window to run; None if no window is released."""
    wake_at: float | None
    """When the next one is released; None while none is foreseen."""


def released_at(candidate: Candidate, now: float, margin_s: float) -> float:
    """Returns when a window may begin; infinite while that is not known."""
    if candidate.live or candidate.deadline == -math.inf:
        return candidate.ready_at
    latest = candidate.deadline - candidate.cost_s - margin_s
    return max(candidate.ready_at, latest, _not_too_far_ahead(candidate, now))


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


def choose(candidates: Sequence[Candidate], now: float, *, margin_s: float = 0.1) -> Decision:
    """Decides which window runs next.

    Args:
        candidates: At most one window of each session, in any order.
        now: The present.
        margin_s: Seconds by which a file's window is begun earlier than it must be.
    """
    releases = [(released_at(candidate, now, margin_s), candidate) for candidate in candidates]
    due = [(each.deadline, each.key) for at, each in releases if at <= now]
    later = [at for at, _ in releases if now < at < math.inf]
    return Decision(key=min(due)[1] if due else None, wake_at=min(later, default=None))
