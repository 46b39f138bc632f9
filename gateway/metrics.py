"""What a gateway measures of its calls, of commands, and of what viewers are given."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterator
from typing import Final, Protocol

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sana_gateway.v1 import media_pb2, session_pb2
from scheduler.process.instruments import CALL_SECONDS, CHUNK_SECONDS

GRPC_CALLS: Final = Histogram(
    "sana_gateway_grpc_call_seconds",
    "Time to answer a gRPC call; the life of one that is a stream.",
    ("method", "code"),
    buckets=CALL_SECONDS,
)
GRPC_OPEN: Final = Gauge(
    "sana_gateway_grpc_open_calls", "gRPC calls that are being answered.", ("method",)
)
PROMPT_TO_PIXELS: Final = Histogram(
    "sana_gateway_prompt_to_pixels_seconds",
    "From the arrival of a prompt, a start or a resume to the hand-out of the first frame in "
    "which it took effect.",
    buckets=(0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0),
)
SOURCE_TO_EMIT: Final = Histogram(
    "sana_gateway_source_to_emit_seconds",
    "From the arrival of a camera frame to the hand-out of what was made of it: the service's "
    "share of glass to glass. Measured once a chunk.",
    buckets=(0.1, 0.2, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0),
)
LATENESS: Final = Histogram(
    "sana_gateway_chunk_lateness_seconds",
    "How late the first frame of a chunk was handed out.",
    buckets=CHUNK_SECONDS,
)
UNDERRUNS: Final = Counter(
    "sana_gateway_playout_underruns",
    "Times a play-out clock had to wait for a chunk that was not there.",
)
WATCHERS: Final = Gauge(
    "sana_gateway_event_watchers", "Readers of the event journal here.", ("wire",)
)

_STATUSES: Final = {
    session_pb2.SESSION_STATUS_WAITING: "waiting",
    session_pb2.SESSION_STATUS_READY: "ready",
}


def observe(
    stats: media_pb2.ViewerStats, trace: dict[str, str] | None, counted: tuple[int, int]
) -> tuple[int, int]:
    """Measures a chunk whose first frame was handed out.

    Args:
        stats: What viewers are told of it.
        trace: Exemplar of the command that it answers, if there is one.
        counted: (run, underruns) that are counted already.

    Returns:
        The same, now.
    """
    LATENESS.observe(stats.late_us / 1e6, trace)
    if stats.command_to_emit_us:
        PROMPT_TO_PIXELS.observe(stats.command_to_emit_us / 1e6, trace)
    if stats.source_to_emit_us:
        SOURCE_TO_EMIT.observe(stats.source_to_emit_us / 1e6, trace)
    run, before = counted
    UNDERRUNS.inc(max(0, stats.underruns - (before if run == stats.run else 0)))
    return stats.run, stats.underruns


class Counted(Protocol):
    """A session, as far as it is counted."""

    @property
    def status(self) -> session_pb2.SessionStatus.ValueType:
        """Whether it waits, is ready, or has ended."""

    @property
    def connection_count(self) -> int:
        """Connections to it here."""


class SessionCollector(Collector):
    """The sessions that this process takes part in.

    Args:
        sessions: Returns them.
        limits: Bounds of this process, by what they bound.
    """

    def __init__(
        self,
        sessions: Callable[[], Collection[Counted]],
        limits: dict[str, int],
    ) -> None:
        self._sessions = sessions
        self._limits = limits

    @classmethod
    def described(cls) -> tuple[GaugeMetricFamily, ...]:
        """Returns its metrics without samples."""
        return (
            GaugeMetricFamily(
                "sana_gateway_sessions",
                "Sessions that this gateway takes part in.",
                labels=("status",),
            ),
            GaugeMetricFamily(
                "sana_gateway_connections", "Connections to sessions here, over any wire."
            ),
            GaugeMetricFamily(
                "sana_gateway_limit",
                "Most WebRTC peers (`webrtc_peers`), gRPC calls at once (`grpc_calls`) and "
                "connections of one session (`session_connections`) that this process takes.",
                labels=("of",),
            ),
        )

    def describe(self) -> Iterator[Metric]:
        """Returns its metrics without samples."""
        return iter(self.described())

    def collect(self) -> Iterator[Metric]:
        """Returns how many there are."""
        sessions, connections, limits = self.described()
        known = tuple(self._sessions())
        told = Tally(_STATUSES.get(each.status, "closed") for each in known)
        for status in _STATUSES.values():
            sessions.add_metric((status,), told[status])
        connections.add_metric((), sum(each.connection_count for each in known))
        for of, limit in self._limits.items():
            limits.add_metric((of,), limit)
        yield sessions
        yield connections
        yield limits
