"""What the actor knows of the play-out clock, which runs at the gateway."""

from __future__ import annotations

from dataclasses import dataclass


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


class WindowCost:
    """How long windows take, as the deadline rule needs it: the slow end of the recent past."""

    def __init__(self, declared_s: float, history: int = 32) -> None:
        """Begins with what the model declares."""
        self._declared_s = declared_s
        self._history = history
        self._seen: list[float] = []

    def observe(self, seconds: float) -> None:
        """Takes in the time of one window."""
        self._seen = [*self._seen, seconds][-self._history :]

    @property
    def typical_s(self) -> float:
        """The median, for the ledger."""
        ordered = sorted(self._seen) or [self._declared_s]
        return ordered[len(ordered) // 2]

    @property
    def worst_s(self) -> float:
        """The slowest of the recent windows (of 32: about p97), for deadlines."""
        return max([*self._seen, self._declared_s]) if len(self._seen) < 4 else max(self._seen)
