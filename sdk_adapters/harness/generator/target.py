"""What is put under load."""

from __future__ import annotations

from dataclasses import dataclass, field

from sana_gateway import Client, RetryPolicy


@dataclass(frozen=True, slots=True)
class Target:
    """A running service. Several addresses are several gateways of one pool."""

    grpc: tuple[str, ...]
    """`host:port` of the gRPC of each gateway; sessions are spread over them. Empty where the
    service is yet to be started."""
    http: tuple[str, ...] = ()
    """`host:port` of their HTTP, in the same order: for browsers and for /metrics."""
    token: str = field(default="", repr=False)
    """Bearer token; empty where none is needed."""
    turn: str = field(default="", repr=False)
    """`turn:user:password@host:port` for networks that go through TURN; empty: there is none."""

    def client(
        self,
        gateway: int = 0,
        *,
        policy: RetryPolicy | None = None,
        command_timeout: float = 30.0,
    ) -> Client:
        """Returns a client of one of its gateways. Make it inside a running event loop.

        Args:
            gateway: Which.
            policy: How long it tries again.
            command_timeout: Seconds a command may take.
        """
        return Client(
            self.grpc[gateway],
            token=self.token or None,
            policy=policy,
            command_timeout=command_timeout,
        )
