"""How long commands take, by their kind and the wire they came over."""

from __future__ import annotations

from typing import Final

from prometheus_client import Histogram

from sana_gateway.v1 import command_pb2
from scheduler.process.instruments import exemplar_of

COMMANDS: Final = Histogram(
    "sana_gateway_command_seconds",
    "From when a command is taken to its ack. The wire is `grpc`, `reactor` (data channels) or "
    "`whip` (HTTP); the outcome `accepted`, `refused`, or `unanswered` where the connection ended "
    "first.",
    ("command", "wire", "outcome"),
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0, 10.0),
)
WIRES: Final = frozenset({"grpc", "reactor", "whip"})
OTHER: Final = "other"
_KINDS: Final = frozenset(
    field.name for field in command_pb2.Command.DESCRIPTOR.oneofs_by_name["command"].fields
)


def observe(command: str, wire: str, outcome: str, took_s: float, traceparent: str = "") -> None:
    """Measures a command.

    Args:
        command: Its kind; one that the contract does not have counts as `invalid`.
        wire: What it came over.
        outcome: `accepted`, `refused` or `unanswered`.
        took_s: Seconds.
        traceparent: Of its span.
    """
    kind = command if command in _KINDS else "invalid"
    told = wire if wire in WIRES else OTHER
    COMMANDS.labels(kind, told, outcome).observe(took_s, exemplar_of(traceparent))
