"""The gRPC ingress: server, health, reflection, graceful stop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from gateway.grpc_api.event_service import EventService
from gateway.grpc_api.interceptors import CallInterceptor
from gateway.grpc_api.pool_service import PoolService
from gateway.grpc_api.session_service import SessionService
from gateway.ingress import IngressServices
from gateway.journals.service import ReplayService
from gateway.operator_calls import OperatorCalls
from gateway.readiness import Readiness
from gateway.usage.service import UsageService
from sana_gateway.v1 import (
    event_pb2,
    event_pb2_grpc,
    pool_pb2,
    pool_pb2_grpc,
    replay_pb2,
    replay_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
    usage_pb2,
    usage_pb2_grpc,
)
from scheduler.core.errors import ConfigurationError

MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""Largest message: decoding blocks the event loop, about a millisecond for this size."""

METADATA_BYTES: Final = 16 * 1024
"""Most metadata of a call: a token of an identity provider has 8,000 characters at most."""

MAX_CONNECTIONS: Final = 4096
"""Connections at once; further ones are closed unheard."""
HANDSHAKE_MS: Final = 5_000
"""How long a connection may take to speak HTTP/2."""
STREAMS_OF_CONNECTION: Final = 2048
"""Calls of one connection at once; its client holds further ones back."""

OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    # Beyond the first gRPC refuses some calls, by chance; beyond the second all.
    ("grpc.max_metadata_size", METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES),
    ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
    # A client that vanished without a word is noticed within half a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # What gRPC really waits for, a minute by default.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    # Two servers on one port by mistake must fail, not share it.
    ("grpc.so_reuseport", 0),
)
"""How our gRPC servers are set."""
PUBLIC: Final = (*OPTIONS, ("grpc.max_concurrent_streams", STREAMS_OF_CONNECTION))
"""The same where anybody may connect. A front door needs one connection for all its calls."""
_SERVICES: Final = (
    session_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name,
    pool_pb2.DESCRIPTOR.services_by_name["PoolService"].full_name,
    event_pb2.DESCRIPTOR.services_by_name["EventService"].full_name,
    usage_pb2.DESCRIPTOR.services_by_name["UsageService"].full_name,
    replay_pb2.DESCRIPTOR.services_by_name["ReplayService"].full_name,
)
LIVENESS: Final = "liveness"
READINESS: Final = "readiness"
STARTUP: Final = "startup"
"""What the health service is asked about beside our services; see `gateway.readiness`."""
LOOK_S: Final = 0.5
"""How often it looks whether it is ready."""
_LOG: Final = structlog.get_logger("gateway.grpc_api")


class GrpcIngress:
    """Serves the public contract over gRPC."""

    def __init__(self, services: IngressServices) -> None:
        self._services = services
        self._sessions = SessionService(services)
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._server: grpc.aio.Server | None = None
        self._readying: asyncio.Task[None] | None = None
        hub = services.hub
        self._readiness = services.readiness or Readiness(hub.served_models, started=True)
        self._address = services.settings.grpc_address

    @property
    def address(self) -> str:
        """Where it listens, `host:port`; with the real port once started."""
        return self._address

    async def start(self) -> None:
        """Listens.

        Raises:
            ConfigurationError: The address cannot be listened on.
        """
        server = grpc.aio.server(
            interceptors=(
                CallInterceptor(
                    self._services.auth, rates=self._services.rates, audit=self._services.audit
                ),
            ),
            options=OPTIONS if self._address.startswith("unix:") else PUBLIC,
            maximum_concurrent_rpcs=self._services.settings.max_streams,
        )
        session_pb2_grpc.add_SessionServiceServicer_to_server(self._sessions, server)
        services = self._services
        pool = PoolService(OperatorCalls(services))
        pool_pb2_grpc.add_PoolServiceServicer_to_server(pool, server)
        events = EventService(services.operations)
        event_pb2_grpc.add_EventServiceServicer_to_server(events, server)
        usage_pb2_grpc.add_UsageServiceServicer_to_server(
            UsageService(services.usage, services.audit), server
        )
        replay_pb2_grpc.add_ReplayServiceServicer_to_server(
            ReplayService(services.journals), server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflected = (*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(reflected, server)
        wanted = self._services.settings.grpc_address
        try:
            port = self._services.doors.listen(server, wanted)
        except RuntimeError as error:
            raise ConfigurationError(f"gRPC cannot listen on {wanted}") from error
        await server.start()
        self._server = server
        unix = wanted.startswith("unix:")
        self._address = wanted if unix else f"{wanted.rpartition(':')[0]}:{port}"
        await tell(self._health, ("", *_SERVICES, LIVENESS, STARTUP), healthy=True)
        self._readying = asyncio.create_task(self._follow_readiness(), name="readiness")
        _LOG.info("grpc listens", address=self._address)

    async def stop(self, grace: float) -> None:
        """Stops: not healthy at once, streams end, calls under way get `grace` seconds.

        Args:
            grace: Seconds until what still runs is cancelled.
        """
        server, self._server = self._server, None
        if server is None:
            return
        await self._health.enter_graceful_shutdown()
        if self._readying is not None:
            self._readying.cancel()
            await asyncio.gather(self._readying, return_exceptions=True)
        self._sessions.stop_streams()
        await server.stop(grace)
        await self._sessions.close()

    async def _follow_readiness(self) -> None:
        """Tells whoever asks for its health whether it is ready, until cancelled."""
        while True:
            ready = not self._readiness.why_not_ready
            await tell(self._health, (READINESS,), healthy=ready)
            await asyncio.sleep(LOOK_S)


async def tell(servicer: Any, services: Iterable[str], *, healthy: bool) -> None:  # noqa: ANN401 - it has no types
    """Sets the health of services.

    Args:
        servicer: The health service.
        services: Which; the empty name stands for the server.
        healthy: Whether they serve.
    """
    status = health_pb2.HealthCheckResponse
    for service in services:
        await servicer.set(service, status.SERVING if healthy else status.NOT_SERVING)
