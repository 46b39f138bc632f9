"""Counts what a viewer saw and what it did not: pure, fed with frames and times.

Within a run every frame has the next index, so that a viewer can tell missing, repeated
and out-of-order frames by itself. Lateness is measured against an *anchor*: the frame of
a stretch that came earliest in relation to its due time. A stretch ends with its run, or
where the picture was held on purpose (`reanchor`).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

FRAME_RATE: Final = 24.0
"""Frames per second of main_video."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """What was seen of one run."""

    run: int
    """Number of the run."""
    first_frame: int
    """Lowest index seen."""
    last_frame: int
    """Highest index seen."""
    received: int
    """Different frames seen."""
    missing: int
    """Frames between the first and the last that never came; with `expect`, of the whole run."""
    repeated: int
    """Frames that came again."""
    out_of_order: int
    """Frames that came after a later one."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was seen. Times are in milliseconds."""

    video: str
    """What the pictures were: `encoded` for the session, `canned`, or `not decoded`."""
    received: int
    """Different frames."""
    missing: int
    """Frames that never came."""
    repeated: int
    """Frames that came again."""
    held: int
    """Pictures that were sent again on purpose while the picture held; in no other number."""
    out_of_order: int
    """Frames that came after a later one."""
    unreadable: int
    """Pictures without a readable marker."""
    foreign: int
    """Pictures of another session."""
    mismatched: int
    """Pictures whose marker is not the frame that the stream announced."""
    late: int
    """Frames that came more than the allowed time after they were due."""
    lateness_ms: dict[str, float]
    """Percentiles of arrival after the due time, by the anchor."""
    jitter_ms: dict[str, float]
    """Percentiles of how much the time between two frames differs from what was due."""
    freezes: int
    """Stretches in which no frame came for much longer than was due."""
    longest_freeze_ms: float
    """The longest of them; 0 without one."""
    fps: float
    """Frames per second while frames were due; 0 when fewer than two came."""
    runs: tuple[RunReport, ...]
    """The same, by run, in the order they were seen."""


@dataclass(slots=True)
class _Run:
    """Which frames of a run were seen: all from `first` to `last` outside the gaps."""

    number: int
    first: int
    last: int
    gaps: list[range] = field(default_factory=list)
    repeated: int = 0
    out_of_order: int = 0
    expected: int | None = None

    def add(self, frame: int) -> bool:
        """Notes a frame; returns whether it is the next or a later one."""
        if frame > self.last:
            self._gap(self.last + 1, frame)
            self.last = frame
            return True
        if frame < self.first:
            self._gap(frame + 1, self.first)
            self.first = frame
            self.out_of_order += 1
            return False
        for index, gap in enumerate(self.gaps):
            if frame in gap:
                rest = (range(gap.start, frame), range(frame + 1, gap.stop))
                self.gaps[index : index + 1] = [each for each in rest if each]
                self.out_of_order += 1
                return False
        self.repeated += 1
        return False

    def report(self) -> RunReport:
        inside = sum(map(len, self.gaps))
        received = self.last - self.first + 1 - inside
        missing = inside if self.expected is None else max(0, self.expected - received)
        return RunReport(
            run=self.number,
            first_frame=self.first,
            last_frame=self.last,
            received=received,
            missing=missing,
            repeated=self.repeated,
            out_of_order=self.out_of_order,
        )

    def _gap(self, start: int, stop: int) -> None:
        if stop > start:
            self.gaps.append(range(start, stop))


@dataclass(slots=True)
class _Stretch:
    """Frames whose due times hang together."""

    arrivals: array[float] = field(default_factory=lambda: array("d"))
    dues: array[float] = field(default_factory=lambda: array("d"))

    def lateness(self) -> list[float]:
        offsets = [came - due for came, due in zip(self.arrivals, self.dues, strict=True)]
        anchor = min(offsets, default=0.0)
        return [offset - anchor for offset in offsets]

    def surpluses(self) -> list[float]:
        """Returns by how much each pause between two frames was longer than due."""
        pairs = zip(self.arrivals, self.arrivals[1:], self.dues, self.dues[1:], strict=False)
        return [(later - came) - (next_due - due) for came, later, due, next_due in pairs]


class FrameLedger:
    """Takes frames as they come, and reports."""

    def __init__(
        self,
        *,
        period_s: float = 1 / FRAME_RATE,
        late_s: float = 0.1,
        freeze_s: float = 0.5,
        modulo: int | None = None,
    ) -> None:
        """Stores what counts as late and as a freeze.

        Args:
            period_s: Seconds from one frame to the next.
            late_s: Seconds after its due time from which a frame is late.
            freeze_s: Seconds without a frame, beyond what was due, from which it is a freeze.
            modulo: Frame numbers start again at 0 there; None when they do not.
        """
        self._period_s = period_s
        self._late_s = late_s
        self._freeze_s = freeze_s
        self._modulo = modulo
        self._runs: dict[int, _Run] = {}
        self._run: int | None = None
        self._stretches: list[_Stretch] = []
        self._hold = True
        self.video = "not decoded"
        """What the pictures are; the owner tells once it knows."""
        self.unreadable = 0
        """Pictures without a readable marker; the owner counts."""
        self.foreign = 0
        """Pictures of another session; the owner counts."""
        self.held = 0
        """Pictures that were sent again on purpose; the owner counts."""
        self.mismatched = 0
        """Pictures that are not what the stream announced; the owner counts."""

    def seen(self, run: int, frame: int, arrival_s: float, due_s: float | None = None) -> None:
        """Notes a frame.

        Args:
            run: Number of its run.
            frame: Its index in the run, modulo `modulo`.
            arrival_s: When it came, on any clock that never falls.
            due_s: When it was due, on any other; by default as its index says.
        """
        known = self._runs.get(run)
        if known is None:
            self._runs[run] = _Run(run, frame, frame)
            advances = True
        else:
            frame = self._unwrapped(frame, known.last)
            advances = known.add(frame)
        if not advances:
            return
        if self._hold or run != self._run:
            self._hold, self._run = False, run
            self._stretches.append(_Stretch())
        self._stretches[-1].arrivals.append(arrival_s)
        self._stretches[-1].dues.append(frame * self._period_s if due_s is None else due_s)

    def reanchor(self) -> None:
        """The picture was held on purpose: the next frame is the first of a new stretch."""
        self._hold = True

    def expect(self, run: int, frames: int) -> None:
        """Says how many frames a run had, so that those before the first and after the last count.

        Args:
            run: Number of the run; nothing happens when none of its frames was seen.
            frames: All its frames.
        """
        if run in self._runs:
            self._runs[run].expected = frames

    def report(self) -> Report:
        """Returns what was seen so far."""
        runs = tuple(run.report() for run in self._runs.values())
        lateness = [each for stretch in self._stretches for each in stretch.lateness()]
        surpluses = [each for stretch in self._stretches for each in stretch.surpluses()]
        freezes = [each for each in surpluses if each > self._freeze_s]
        return Report(
            video=self.video,
            received=sum(run.received for run in runs),
            missing=sum(run.missing for run in runs),
            repeated=sum(run.repeated for run in runs),
            held=self.held,
            out_of_order=sum(run.out_of_order for run in runs),
            unreadable=self.unreadable,
            foreign=self.foreign,
            mismatched=self.mismatched,
            late=sum(each > self._late_s for each in lateness),
            lateness_ms=percentiles(lateness),
            jitter_ms=percentiles([abs(each) for each in surpluses]),
            freezes=len(freezes),
            longest_freeze_ms=round(max(freezes, default=0.0) * 1e3, 3),
            fps=self._fps(),
            runs=runs,
        )

    def _fps(self) -> float:
        frames = sum(len(each.arrivals) - 1 for each in self._stretches)
        seconds = sum(each.arrivals[-1] - each.arrivals[0] for each in self._stretches)
        return round(frames / seconds, 3) if seconds > 0 else 0.0

    def _unwrapped(self, frame: int, last: int) -> int:
        """Returns the index nearest to the next one due that shows as this number."""
        if self._modulo is None:
            return frame
        return frame + self._modulo * max(0, round((last + 1 - frame) / self._modulo))


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Returns p50, p95, p99 (nearest rank) and max in milliseconds; empty without values."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    ranks = {f"p{rank}": math.ceil(rank / 100 * len(ordered)) - 1 for rank in (50, 95, 99)}
    chosen = {name: ordered[max(0, index)] for name, index in ranks.items()}
    return {name: round(each * 1e3, 3) for name, each in (*chosen.items(), ("max", ordered[-1]))}
