"""What became of a fleet that something was done to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.e2e.pool.fleet import Fleet


@dataclass
class Outcome:
    """What a scenario did to a fleet. Times in seconds."""

    scenario: str
    sessions: int
    times: int
    strays: int
    """Frames that may be missing or come again, for each session and time."""
    lost: list[str] = field(default_factory=list)
    """Why sessions ended."""
    missing: int = 0
    """Frames that never came."""
    repeated: int = 0
    """Frames that came again."""
    mismatched: int = 0
    """Decoded pictures that are not what their packet said."""
    decoded: int = 0
    gaps_s: list[float] = field(default_factory=list)
    """The longest gap of any viewer, for each time."""
    back_s: list[float] = field(default_factory=list)
    """The longest wait of any viewer for a frame after the deed, for each time."""
    continuity: dict[str, int] = field(default_factory=dict)
    """How sessions went on, by kind."""
    late: int = 0
    """Frames more than 100 ms late."""

    @property
    def worst_gap_s(self) -> float:
        """The longest gap of all."""
        return max(self.gaps_s, default=0.0)

    @property
    def faults(self) -> list[str]:
        """What should not have come of it, in words; nothing where all is well."""
        return list(self._faults())

    def settle(self, fleet: Fleet) -> None:
        """Adds up what the viewers saw."""
        self.lost = fleet.lost
        self.missing = sum(each.numbers.lost for each in fleet.members)
        self.repeated = sum(each.numbers.repeated for each in fleet.members)
        self.late = sum(each.late for each in fleet.members)
        self.mismatched = sum(each.mismatched for each in fleet.members)
        self.decoded = sum(each.decoded for each in fleet.members)
        self.continuity = dict(Counter(kind for each in fleet.members for kind in each.moves))

    def as_json(self) -> dict[str, Any]:
        """Returns it with the numbers that are quoted."""
        return {
            **asdict(self),
            "gaps_s": [round(gap, 3) for gap in self.gaps_s],
            "back_s": [round(back, 3) for back in self.back_s],
            "worst_gap_s": round(self.worst_gap_s, 3),
            "faults": self.faults,
        }

    def _faults(self) -> Iterator[str]:
        if self.lost:
            yield f"sessions were lost: {self.lost}"
        if self.missing + self.repeated > self.strays * self.sessions * self.times:
            yield f"{self.missing} frames are missing, {self.repeated} came again"
        if self.mismatched:
            yield f"{self.mismatched} of {self.decoded} pictures are not what their packet said"
