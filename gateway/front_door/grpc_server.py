"""The public gRPC server: forwarded calls, and health and reflection of its own."""

from __future__ import annotations

from typing import Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from gateway.audit import AuditLog
from gateway.doors import Doors
from gateway.front_door.grpc_forwarding import Choose, Forwarding
from gateway.front_door.routing import METHODS
from gateway.grpc_api.interceptors import CallInterceptor
from gateway.grpc_api.server import LIVENESS, PUBLIC, READINESS, STARTUP, tell
from gateway.ingress import Authenticator
from gateway.limits.calls import CallRates
from scheduler.core.errors import ConfigurationError

_SERVICES: Final = tuple(dict.fromkeys(path.split("/")[1] for path in METHODS))
_log = structlog.get_logger(__name__)


class FrontDoorGrpc:
    """Serves the public contract by forwarding it."""

    def __init__(
        self,
        address: str,
        auth: Authenticator,
        choose: Choose,
        doors: Doors,
        *,
        max_streams: int,
        rates: CallRates | None = None,
        audit: AuditLog | None = None,
    ) -> None:
        """Prepares the server.

        Args:
            address: Where to listen, `host:port`; port 0 takes a free one.
            auth: Who calls: nothing is forwarded of a caller that it refuses.
            choose: Returns the worker for a route.
            doors: What it shows to clients.
            max_streams: Calls in progress at once; further ones are refused.
            rates: How often who may call; None: any number of times.
            audit: Remembers who tried what operators alone may do.
        """
        self._rates = rates
        self._audit = audit
        self.address = address
        """Where it listens; with the real port once started."""
        self._auth = auth
        self._choose = choose
        self._doors = doors
        self._max_streams = max_streams
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listens; not healthy yet.

        Raises:
            ConfigurationError: The address cannot be listened on.
        """
        server = grpc.aio.server(
            interceptors=(
                CallInterceptor(self._auth, measured=False, rates=self._rates, audit=self._audit),
            ),
            options=PUBLIC,
            maximum_concurrent_rpcs=self._max_streams,
        )
        server.add_generic_rpc_handlers((Forwarding(self._choose),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflected = (*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(reflected, server)
        try:
            port = self._doors.listen(server, self.address)
        except RuntimeError as error:
            raise ConfigurationError(f"gRPC cannot listen on {self.address}") from error
        await server.start()
        self._server = server
        self.address = f"{self.address.rpartition(':')[0]}:{port}"
        await self.tell(healthy=False, ready=False, started=False)
        _log.info("grpc listens", address=self.address)

    async def tell(self, *, healthy: bool, ready: bool, started: bool) -> None:
        """Says how it is to whoever asks for its health.

        Args:
            healthy: Whether some worker runs.
            ready: Whether clients should come here.
            started: Whether all workers have run at some time.
        """
        await tell(self._health, (LIVENESS,), healthy=True)
        await tell(self._health, ("", *_SERVICES), healthy=healthy)
        await tell(self._health, (READINESS,), healthy=ready)
        await tell(self._health, (STARTUP,), healthy=started)

    async def begin_stop(self) -> None:
        """Is not healthy any more; calls go on."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace: float) -> None:
        """Stops; calls under way get `grace` seconds. Repeating it is no error."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace)
