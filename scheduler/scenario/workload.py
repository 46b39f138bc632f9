"""Who comes, and what they do. Nothing here knows of GPUs or of wires."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from scheduler.scenario.distributions import Distribution, Exponential, Lognormal
from scheduler.scenario.durations import Duration, Span
from scheduler.scenario.record import NamedFile, Record, Share

_DAY_S = 86_400.0
MOST = 1_000_000
"""Sessions at once, or a minute: whoever asks for more has mistyped it."""


class Steady(Record):
    """As many connected as there are on average, from the beginning on, at random moments
    (Poisson).
    """

    kind: Literal["steady"]
    connected: float = Field(gt=0, le=MOST)
    """Sessions that are connected on average; the rate follows from their mean length."""


class Diurnal(Record):
    """The same, following the day as a sine between a trough and a peak (Poisson)."""

    kind: Literal["diurnal"]
    connected: float = Field(gt=0, le=MOST)
    """Sessions that are connected at the peak."""
    trough: Share = 0.4
    """Share of the peak at the quietest hour."""
    peak_hour: float = Field(default=12.0, ge=0, le=24)
    """Hours from the beginning of the run to the peak; the trough is twelve away from it."""


class Level(Record):
    """Exactly so many at any time: whoever leaves is followed by another at once."""

    kind: Literal["level"]
    connected: int = Field(gt=0, le=MOST)
    over: Duration = 10.0
    """The first come evenly within this time, from the beginning of the warm-up on."""


class Constant(Record):
    """One after the other, always after the same time; nobody is there at the beginning."""

    kind: Literal["constant"]
    per_minute: float = Field(gt=0, le=MOST)


class Poisson(Record):
    """One after the other, at random moments; nobody is there at the beginning."""

    kind: Literal["poisson"]
    per_minute: float = Field(gt=0, le=MOST)


class Ramp(Record):
    """More and more, or fewer and fewer, at random moments (Poisson)."""

    kind: Literal["ramp"]
    from_per_minute: float = Field(ge=0, le=MOST)
    """Until the measured time begins."""
    to_per_minute: float = Field(ge=0, le=MOST)
    """When the ramp is over, until the end."""
    over: Span

    @model_validator(mode="after")
    def _somebody(self) -> Ramp:
        if self.from_per_minute == self.to_per_minute == 0:
            raise ValueError("nobody comes at 0 per minute")
        return self


class ArrivalTrace(Record):
    """Arrivals from a CSV file with a heading: `arrive_s` and, where known, `length_s`
    (seconds) and `mode` (live or file). What is missing is drawn.
    """

    kind: Literal["trace"]
    path: NamedFile


Arrivals = Annotated[
    Steady | Diurnal | Level | Constant | Poisson | Ramp | ArrivalTrace,
    Field(discriminator="kind"),
]


class Crowd(Record):
    """Sessions that come all at once, beside the others: a flash crowd."""

    at: Duration
    """Counted from the beginning of the measured time."""
    sessions: int = Field(gt=0, le=MOST)
    over: Span = 60.0
    """They come at random moments within this time."""


class Workload(Record):
    """Who comes, and what they do."""

    arrivals: Arrivals | None = None
    crowds: tuple[Crowd, ...] = ()
    session: Distribution = Lognormal(kind="lognormal", mean=1800.0)
    """From connecting to leaving."""
    think: Distribution = Exponential(kind="exponential", mean=10.0)
    """From connecting to the first `start`: choosing a clip, writing a prompt."""
    play: Distribution = Exponential(kind="exponential", mean=540.0)
    """From `start` or `resume` to `pause` or the end of the clip."""
    pause: Distribution = Exponential(kind="exponential", mean=360.0)
    """From there to the next `start` or `resume`."""
    live_share: Share = 0.7
    """Sessions that edit a camera; the others edit a clip."""
    prompts_per_minute: float = Field(default=1.0, ge=0, le=600)
    """While playing, at random moments. Placement does not depend on them: only the load
    harness sends them."""

    @model_validator(mode="after")
    def _somebody(self) -> Workload:
        if self.arrivals is None and not self.crowds:
            raise ValueError("nobody comes: give arrivals or crowds")
        return self


def connected(arrivals: Steady | Diurnal) -> Callable[[float], float]:
    """Returns the sessions that are connected on average, as a function of the time."""
    if isinstance(arrivals, Steady):
        return lambda _: arrivals.connected
    middle = arrivals.connected * (1 + arrivals.trough) / 2
    swing = arrivals.connected * (1 - arrivals.trough) / 2
    turn, peak_s = 2 * math.pi / _DAY_S, 3600.0 * arrivals.peak_hour
    return lambda t: middle + swing * math.cos(turn * (t - peak_s))


def rate(arrivals: Constant | Poisson | Ramp) -> Callable[[float], float]:
    """Returns the arrivals per second, as a function of the time."""
    if not isinstance(arrivals, Ramp):
        return lambda _: arrivals.per_minute / 60.0
    begin, end, over = arrivals.from_per_minute, arrivals.to_per_minute, arrivals.over
    return lambda t: (begin + (end - begin) * min(1.0, max(0.0, t / over))) / 60.0


def there_at_first(workload: Workload, begin: float) -> float:
    """Returns how many sessions are there soon after a run begins, on average."""
    match workload.arrivals:
        case Steady() | Diurnal() as arrivals:
            return connected(arrivals)(begin)
        case Level(connected=sessions):
            return sessions
        case _:
            return 0.0
