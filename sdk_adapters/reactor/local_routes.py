"""Local mode: one session for whoever develops on this machine, without tokens.

Its clients do not poll: a session is there at once or not at all. The routes exist only
where authentication is off.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from aiohttp import web

from gateway import auth, http
from gateway.ingress import IngressServices
from sana_gateway.v1 import message_pb2
from scheduler.core.errors import NoCapacityError, UnauthenticatedError, UnknownSessionError
from scheduler.core.ids import Principal
from sdk_adapters.reactor import schema
from sdk_adapters.reactor.http_routes import check_version
from sdk_adapters.reactor.sessions import Room, Sessions

PLACE_S: Final = 5.0
"""How long a session may take to be placed or queued."""
CONNECT_S: Final = 10.0
"""How long a session is kept for its client to connect before another may take over."""


class LocalRoutes:
    """Handlers of the three routes of local mode."""

    def __init__(
        self,
        services: IngressServices,
        sessions: Sessions,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts without a session.

        Args:
            services: The hub and who calls.
            sessions: The sessions.
            now: Monotonic clock in seconds.
        """
        self._services = services
        self._sessions = sessions
        self._now = now
        self._starting = asyncio.Lock()
        self._room: Room | None = None
        self._kept_until = 0.0

    def routes(self) -> list[web.AbstractRouteDef]:
        """Returns what to mount."""
        return [
            web.post("/start_session", self._start),
            web.get("/session", self._show),
            web.post("/stop_session", self._stop),
        ]

    async def _start(self, request: web.Request) -> web.Response:
        principal = self._caller(request)
        await http.json_object(request)
        async with self._starting:
            room = self._room
            if room is not None and not room.ended:
                if self._is_taken(room):
                    return web.json_response({"detail": "a session is running"}, status=409)
                await self._sessions.close(principal, room.session.session_id, "abandoned")
            self._room = room = await self._place(principal)
            self._kept_until = self._now() + CONNECT_S
        return web.json_response(schema.full(room.session.describe()))

    def _is_taken(self, room: Room) -> bool:
        """Whether somebody is connected, or may still be about to connect for the first time."""
        if any(link.call for link in room.links.values()):
            return bool(room.calls)
        return self._now() < self._kept_until

    async def _place(self, principal: Principal) -> Room:
        served = self._services.hub.served_models()
        if not served:
            raise NoCapacityError("no model is served yet", retry_after_s=1.0)
        room = await self._sessions.create(principal, served[0])
        if not await _is_placed(room):
            await self._sessions.close(principal, room.session.session_id, "no place is free")
            raise NoCapacityError("no place is free")
        return room

    async def _show(self, request: web.Request) -> web.Response:
        self._caller(request)
        return web.json_response(schema.full(self._running().session.describe()))

    async def _stop(self, request: web.Request) -> web.Response:
        principal = self._caller(request)
        room, self._room = self._running(), None
        await self._sessions.close(principal, room.session.session_id, "ended by the client")
        return web.json_response(schema.slim(room.session.describe()))

    def _running(self) -> Room:
        if self._room is None or self._room.ended:
            raise UnknownSessionError("no local session is running")
        return self._room

    def _caller(self, request: web.Request) -> Principal:
        if not isinstance(self._services.auth, auth.NoAuth):
            raise UnauthenticatedError("local mode exists only without authentication")
        check_version(request)
        return http.caller(self._services, request)


class _PlaceSink:
    """Learns at once whether a session has its place or queues for it."""

    def __init__(self) -> None:
        self.placed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def _settle(self, *, placed: bool) -> None:
        if not self.placed.done():
            self.placed.set_result(placed)

    def queued(self, position: int, estimated_wait_s: float) -> None:  # noqa: ARG002
        """There is no place now."""
        self._settle(placed=False)

    def ready(self) -> None:
        """There is one."""
        self._settle(placed=True)

    def ended(self, reason: str) -> None:  # noqa: ARG002
        """There will be none."""
        self._settle(placed=False)

    def message(self, message: message_pb2.Message) -> None:
        """Not of interest."""

    def ack(self, command_id: str, accepted: bool) -> None:
        """Not of interest."""

    def camera_keyframe(self) -> None:
        """Not of interest."""


async def _is_placed(room: Room) -> bool:
    sink = _PlaceSink()
    connection, _ = room.session.connect(sink)
    try:
        async with asyncio.timeout(PLACE_S):
            return await sink.placed
    except TimeoutError:
        return False
    finally:
        connection.close()
