"""What is counted while a scenario runs. Only what lies within the measured time counts."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """Counts of one run. Times are on the clock of the run: before 0 is the warm-up."""

    slots: int
    """Sessions that one GPU computes at once."""
    begin: float = 0.0
    comes: int = 0
    """Sessions that asked for a place, in the warm-up too."""
    leaves: int = 0
    """Of these, those that left after they had one."""
    turned_away: int = 0
    impatient: int = 0
    """Those that left while they waited for a place."""
    lost: int = 0
    """Those that the pool has ended by itself."""
    arrivals: int = 0
    """Within the measured time, like all that follows."""
    rejects: int = 0
    waits: array[float] = field(default_factory=lambda: array("d"))
    """Seconds from a start or resume to compute, with the state in place."""
    first_chunks: array[float] = field(default_factory=lambda: array("d"))
    """The same, to the end of the first window."""
    gaps: array[float] = field(default_factory=lambda: array("d"))
    """Seconds without a picture after the death of a GPU."""
    refused_starts: int = 0
    """Starts and resumes that were told to come back later; they did."""
    moves: int = 0
    parks: int = 0
    restores: int = 0
    skipped: int = 0
    """Chunks that were never made: their session was between two GPUs."""
    playing: int = 0
    """Sessions that compute now."""
    wanting: int = 0
    """Sessions that wait for compute now."""
    bound_s: float = 0.0
    """GPU-seconds of the bound."""
    playing_s: float = 0.0
    _since: float = -math.inf

    def measure_from(self, now: float) -> None:
        """The warm-up is over: what was counted until now is forgotten."""
        self.plays(now, 0)
        self.begin = now
        for name in ("refused_starts", "moves", "parks", "restores", "skipped"):
            setattr(self, name, 0)
        for values in (self.waits, self.first_chunks, self.gaps):
            del values[:]
        self.bound_s = self.playing_s = 0.0
        self.arrivals = self.rejects = 0

    def arrived(self, _: float) -> None:
        """A session has come."""
        self.comes += 1
        self.arrivals += 1

    def rejected(self, _: float) -> None:
        """It was turned away."""
        self.turned_away += 1
        self.rejects += 1

    def gave_up(self, _: float) -> None:
        """It left before it had a place."""
        self.impatient += 1

    def served(self, _: float) -> None:
        """It left."""
        self.leaves += 1

    def begun(self, _: float, waited: float, first_chunk: float) -> None:
        """A start or resume got what it needs."""
        self.waits.append(waited)
        self.first_chunks.append(waited + first_chunk)

    def recovered(self, gap: float) -> None:
        """A session goes on after the death of its GPU."""
        self.gaps.append(gap)

    def missed(self, chunks: int) -> None:
        """Chunks were never made."""
        self.skipped += chunks

    def plays(self, now: float, by: int) -> None:
        """So many more sessions compute from now on."""
        if now > self._since > -math.inf:
            seconds = now - self._since
            self.bound_s += seconds * self.bound
            self.playing_s += seconds * self.playing
        self._since = now
        self.playing += by

    @property
    def bound(self) -> int:
        """GPUs that those who compute now need at least."""
        return -(-self.playing // self.slots)
