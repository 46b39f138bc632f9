"""What the actor knows of time: the play-out clock, which runs at the gateway, and how long
windows take.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from scheduler.core.chunks import WORTHWHILE, Batching

_NO_FEWER: Mapping[int, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class PlayoutClock:
    """The last report of the owning gateway, in the actor's own time."""

    run: int
    next_frame: int
    """Next frame to be handed out."""
    due_at: float
    """When, in seconds of the actor's event loop."""
    frame_rate: float
    underruns: int = 0
    end: int | None = None
    """Index after the last frame that the gateway has heard of, where its clock stands until
    it hears of more; None: not known."""

    def due(self, frame: int) -> float:
        """Returns when a frame of the run is due."""
        return self.due_at + (frame - self.next_frame) / self.frame_rate

    def played(self, now: float) -> int:
        """Returns the number of frames of the run that are due by now."""
        if now < self.due_at:
            return self.next_frame
        due = self.next_frame + 1 + int((now - self.due_at) * self.frame_rate)
        return due if self.end is None else min(due, self.end)


class Recent:
    """The last observations of something, for their quantiles."""

    def __init__(self, expected: float, history: int = 128) -> None:
        """Begins without observations.

        Args:
            expected: What counts while there are hardly any.
            history: Most observations that are kept.
        """
        self._expected = expected
        self._seen: deque[float] = deque(maxlen=history)
        self._sorted: list[float] = []

    def __len__(self) -> int:
        """Returns the number of observations that are kept."""
        return len(self._seen)

    def add(self, value: float) -> None:
        """Takes in an observation; the oldest goes."""
        if len(self._seen) == self._seen.maxlen:
            del self._sorted[bisect_left(self._sorted, self._seen[0])]
        self._seen.append(value)
        insort(self._sorted, value)

    def quantile(self, share: float) -> float:
        """Returns the least observation that `share` of them do not exceed."""
        if not self._sorted:
            return self._expected
        return self._sorted[max(0, math.ceil(share * len(self._sorted)) - 1)]


class WindowCost:
    """How long windows take: for the ledger, for deadlines, and alone against in batches.

    Windows with fewer steps are measured alone: what batches gain is taken to be the same.
    """

    FEW = 4
    """With fewer observations the declared time counts as one of them."""
    WEIGHT = 0.2
    """Of a new observation in the means by size of batch."""
    TRY_AGAIN = 256
    """Windows after which a size that was not worth it is tried again."""
    SURE = 8
    """Batches of a size after which what it gains is believed."""

    def __init__(
        self,
        declared_s: float,
        *,
        first_share: float = 1.0,
        max_batch: int = 1,
        fewer_s: Mapping[int, float] = _NO_FEWER,
    ) -> None:
        """Begins with what the model declares.

        Args:
            declared_s: Time of a steady window with all steps.
            first_share: Frames of a first window for each of a steady one.
            max_batch: Most windows in a batch.
            fewer_s: Time of a steady window with fewer steps, by their number.
        """
        self._declared_s = {
            (first, steps): seconds * (first_share if first else 1.0)
            for steps, seconds in {0: declared_s, **fewer_s}.items()
            for first in (False, True)
        }
        self._alone = {kind: Recent(declared) for kind, declared in self._declared_s.items()}
        self._fewer = tuple(fewer_s)
        self._max_batch = max_batch
        self._windows = 0
        self._means: dict[int, float] = {}
        """Time of steady windows that ran together, by their number."""
        self._measured_at: dict[int, int] = {}
        """By size of batch, how many windows there had been when it was last measured."""
        self._seen = Counter[int]()
        """By size of batch, how many were measured."""

    def observe(
        self, seconds: float, *, first: bool = False, size: int = 1, steps: int = 0
    ) -> None:
        """Takes in the time of windows that ran together.

        Args:
            seconds: Until the last stage of all of them.
            first: Whether they were first windows of their runs.
            size: How many.
            steps: With how many steps; 0: all.
        """
        self._windows += size
        if size == 1:
            self._alone[first, steps].add(seconds)
        if not (first or steps):
            mean = self._means.get(size, seconds)
            self._means[size] = mean + self.WEIGHT * (seconds - mean)
            self._measured_at[size] = self._windows
            self._seen[size] += 1

    @property
    def typical_s(self) -> float:
        """The median of a steady window alone, for the ledger."""
        return self._alone[False, 0].quantile(0.5)

    @property
    def fewer_s(self) -> dict[int, float]:
        """The same with fewer steps, by their number, as far as it was measured."""
        seen = {steps: self._alone[False, steps] for steps in self._fewer}
        return {steps: recent.quantile(0.5) for steps, recent in seen.items() if len(recent)}

    @property
    def worst_s(self) -> float:
        """What hardly any steady window exceeds, for deadlines."""
        return self.worst(first=False)

    def worst(self, *, first: bool, steps: int = 0) -> float:
        """Returns what 99 % of windows do not exceed: of runs' first, or of all later ones."""
        seen = self._alone[first, steps]
        slow = seen.quantile(0.99)
        return slow if len(seen) >= self.FEW else max(slow, self._declared_s[first, steps])

    def batching(self) -> Batching:
        """Returns the measured gains of batches, and a size that is to be measured."""
        if 1 not in self._means:
            return Batching()
        gains = {size: self._gain(size) for size in self._means if size > 1}
        return Batching(gains, next(filter(self._to_be_tried, range(2, self._max_batch + 1)), None))

    @property
    def sure_gains(self) -> dict[int, float]:
        """What batches gain, by their size, where that was measured often enough to count on."""
        if self._seen[1] < self.SURE:
            return {}
        sure = (size for size, count in self._seen.items() if size > 1 and count >= self.SURE)
        return {size: self._gain(size) for size in sure}

    def _gain(self, size: int) -> float:
        return size * self._means[1] / max(self._means[size], 1e-9)

    def _to_be_tried(self, size: int) -> bool:
        if size not in self._means:
            return True
        poor = size * self._means[1] < WORTHWHILE * self._means[size]
        return poor and self._windows - self._measured_at[size] >= self.TRY_AGAIN
