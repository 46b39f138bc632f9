"""Distributions of durations, as scenarios name them.

Each is a small record with a `kind`; `sampler(random)` turns it into a function that draws.
All are given by what people know of a service, its mean, rather than by the parameters of
the textbook.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from random import Random
from typing import Annotated, Literal

from pydantic import Field, model_validator

from scheduler.core.errors import ConfigurationError
from scheduler.scenario.durations import Duration, Span
from scheduler.scenario.record import NamedFile, Record

Sampler = Callable[[], float]
"""Draws one duration, in seconds."""


class Fixed(Record):
    """Always the same."""

    kind: Literal["fixed"]
    value: Duration

    def sampler(self, random: Random) -> Sampler:  # noqa: ARG002 - nothing is drawn
        """Returns what draws from it."""
        value = self.value
        return lambda: value

    def average(self) -> float:
        """Returns the mean, in seconds."""
        return self.value


class Exponential(Record):
    """Without memory: the end is as likely now as ever."""

    kind: Literal["exponential"]
    mean: Span

    def sampler(self, random: Random) -> Sampler:
        """Returns what draws from it."""
        rate = 1.0 / self.mean
        return lambda: random.expovariate(rate)

    def average(self) -> float:
        """Returns the mean, in seconds."""
        return self.mean


class Lognormal(Record):
    """Many short ones and a few very long ones, as sessions of people are."""

    kind: Literal["lognormal"]
    mean: Span
    sigma: float = Field(default=0.8, gt=0, le=3)
    """Standard deviation of the logarithm; 0.8 makes the median 73 % of the mean."""

    def sampler(self, random: Random) -> Sampler:
        """Returns what draws from it."""
        mu, sigma = math.log(self.mean) - self.sigma**2 / 2, self.sigma
        return lambda: random.lognormvariate(mu, sigma)

    def average(self) -> float:
        """Returns the mean, in seconds."""
        return self.mean


class Uniform(Record):
    """Anything between two bounds, equally likely."""

    kind: Literal["uniform"]
    low: Duration
    high: Duration

    @model_validator(mode="after")
    def _ordered(self) -> Uniform:
        if self.high < self.low:
            raise ValueError("high is below low")
        return self

    def sampler(self, random: Random) -> Sampler:
        """Returns what draws from it."""
        low, high = self.low, self.high
        return lambda: random.uniform(low, high)

    def average(self) -> float:
        """Returns the mean, in seconds."""
        return (self.low + self.high) / 2


class Trace(Record):
    """Seconds that were observed, drawn at random: one number a line, or a column of a CSV."""

    kind: Literal["trace"]
    path: NamedFile
    column: str = ""
    """Heading of the column; empty: the first one, without a heading."""

    def sampler(self, random: Random) -> Sampler:
        """Returns what draws from it."""
        values = self.values()
        return lambda: random.choice(values)

    def average(self) -> float:
        """Returns the mean, in seconds."""
        values = self.values()
        return sum(values) / len(values)

    def values(self) -> list[float]:
        """Reads the file.

        Raises:
            ConfigurationError: It cannot be read, or holds no numbers of at least 0.
        """
        try:
            with self.path.open(newline="") as lines:
                values = (
                    [float(row[self.column]) for row in csv.DictReader(lines)]
                    if self.column
                    else [float(row[0]) for row in csv.reader(lines) if row]
                )
        except (OSError, ValueError, KeyError) as error:
            raise ConfigurationError(f"{self.path} is no trace: {type(error).__name__}") from None
        if not values or min(values) < 0:
            raise ConfigurationError(f"{self.path} holds no durations")
        return values


Distribution = Annotated[
    Fixed | Exponential | Lognormal | Uniform | Trace, Field(discriminator="kind")
]
