"""Clips and recordings: what clients are answered, and where they fetch what they asked for.

A clip is named by where it begins and ends in the recording, so its playlist can be asked for
again, of any gateway, as long as the recording is kept. The playlist is for who has the token;
the files that it names are for whoever has their addresses: players send no token.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from gateway import http, ports
from gateway.ingress import IngressServices
from gateway.recording.errors import (
    ClipBusyError,
    ClipFailedError,
    ClipGoneError,
    ClipPendingError,
    ClipUnknownError,
)
from gateway.recording.index import HEADER
from gateway.recording.library import Library, SignedFile
from gateway.recording.playlist import MEDIA_TYPE
from gateway.recording.shelf import OpenFile
from scheduler.core.errors import BadArgumentError
from scheduler.process.storage import StorageError
from sdk_adapters.reactor import wire

RETRY_AFTER_S: Final = 1
"""When a playlist is to be asked for again whose end is not stored yet, and a file while too many
are being sent. Clients wait at most 2 s; the last segment ends when a clip is asked for, so this
is seldom."""
SEND_S: Final = 60.0
"""How long a file may take to be sent; who takes longer could not play it either."""
NO_CLIP: Final = "no such clip"
UNREADABLE: Final = "the recording cannot be read just now"

_FILES: Final = "clips/chunks"


def answer(
    session: ports.HubSession, asked: wire.ClipRequest | wire.RecordingRequest
) -> wire.ClipReady | wire.ClipFailed:
    """Returns what a client is told that wants a clip or the recording."""
    try:
        clip = session.request_clip(
            _seconds(asked.duration_s) if isinstance(asked, wire.ClipRequest) else None
        )
    except ClipFailedError as error:
        return wire.ClipFailed(asked.request_id, str(error))
    # In whole milliseconds, and never past what was recorded.
    start_s, end_s = clip.start_us // 1000 / 1000, clip.end_us // 1000 / 1000
    where = {"session_id": clip.session_id, "start": f"{start_s:.3f}", "end": f"{end_s:.3f}"}
    return wire.ClipReady(
        request_id=asked.request_id,
        session_id=clip.session_id,
        kind="recording" if clip.whole else "snap",
        start_marker=start_s,
        end_marker=end_s,
        now_marker=end_s,
        predicted_ready_at_ms=round(clip.ready_at * 1000),
        playlist_url=f"/clips?{urlencode(where)}",
    )


class ClipRoutes:
    """The two HTTP routes of clips."""

    def __init__(self, services: IngressServices) -> None:
        """Prepares the handlers.

        Args:
            services: What was recorded, and who calls.
        """
        self._services = services

    def routes(self) -> list[web.AbstractRouteDef]:
        """Returns what to mount."""
        return [
            web.get("/clips", self._playlist),
            web.get(f"/{_FILES}/{{session_id}}/{{file}}", self._file),
        ]

    async def _playlist(self, request: web.Request) -> web.Response:
        principal = http.caller(self._services, request)
        session_id = request.query.get("session_id", "")
        start_s, end_s = _marker(request, "start"), _marker(request, "end")
        if end_s <= start_s:
            raise BadArgumentError("a clip ends after it begins")
        try:
            body = await self._library().playlist(principal, session_id, start_s, end_s, _address)
        except ClipUnknownError:
            return _refusal(NO_CLIP, 404)
        except ClipGoneError:
            return _refusal("this clip is kept no longer", 410)
        except ClipPendingError:
            return web.Response(status=202, headers={"Retry-After": str(RETRY_AFTER_S)})
        except StorageError:
            return _refusal(UNREADABLE, 503)
        # It names addresses that are good for a while; the same request gives fresh ones.
        return web.Response(
            text=body, content_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"}
        )

    async def _file(self, request: web.Request) -> web.StreamResponse:
        session_id, name = request.match_info["session_id"], request.match_info["file"]
        until, signed = request.query.get("until", ""), request.query.get("signature", "")
        try:
            async with self._library().file(session_id, name, until, signed) as file:
                return await _sent(request, name, file)
        except ClipUnknownError as error:
            return _refusal(str(error), 404)
        except ClipBusyError as error:
            return _refusal(str(error), 503, {"Retry-After": str(RETRY_AFTER_S)})
        except StorageError:
            return _refusal(UNREADABLE, 503)

    def _library(self) -> Library:
        """Returns what was recorded.

        Raises:
            ClipUnknownError: Nothing is.
        """
        if self._services.recordings is None:
            raise ClipUnknownError(NO_CLIP)
        return self._services.recordings


def _seconds(told: object) -> float:
    """Returns a number of seconds; of anything else, one that makes no clip."""
    if isinstance(told, (int, float)) and not isinstance(told, bool):
        try:
            return float(told)
        except OverflowError:
            return math.inf
    return math.nan


def _marker(request: web.Request, name: str) -> float:
    try:
        marker = float(request.query.get(name, ""))
    except ValueError:
        marker = math.nan
    if not (math.isfinite(marker) and 0 <= marker < 1e9):
        raise BadArgumentError(f"{name} is a number of seconds")
    return marker


def _address(file: SignedFile) -> str:
    """Returns where a file is, relative to its playlist: it may lie below a path of a proxy."""
    said = urlencode({"until": file.until, "signature": file.signature})
    return f"{_FILES}/{file.session_id}/{file.name}?{said}"


async def _sent(request: web.Request, name: str, file: OpenFile) -> web.StreamResponse:
    """Sends a file, as fast as the client reads it."""
    response = web.StreamResponse()
    response.content_type = "video/mp4" if name == HEADER else "video/iso.segment"
    response.content_length = file.size
    try:
        async with asyncio.timeout(SEND_S):
            await response.prepare(request)
            if request.method == "GET":
                for piece in file.pieces():
                    await response.write(piece)
    except TimeoutError:
        # Half of a file cannot be told from the whole unless the connection breaks.
        if request.transport is not None:
            request.transport.abort()
    return response


def _refusal(detail: str, status: int, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"detail": detail}, status=status, headers=headers)
