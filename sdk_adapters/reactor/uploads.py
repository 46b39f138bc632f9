"""Uploads in three steps: a slot, the bytes, and a notice that the server does not need.

The slot's URL is its own capability: signed by this process, for one upload, for 15 minutes.
The bytes come without a token, so nothing else about the request is trusted. All that is kept
of an upload is its record, which goes with its session: there is nothing that the uploads of
some could fill for others.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from aiohttp import StreamReader, web

from gateway import http, ports
from gateway.ingress import IngressServices
from scheduler.core.errors import (
    BadArgumentError,
    BadUploadError,
    SessionClosedError,
    UnknownUploadError,
)
from sdk_adapters.reactor.sessions import Sessions

LIFETIME_S: Final = 900.0
"""How long the URL of a slot is good for."""
BLOCK_BYTES: Final = 1024 * 1024
"""What is handed to the storage at a time."""

_SIGNATURE_BYTES: Final = 32


class Capabilities:
    """Names uploads to whoever holds their URL. Pure but for its key."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def of(self, session_id: str, upload_id: str, now: float) -> str:
        """Returns the capability to send the bytes of an upload, good for `LIFETIME_S`.

        Args:
            session_id: Of the session.
            upload_id: Of the upload.
            now: Monotonic clock in seconds.
        """
        said = "\n".join((session_id, upload_id, repr(now + LIFETIME_S))).encode()
        return base64.urlsafe_b64encode(self._signature(said) + said).decode().rstrip("=")

    def read(self, capability: str, now: float) -> tuple[str, str]:
        """Returns the session and the upload of a capability.

        Args:
            capability: As the client says it.
            now: Monotonic clock in seconds.

        Raises:
            UnknownUploadError: It was not made here, or its time is over.
        """
        try:
            data = base64.urlsafe_b64decode(capability + "=" * (-len(capability) % 4))
        except ValueError:
            data = b""
        signature, said = data[:_SIGNATURE_BYTES], data[_SIGNATURE_BYTES:]
        if hmac.compare_digest(signature, self._signature(said)):
            session_id, upload_id, until = said.decode().rsplit("\n", 2)
            if now < float(until):
                return session_id, upload_id
        raise UnknownUploadError("no such upload, or its time is over")

    def _signature(self, said: bytes) -> bytes:
        return hmac.digest(self._key, said, "sha256")


class UploadRoutes:
    """The two HTTP routes of uploads."""

    def __init__(
        self,
        services: IngressServices,
        sessions: Sessions,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts without uploads.

        Args:
            services: Where uploads go, and who calls.
            sessions: The sessions that uploads belong to.
            now: Monotonic clock in seconds.
        """
        self._services = services
        self._sessions = sessions
        self._now = now
        self._capabilities = Capabilities()
        self._arriving: set[tuple[str, str]] = set()
        """Uploads whose bytes are coming in now."""

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
        capability = self._capabilities.of(session_id, upload_id, self._now())
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
        slot = self._capabilities.read(request.match_info["capability"], self._now())
        record = self._services.uploads.find(*slot)
        if request.content_length is not None and request.content_length != record.file.size:
            raise BadUploadError("the length differs from the announced size")
        if record.complete or slot in self._arriving:
            return web.json_response({"detail": "this upload is complete or under way"}, status=409)
        self._arriving.add(slot)
        try:
            async with asyncio.timeout(LIFETIME_S):
                record = await self._write(request, slot, record)
        except TimeoutError:
            raise web.HTTPRequestTimeout from None
        finally:
            self._arriving.discard(slot)
        if not record.complete:
            raise BadUploadError("the body is shorter than the announced size")
        return web.json_response({"upload_id": record.file.upload_id})

    async def _write(
        self, request: web.Request, slot: tuple[str, str], record: ports.UploadRecord
    ) -> ports.UploadRecord:
        """Stores the body, but for what an earlier, broken attempt has stored already."""
        known, position = record.received, 0
        async for block in _blocks(request.content):
            fresh = block[max(0, known - position) :]
            position += len(block)
            if fresh:
                record = await self._services.uploads.write(*slot, record.received, fresh)
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
