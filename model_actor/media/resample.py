"""Brings a camera of any rate to the model's rate, by timestamp. Pure."""

from __future__ import annotations

from dataclasses import dataclass

GAP_US = 500_000
"""A silence longer than this is skipped, not filled."""
EARLY = 0.5
"""A frame may serve a slot that begins at most this part of a period after it."""
LATE = 1.0
"""A frame may serve a slot that began at most this part of a period before it.

More than `1 - EARLY`, so that jitter around the border between two slots does not
make one frame be dropped and the next be shown twice, over and over.
"""


@dataclass(frozen=True, slots=True)
class Emission:
    """What one source frame makes due."""

    repeats: tuple[int, ...] = ()
    """Slot times in microseconds that the frame before this one fills."""
    fresh: int | None = None
    """Slot time that this frame fills; None: it is not needed."""


class Resampler:
    """Assigns source frames to slots `t_k = t_0 + k / rate`, as they come.

    A frame is emitted at once when its slot is due, so nothing is delayed. A faster
    source loses frames, a slower one has frames repeated, and never more than `rate`
    frames leave per second of source time. After a gap, or when the source's clock
    jumps back, `t_0` moves to the new frame.
    """

    def __init__(self, frame_rate: float) -> None:
        """Starts with no source frame seen."""
        self._period = 1_000_000 / frame_rate
        self._origin = 0
        self._slot = 0
        self._last: int | None = None

    def push(self, timestamp_us: int) -> Emission:
        """Tells what a source frame makes due.

        Args:
            timestamp_us: Its capture time on the source's clock.
        """
        last = self._last
        if last is None or not -GAP_US <= timestamp_us - last <= GAP_US:
            self._origin, self._slot, self._last = timestamp_us, 1, timestamp_us
            return Emission(fresh=timestamp_us)
        if timestamp_us <= last:
            return Emission()
        self._last = timestamp_us
        repeats = []
        while self._due() + LATE * self._period < timestamp_us:
            repeats.append(self._next_slot())
        fresh = None
        if timestamp_us >= self._due() - EARLY * self._period:
            fresh = self._next_slot()
        return Emission(tuple(repeats), fresh)

    def pace(self, frame_rate: float) -> None:
        """Goes on at another rate: the slot that is due next stays where it is."""
        self._origin, self._slot = round(self._due()), 0
        self._period = 1_000_000 / frame_rate

    def _due(self) -> float:
        return self._origin + self._slot * self._period

    def _next_slot(self) -> int:
        due = round(self._due())
        self._slot += 1
        return due
