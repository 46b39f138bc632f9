"""Uploads in three steps: a slot, the bytes, and a notice that the server does not need.

The slot's URL is its own capability: unguessable, for one upload, for 15 minutes. The
bytes come without a token, so nothing else about the request is trusted.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import StreamReader, web

from gateway import http, ports
from gateway.ingress import IngressServices
from scheduler.core.errors import (
    BadArgumentError,
    BadUploadError,
    LimitError,
    SessionClosedError,
    UnknownUploadError,
)
from sdk_adapters.reactor.sessions import Sessions

LIFETIME_S: Final = 900.0
"""How long the URL of a slot is good for."""
MAX_SLOTS: Final = 4096
"""Open slots of the gateway."""
BLOCK_BYTES: Final = 1024 * 1024
"""What is handed to the storage at a time."""


@dataclass(slots=True)
class Slot:
    """Room for one upload."""

    session_id: str
    upload_id: str
    size: int
    expires_at: float
    busy: bool = False
    """Whether bytes are coming in now."""


class Slots:
    """The open slots by capability. Pure but for the capability's randomness."""

    def __init__(self) -> None:
        self._slots: dict[str, Slot] = {}

    def open(self, session_id: str, upload_id: str, size: int, now: float) -> str:
        """Makes a slot and returns its capability.

        Raises:
            LimitError: Too many slots are open.
        """
        while self._slots and next(iter(self._slots.values())).expires_at <= now:
            del self._slots[next(iter(self._slots))]
        if len(self._slots) >= MAX_SLOTS:
            raise LimitError("too many uploads are open")
        capability = secrets.token_urlsafe(32)
        self._slots[capability] = Slot(session_id, upload_id, size, now + LIFETIME_S)
        return capability

    def find(self, capability: str, now: float) -> Slot:
        """Returns a slot.

        Raises:
            UnknownUploadError: There is none, or its time is over.
        """
        slot = self._slots.get(capability)
        if slot is None or slot.expires_at <= now:
            raise UnknownUploadError("no such upload, or its time is over")
        return slot


class UploadRoutes:
    """The two HTTP routes of uploads."""

    def __init__(
        self,
        services: IngressServices,
        sessions: Sessions,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts without slots.

        Args:
            services: Where uploads go, and who calls.
            sessions: The sessions that uploads belong to.
            now: Monotonic clock in seconds.
        """
        self._services = services
        self._sessions = sessions
        self._now = now
        self._slots = Slots()

    def routes(self) -> list[web.AbstractRouteDef]:
        """Returns what to mount."""
        return [
            web.post("/sessions/{session_id}/uploads", self._reserve),
            web.put("/uploads/{capability}", self._receive),
        ]

    async def _reserve(self, request: web.Request) -> web.Response:
        principal = http.caller(self._services, request)
        room = await self._sessions.find(principal, request.match_info["session_id"])
        if room.ended:
            raise SessionClosedError("the session has ended")
        name, mime_type, size = _announced(await http.json_object(request))
        session_id = room.session.session_id
        record = await self._services.uploads.reserve(session_id, name, mime_type, size)
        upload_id = record.file.upload_id
        capability = self._slots.open(session_id, upload_id, size, self._now())
        return web.json_response(
            {
                "presigned_id": upload_id,
                "presigned_url": f"{http.public_base(self._services, request)}"
                f"/uploads/{capability}",
                "path": f"sessions/{session_id}/uploads/{upload_id}/{name}",
            },
            status=201,
        )

    async def _receive(self, request: web.Request) -> web.Response:
        slot = self._slots.find(request.match_info["capability"], self._now())
        if request.content_length is not None and request.content_length != slot.size:
            raise BadUploadError("the length differs from the announced size")
        record = self._services.uploads.find(slot.session_id, slot.upload_id)
        if record.complete or slot.busy:
            return web.json_response({"detail": "this upload is complete or under way"}, status=409)
        slot.busy = True
        try:
            async with asyncio.timeout(LIFETIME_S):
                record = await self._write(request, slot, record)
        except TimeoutError:
            raise web.HTTPRequestTimeout from None
        finally:
            slot.busy = False
        if not record.complete:
            raise BadUploadError("the body is shorter than the announced size")
        return web.json_response({"upload_id": slot.upload_id})

    async def _write(
        self, request: web.Request, slot: Slot, record: ports.UploadRecord
    ) -> ports.UploadRecord:
        """Stores the body, but for what an earlier, broken attempt has stored already."""
        known, position = record.received, 0
        async for block in _blocks(request.content):
            fresh = block[max(0, known - position) :]
            position += len(block)
            if fresh:
                record = await self._services.uploads.write(
                    slot.session_id, slot.upload_id, record.received, fresh
                )
        return record


async def _blocks(body: StreamReader) -> AsyncIterator[bytes]:
    """Yields a body in blocks that are worth a write each."""
    while True:
        try:
            yield await body.readexactly(BLOCK_BYTES)
        except asyncio.IncompleteReadError as end:
            if end.partial:
                yield end.partial
            return


def _announced(body: dict[str, object]) -> tuple[str, str, int]:
    """Returns name, MIME type and size of an upload to come.

    Raises:
        BadArgumentError: One of them is missing or wrong.
    """
    name, mime_type, size = body.get("name"), body.get("mime_type"), body.get("size")
    if not isinstance(name, str) or not name or not isinstance(mime_type, str) or not mime_type:
        raise BadArgumentError("an upload needs a name and a mime_type")
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise BadArgumentError("an upload needs a size of at least 1")
    return name, mime_type, size
