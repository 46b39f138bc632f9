"""The HTTP side of the Reactor wire: tokens, sessions, signalling."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, Protocol, runtime_checkable

from aiohttp import web

from gateway import auth, http
from gateway.ingress import IceServer, IngressServices
from sana_gateway.v1 import session_pb2
from scheduler.core.errors import (
    BadArgumentError,
    BadOfferError,
    SessionClosedError,
    UnauthenticatedError,
    UnknownSessionError,
)
from scheduler.core.ids import Principal
from sdk_adapters.reactor import schema
from sdk_adapters.reactor.sessions import LEGACY_LINK, Link, Room, Sessions

_TRANSPORT: Final = "/sessions/{session_id}/transport/webrtc"
_CONNECTION: Final = _TRANSPORT + "/connections/{connection_id}"
_API_VERSION: Final = 1
_VERSION_DIGITS: Final = 4
"""Most digits of a version that is looked at."""
_MAX_SDP: Final = 65_536
"""Most characters of an offer."""
_MAX_CANDIDATES: Final = 64
"""Most candidates of one request."""
TOKEN_LIFETIME_S: Final = 6 * 3600
"""Longest life of a token; longer wishes are clamped."""


@runtime_checkable
class TokenIssuer(Protocol):
    """An authenticator that also exchanges API keys for tokens."""

    def issue(self, api_key: str | None, lifetime_s: int, details: object) -> tuple[str, int]:
        """Returns a token and when it expires, in seconds since 1970.

        Args:
            api_key: What the caller showed.
            lifetime_s: How long the token should live.
            details: The `authorization_details` that narrow it (RFC 9396); unchecked.

        Raises:
            UnauthenticatedError: The key is missing or wrong.
            BadArgumentError: The details make no sense.
        """


class Routes:
    """Handlers of all routes but uploads and local mode."""

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
        signalling = [
            web.RouteDef(method, path + "/sdp_params", handler, {})
            for path in (_TRANSPORT, _CONNECTION)
            for method, handler in (
                ("POST", self._offer),
                ("PUT", self._offer),
                ("GET", self._answer),
            )
        ]
        return [
            web.post("/tokens", self._tokens),
            web.post("/sessions", self._create),
            web.get("/sessions/{session_id}", self._show),
            web.get("/sessions/{session_id}/info", self._info),
            web.put("/sessions/{session_id}", self._restart),
            web.delete("/sessions/{session_id}", self._delete),
            web.get(_TRANSPORT + "/ice_servers", self._ice_servers),
            web.post(_TRANSPORT + "/connections", self._register),
            web.post(_CONNECTION + "/ice_candidates", self._candidates),
            web.post(_TRANSPORT + "/ice_candidates", self._candidates),
            *signalling,
        ]

    # Tokens.

    async def _tokens(self, request: web.Request) -> web.Response:
        body = await http.json_object(request)
        wanted = body.get("expires_after", TOKEN_LIFETIME_S)
        if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
            raise BadArgumentError("expires_after must be a positive number of seconds")
        lifetime_s = min(wanted, TOKEN_LIFETIME_S)
        token, expires_at = self._issue(
            request.headers.get("Reactor-API-Key"), lifetime_s, body.get("authorization_details")
        )
        return web.json_response({"jwt": token, "expires_at": expires_at})

    def _issue(self, api_key: str | None, lifetime_s: int, details: object) -> tuple[str, int]:
        authenticator = self._services.auth
        if isinstance(authenticator, TokenIssuer):
            return authenticator.issue(api_key, lifetime_s, details)
        if isinstance(authenticator, auth.NoAuth):
            return secrets.token_urlsafe(24), int(time.time()) + lifetime_s
        raise UnauthenticatedError("this server exchanges no API keys; bring a token")

    # Sessions.

    async def _create(self, request: web.Request) -> web.Response:
        principal = self._caller(request)
        model = (await http.json_object(request)).get("model")
        name = model.get("name") if isinstance(model, dict) else None
        if not isinstance(name, str) or not name:
            raise BadArgumentError("model.name is missing")
        room = await self._sessions.create(principal, name)
        return web.json_response(
            schema.slim(room.session.describe()) | {"state": "CREATED"}, status=201
        )

    async def _show(self, request: web.Request) -> web.Response:
        room = await self._room(request)
        await self._sessions.settled(room, partial(_has_hung_up, request))
        return web.json_response(schema.full(room.session.describe()))

    async def _info(self, request: web.Request) -> web.Response:
        shown = schema.slim((await self._room(request)).session.describe())
        return web.json_response({key: shown[key] for key in ("session_id", "state", "cluster")})

    async def _restart(self, request: web.Request) -> web.Response:
        return web.json_response(schema.full((await self._live_room(request)).session.describe()))

    async def _delete(self, request: web.Request) -> web.Response:
        principal = self._caller(request)
        await self._sessions.close(
            principal, request.match_info["session_id"], "ended by the client"
        )
        return web.Response(status=204)

    # Signalling.

    async def _ice_servers(self, request: web.Request) -> web.Response:
        await self._room(request)
        servers = [_ice_server(each) for each in self._services.peers.ice_servers()]
        return web.json_response({"ice_servers": servers})

    async def _register(self, request: web.Request) -> web.Response:
        room = await self._live_room(request)
        return web.json_response({"connection_id": room.register()}, status=201)

    async def _offer(self, request: web.Request) -> web.Response:
        room = await self._live_room(request)
        number, link = _link(request, room)
        body = await http.json_object(request)
        sdp = body.get("sdp_offer")
        if not isinstance(sdp, str) or not 0 < len(sdp) <= _MAX_SDP:
            raise BadOfferError("sdp_offer is missing or too long")
        tracks = _tracks(body.get("track_mapping"))
        self._sessions.offer(room, link, sdp, tracks, body.get("client_info"))
        return web.json_response({"connection_id": number}, status=202)

    async def _answer(self, request: web.Request) -> web.Response:
        number, link = _link(request, await self._room(request))
        answer = await self._sessions.answer(link, partial(_has_hung_up, request))
        if answer is None:
            return web.json_response({"connection_id": number}, status=202)
        return web.json_response({"sdp_answer": answer, "connection_id": number})

    async def _candidates(self, request: web.Request) -> web.Response:
        number, link = _link(request, await self._room(request))
        body = await http.json_object(request)
        candidates = [
            made for each in _listed(body.get("candidates")) if (made := _candidate(each))
        ]
        await self._sessions.add_candidates(link, candidates)
        return web.json_response({"connection_id": number}, status=202)

    # Common to all.

    def _caller(self, request: web.Request) -> Principal:
        check_version(request)
        return http.caller(self._services, request)

    async def _room(self, request: web.Request) -> Room:
        return await self._sessions.find(self._caller(request), request.match_info["session_id"])

    async def _live_room(self, request: web.Request) -> Room:
        room = await self._room(request)
        if room.ended:
            raise SessionClosedError("the session has ended")
        return room


def check_version(request: web.Request) -> None:
    """Refuses versions of the API that are not spoken here; no version is fine.

    Raises:
        BadArgumentError: The version is no number of a few digits.
        HTTPNotImplemented: The client is too new.
        HTTPUpgradeRequired: The client is too old.
    """
    said = request.headers.get("Reactor-API-Version", str(_API_VERSION))
    if not said.isdecimal() or len(said) > _VERSION_DIGITS:
        raise BadArgumentError("Reactor-API-Version is no number of a few digits")
    if int(said) > _API_VERSION:
        raise web.HTTPNotImplemented(reason="this server speaks version 1 of the API")
    if int(said) < _API_VERSION:
        raise web.HTTPUpgradeRequired(reason="this server speaks version 1 of the API")


def _ice_server(server: IceServer) -> dict[str, Any]:
    shown: dict[str, Any] = {"uris": list(server.urls)}
    if server.username is not None and server.credential is not None:
        shown["credentials"] = {"username": server.username, "password": server.credential}
    return shown


def _has_hung_up(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _link(request: web.Request, room: Room) -> tuple[int, Link]:
    said = request.match_info.get("connection_id", str(LEGACY_LINK))
    if not said.isdecimal() or len(said) > 4:
        raise UnknownSessionError("no such connection in this session")
    return int(said), room.link(int(said))


def _listed(value: object) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > _MAX_CANDIDATES:
        raise BadArgumentError("a list is missing or too long")
    return value


def _tracks(mapping: object) -> dict[str, str]:
    """Returns the names of tracks by mid.

    Raises:
        BadOfferError: The mapping is missing or makes no sense.
    """
    tracks: dict[str, str] = {}
    for entry in mapping if isinstance(mapping, list) else ():
        mid, name = (entry.get("mid"), entry.get("name")) if isinstance(entry, Mapping) else (0, 0)
        if not isinstance(mid, str) or not isinstance(name, str) or mid in tracks:
            raise BadOfferError("every track of track_mapping needs a mid of its own and a name")
        tracks[mid] = name
    if not tracks:
        raise BadOfferError("track_mapping is missing")
    return tracks


def _candidate(entry: object) -> session_pb2.IceCandidate | None:
    """Returns a candidate; None for the empty one that means the end."""
    if not isinstance(entry, Mapping):
        raise BadArgumentError("a candidate is an object")
    line, mid, index = entry.get("candidate"), entry.get("sdp_mid"), entry.get("sdp_mline_index")
    if not isinstance(line, str) or not line:
        return None
    return session_pb2.IceCandidate(
        candidate=line,
        sdp_mid=mid if isinstance(mid, str) else "",
        sdp_mline_index=index if isinstance(index, int) and 0 <= index < 1024 else 0,
    )
