"""How the standing lines between our own processes notice that a peer is gone."""

from __future__ import annotations

from typing import Final

KEEPALIVE: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    # What gRPC really waits for, a minute by default.
    ("grpc.http2.ping_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
"""For either end: a peer that is stopped or cut off is noticed within the sum of the first two,
however silent the line is. gRPC answers pings on threads of its own, whatever Python computes."""
ACCEPTED_PINGS: Final = ("grpc.http2.min_ping_interval_without_data_ms", 500)
"""For the end that listens: it takes pings as often as our processes send them."""
