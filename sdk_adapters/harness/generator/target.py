"""What is put under load."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Target:
    """A running service. Several addresses are several gateways of one pool."""

    grpc: tuple[str, ...]
    """`host:port` of the gRPC of each gateway; sessions are spread over them."""
    http: tuple[str, ...] = ()
    """`host:port` of their HTTP, in the same order: for browsers and for /metrics."""
    token: str = ""
    """Bearer token; empty where none is needed."""
    turn: str = field(default="", repr=False)
    """`turn:user:password@host:port` for networks that go through TURN; empty: there is none."""
