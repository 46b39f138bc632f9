"""The routes that our own clients have beside Reactor's: the place in the queue, and copies."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from aiohttp import web

from gateway import http
from gateway.ingress import IngressServices
from sana_gateway.v1 import message_pb2, session_pb2
from scheduler.core.errors import BadArgumentError, LimitError, SessionClosedError
from sdk_adapters.reactor import schema
from sdk_adapters.reactor.http_routes import check_version
from sdk_adapters.reactor.sessions import Room, Sessions

ID_LENGTH: Final = 64
"""Most characters of an id that a client makes."""


class TypedRoutes:
    """Handlers of both routes."""

    def __init__(self, services: IngressServices, sessions: Sessions) -> None:
        """Prepares the handlers.

        Args:
            services: The hub and who calls.
            sessions: The sessions.
        """
        self._services = services
        self._sessions = sessions

    def routes(self) -> list[web.AbstractRouteDef]:
        """Returns what to mount."""
        return [
            web.get("/sessions/{session_id}/place", self._place),
            web.post("/sessions/{session_id}/forks", self._fork),
        ]

    async def _place(self, request: web.Request) -> web.Response:
        """Shows a session once it is placed, has ended, or has another position than `seen`.

        Waits 20 s at most. Whoever asks keeps the place in the queue; who only polls the
        session itself loses it after two minutes.
        """
        check_version(request)
        principal = http.caller(self._services, request)
        room = await self._sessions.find(principal, request.match_info["session_id"])
        seen = request.query.get("seen", "0")
        if not seen.isdecimal() or len(seen) > 9:
            raise BadArgumentError("seen is the last position in the queue, or 0")
        if room.session.describe().status == session_pb2.SESSION_STATUS_WAITING:
            is_gone = partial(_has_hung_up, request)
            await self._sessions.hold(partial(_moved, room, int(seen)), is_gone)
        return web.json_response(schema.full(room.session.describe()))

    async def _fork(self, request: web.Request) -> web.Response:
        """Copies a session as it is now; see `SessionService.ForkSession`."""
        check_version(request)
        principal = http.caller(self._services, request)
        session_id = request.match_info["session_id"]
        await self._sessions.find(principal, session_id)
        body = await http.json_object(request)
        copies, request_id = body.get("copies"), body.get("request_id", "")
        if isinstance(copies, bool) or not isinstance(copies, int):
            raise BadArgumentError("copies is missing: how many, from 1")
        if not isinstance(request_id, str) or len(request_id) > ID_LENGTH:
            raise BadArgumentError(f"request_id is a text of at most {ID_LENGTH} characters")
        made = await self._services.hub.fork(principal, session_id, copies, request_id)
        shown = [schema.slim(each.describe()) for each in made]
        return web.json_response({"sessions": shown}, status=201)


def _has_hung_up(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


async def _moved(room: Room, seen: int) -> None:
    """Returns once a session is not at a position of the queue any more."""
    sink = _Watcher(seen)
    try:
        connection, _ = room.session.connect(sink)
    except (SessionClosedError, LimitError):
        return
    try:
        await sink.moved.wait()
    finally:
        connection.close()


class _Watcher:
    """Learns what becomes of a session that waits."""

    def __init__(self, seen: int) -> None:
        self.moved = asyncio.Event()
        self._seen = seen

    def queued(self, position: int, estimated_wait_s: float) -> None:  # noqa: ARG002
        """It has a position."""
        if position != self._seen:
            self.moved.set()

    def ready(self) -> None:
        """It has its place."""
        self.moved.set()

    def ended(self, reason: str) -> None:  # noqa: ARG002
        """It has ended."""
        self.moved.set()

    def message(self, message: message_pb2.Message) -> None:
        """Not of interest."""

    def ack(self, command_id: str, accepted: bool) -> None:
        """Not of interest."""

    def camera_keyframe(self) -> None:
        """Not of interest."""
