"""Which frames of a session came: missing and repeated ones are known by their numbers. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

GAPS: Final = 4096
"""Ranges of missing frames of a run that are remembered; the oldest stay lost."""


class Numbers:
    """Frames as (run, index): within a run every frame has the next index."""

    def __init__(self) -> None:
        """Has seen nothing."""
        self.run = 0
        """Run of the newest frame."""
        self.next = 0
        """Index of the frame that is next in it."""
        self.lost = 0
        """Frames that never came so far, of those that count."""
        self.repeated = 0
        """Frames that came again, of those that count."""
        self.amid = False
        """Whether the next run that a frame comes of may have begun before: nothing is missing
        before that frame."""
        self._missing: deque[range] = deque(maxlen=GAPS)
        self._whole: int | None = None

    def unusual(self, run: int, frame: int, *, held: bool, counts: bool) -> bool:
        """Takes a frame that is not the next; returns whether it is new.

        Args:
            run: Its run.
            frame: Its index in the run.
            held: Whether it would be the newest picture held, if it is the newest again.
            counts: Whether its moment counts.
        """
        if run > self.run:
            self.over(counts=counts)
            self.run, self.next = run, frame + 1
            self._missing.clear()
            self._miss(range(0 if self.amid else frame), counts=counts)
            self.amid = False
            return True
        if run < self.run:
            return False
        if frame > self.next:
            self._miss(range(self.next, frame), counts=counts)
            self.next = frame + 1
            return True
        if held and frame == self.next - 1:
            return False
        if self._found(frame):
            return True
        self.repeated += counts
        return False

    def whole(self, frames: int) -> None:
        """The present run is complete with so many frames; the last may be on their way."""
        self._whole = frames

    def over(self, *, counts: bool) -> None:
        """No frame of the present run comes any more: of a complete one, none may be missing."""
        if self._whole is not None:
            self._miss(range(self.next, self._whole), counts=counts)
        self._whole = None

    def _miss(self, frames: range, *, counts: bool) -> None:
        if frames and counts:
            self._missing.append(frames)
            self.lost += len(frames)

    def _found(self, frame: int) -> bool:
        """Takes a missing frame off the list, if it is on it."""
        gap = next((each for each in self._missing if frame in each), None)
        if gap is None:
            return False
        self._missing.remove(gap)
        rests = (range(gap.start, frame), range(frame + 1, gap.stop))
        self._missing.extend(rest for rest in rests if rest)
        self.lost -= 1
        return True
