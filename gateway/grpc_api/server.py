"""The gRPC ingress: server, health, reflection, graceful stop."""

from __future__ import annotations

from typing import Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from gateway.grpc_api.interceptors import CallInterceptor
from gateway.grpc_api.pool_service import PoolService
from gateway.grpc_api.session_service import SessionService
from gateway.ingress import IngressServices
from sana_gateway.v1 import pool_pb2, pool_pb2_grpc, session_pb2, session_pb2_grpc
from scheduler.core.errors import ConfigurationError

MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""Largest message: decoding blocks the event loop, about a millisecond for this size."""

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
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
_SERVICES: Final = (
    session_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name,
    pool_pb2.DESCRIPTOR.services_by_name["PoolService"].full_name,
)
_LOG: Final = structlog.get_logger("gateway.grpc_api")


class GrpcIngress:
    """Serves the public contract over gRPC."""

    def __init__(self, services: IngressServices) -> None:
        self._services = services
        self._sessions = SessionService(services)
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._server: grpc.aio.Server | None = None
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
            interceptors=(CallInterceptor(self._services.auth),),
            options=_OPTIONS,
            maximum_concurrent_rpcs=self._services.settings.max_streams,
        )
        session_pb2_grpc.add_SessionServiceServicer_to_server(self._sessions, server)
        pool = PoolService(self._services.pool, self._services.drain)
        pool_pb2_grpc.add_PoolServiceServicer_to_server(pool, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflected = (*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(reflected, server)
        wanted = self._services.settings.grpc_address
        try:
            port = server.add_insecure_port(wanted)
        except RuntimeError as error:
            raise ConfigurationError(f"gRPC cannot listen on {wanted}") from error
        await server.start()
        self._server = server
        unix = wanted.startswith("unix:")
        self._address = wanted if unix else f"{wanted.rpartition(':')[0]}:{port}"
        for service in ("", *_SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
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
        self._sessions.stop_streams()
        await server.stop(grace)
        await self._sessions.close()
