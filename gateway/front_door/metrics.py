"""The media workers of a front door, as Prometheus sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

OWN: Final = "front_door"
"""Value of the label that says which process a sample is of, on this process's own."""


class Worker(Protocol):
    """A media worker, as far as this goes."""

    index: int
    """Which."""

    @property
    def backend(self) -> object | None:
        """Its connections while it runs."""

    @property
    def load(self) -> int:
        """Sessions that it takes part in."""


class MediaWorkerCollector(Collector):
    """The media workers of this process.

    Args:
        workers: All of them.
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers

    @classmethod
    def described(cls) -> tuple[GaugeMetricFamily, ...]:
        """Returns its metrics without samples."""
        return (
            GaugeMetricFamily("sana_gateway_media_workers", "Media workers.", labels=("state",)),
            GaugeMetricFamily(
                "sana_gateway_media_worker_sessions",
                "Sessions that a media worker takes part in.",
                labels=("index",),
            ),
        )

    def describe(self) -> Iterator[Metric]:
        """Returns its metrics without samples."""
        return iter(self.described())

    def collect(self) -> Iterator[Metric]:
        """Returns how many run, and what each has."""
        states, sessions = self.described()
        running = sum(each.backend is not None for each in self._workers)
        states.add_metric(("running",), running)
        states.add_metric(("down",), len(self._workers) - running)
        for each in self._workers:
            sessions.add_metric((str(each.index),), each.load)
        yield states
        yield sessions
