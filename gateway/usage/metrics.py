"""Usage for Prometheus.

A label for every tenant would let clients make series without end. So a tenant has series of its
own where the configuration names it (`--tenant NAME:...`, at most fifty of them); all others are
counted together, under an empty name. What each session has used is not told here, but by
`UsageService`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from sana_gateway.v1 import usage_pb2

_PREFIX: Final = "sana_gateway_usage_"
_FIGURES: Final = {
    "chunks": ("chunks", 1.0, "Chunks that were shown to their end, each once."),
    "streamed_seconds": ("streamed_us", 1e-6, "Video that was shown, at the model's own rate."),
    "compute_seconds": (
        "compute_us",
        1e-6,
        "Time that models took for what was shown, each chunk once.",
    ),
    "spent_compute_seconds": (
        "spent_us",
        1e-6,
        "Time that models took for all windows, shown or not, also those made again.",
    ),
    "sent_bytes": ("bytes_out", 1.0, "Encoded video handed to viewers, each viewer counted."),
    "camera_bytes": ("bytes_in", 1.0, "Encoded video that cameras sent."),
    "uploaded_bytes": ("uploaded_bytes", 1.0, "Bytes of uploads."),
    "parked_seconds": ("parked_us", 1e-6, "Time that sessions were parked."),
}


class UsageCollector(Collector):
    """What tenants have used since the ledger began; nothing while the scheduler is away.

    All gateways tell the same, as they ask the same scheduler: take the highest of them.

    Args:
        rows: Returns it as last heard.
    """

    def __init__(self, rows: Callable[[], Sequence[usage_pb2.UsageRow]]) -> None:
        self._rows = rows

    @classmethod
    def described(cls) -> tuple[CounterMetricFamily, ...]:
        """Returns its metrics without samples."""
        return tuple(
            CounterMetricFamily(_PREFIX + name, text, labels=("tenant",))
            for name, (_, _, text) in _FIGURES.items()
        )

    def describe(self) -> Iterator[Metric]:
        """Returns its metrics without samples."""
        return iter(self.described())

    def collect(self) -> Iterator[Metric]:
        """Returns a counter for each figure."""
        rows = self._rows()
        for family, (field, unit, _) in zip(self.described(), _FIGURES.values(), strict=True):
            for row in rows:
                family.add_metric((row.tenant,), getattr(row, field) * unit)
            yield family
