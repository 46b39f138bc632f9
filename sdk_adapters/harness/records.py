"""What the processes of a load test tell each other: one record per session and per second.

Times are seconds since the beginning of the run, on a clock that all processes of one
machine share (`time.monotonic`). Nothing here holds what a user typed or showed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ddsketch import LogCollapsingLowestDenseDDSketch

Sketch = LogCollapsingLowestDenseDDSketch
"""A distribution: bounded, mergeable, of known accuracy."""

ACCURACY: Final = 0.005
"""Relative error of every percentile."""
_BINS: Final = 2048
"""Most bins of a sketch; beyond, its lowest values are put together."""

FREEZES: Final = 256
"""Freezes of a session that are kept one by one."""


class Outcome(StrEnum):
    """How a session ended."""

    COMPLETED = "completed"
    """It did all that was planned."""
    CUT = "cut"
    """The run ended before it."""
    TURNED_AWAY = "turned-away"
    """The pool had no room and said so."""
    LOST = "lost"
    """It worked, and ended against the user's will."""
    FAILED = "failed"
    """It never worked, for another reason."""


def sketch() -> Sketch:
    """Returns an empty distribution."""
    return Sketch(relative_accuracy=ACCURACY, bin_limit=_BINS)


@dataclass(slots=True)
class SessionRecord:
    """All that was measured of one session."""

    number: int
    """Order of its planned arrival."""
    process: int
    """Which process of the generator drove it."""
    wire: str
    """`grpc`, `webrtc` or `chromium`."""
    codec: str
    network: str
    """Name of its network profile."""
    live: bool
    decoded: bool
    """Whether its pictures were decoded and their markers read."""
    planned_s: float
    """When it was to arrive."""
    session_id: str = ""
    began_s: float = 0.0
    ended_s: float = 0.0
    outcome: Outcome = Outcome.CUT
    failure: str = ""
    """Why it failed: the name of an error's kind or reason, never a text."""
    values: dict[str, Sketch] = field(default_factory=dict)
    """Distributions, by metric."""
    counts: dict[str, float] = field(default_factory=dict)
    """Counts, by metric; also `playing_s`, `frozen_s` and `bytes`, from which shares are made."""
    freezes: list[tuple[float, float]] = field(default_factory=list)
    """When its picture began to stand, and when it went on: infinite where it never did. The
    first `FREEZES`."""
    trace_ids: list[str] = field(default_factory=list)
    """Traces of its slowest commands, slowest first; at most four."""

    def add(self, metric: str, value: float) -> None:
        """Adds a value to a distribution."""
        if (values := self.values.get(metric)) is None:
            values = self.values[metric] = sketch()
        values.add(value)

    def count(self, metric: str, by: float = 1.0) -> None:
        """Adds to a count."""
        self.counts[metric] = self.counts.get(metric, 0.0) + by


@dataclass(slots=True)
class Second:
    """What one process of the generator saw in one second."""

    process: int
    at_s: float
    """Its end."""
    connected: int
    playing: int
    waiting: int
    """Sessions that wait for a place."""
    frames: int
    lost: int
    freezes: int
    failures: int
    """Sessions that failed, were lost or turned away."""
    cpu: float
    """CPU of the process, of one core."""
    lag_ms: float
    """How late its event loop ran, at worst."""
    values: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Median and 95th percentile within this second, by metric, where there were values."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process of the service takes at one moment."""

    rss_mb: float
    descriptors: int


@dataclass(slots=True)
class Scrape:
    """What the service said of itself at one moment: level metrics by name."""

    at_s: float
    levels: dict[str, float]
    processes: dict[str, Footprint] = field(default_factory=dict)
    """By a name that no later process has, so that slopes can be made of it."""


@dataclass(slots=True)
class Event:
    """Something that was done to the service or happened to all: for the timeline."""

    at_s: float
    what: str


@dataclass(slots=True)
class Measured:
    """One run, raw."""

    began_at: str
    """ISO 8601, UTC."""
    measured_s: tuple[float, float]
    """Beginning and end of the time that counts, after the warm-up."""
    sessions: list[SessionRecord] = field(default_factory=list)
    seconds: list[Second] = field(default_factory=list)
    scrapes: list[Scrape] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    not_measured: dict[str, str] = field(default_factory=dict)
    """Metrics that could not be measured, and why."""
    measuring_cpu_s: float = 0.0
    """CPU of the generator that went into measuring itself."""
    lag_p99_ms: dict[int, float] = field(default_factory=dict)
    """How late the event loop of each process of the generator ran, 99 of 100 looks, within
    the measured time; looks that a standing loop missed count as they would have found it."""
    invalid: list[str] = field(default_factory=list)
    """Why the run says nothing of the service: the generator was its own limit."""
    epoch: float = 0.0
    """When the run began, on the monotonic clock of the machine."""
