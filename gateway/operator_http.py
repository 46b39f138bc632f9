"""What operators ask over gRPC, over HTTP as well: for the console at `/console`, and for `curl`.

The calls are those of `PoolService` and `UsageService`, with the same checks, errors and lines of
the audit log. Answers are the messages of the contract as JSON. A drain is told as server-sent
events, and so is what a session does while somebody looks: its events and its spans.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from aiohttp import web
from google.protobuf import json_format
from google.protobuf.message import Message

from gateway import auth, http, server_sent
from gateway.events_http import follow
from gateway.ingress import IngressServices
from gateway.operator_calls import OperatorCalls
from gateway.usage.reading import read_usage
from sana_gateway.v1 import event_pb2, pool_pb2, usage_pb2
from scheduler.core.errors import BadArgumentError
from scheduler.core.ids import Principal

SESSIONS: Final = {
    "all": pool_pb2.POOL_SESSIONS_ALL,
    "waiting": pool_pb2.POOL_SESSIONS_WAITING,
    "none": pool_pb2.POOL_SESSIONS_NONE,
}
"""Which sessions are told of with the pool, by the word that asks for them."""
BY: Final = {
    "session": usage_pb2.USAGE_BY_SESSION,
    "tenant": usage_pb2.USAGE_BY_TENANT,
}
"""What a row of usage is about, likewise."""
SEEN_BY_NOBODY_ELSE: Final = {"Cache-Control": "no-store"}
WORTH_PACKING: Final = 1024
"""Characters from which on an answer is sent compressed to who can read that."""
_MOST_GRACE_S: Final = 10 * 365 * 86_400.0
_DRAIN_FIELDS: Final = frozenset({"grace_s", "cancel"})


class OperatorRoutes:
    """Serves operators.

    Args:
        services: Who calls, and what is asked.
    """

    def __init__(self, services: IngressServices) -> None:
        self._services = services
        self._calls = OperatorCalls(services)

    def routes(self) -> list[web.RouteDef]:
        """Returns its routes."""
        session = "/operator/sessions/{session_id}"
        return [
            web.get("/operator/pool", self._pool, allow_head=False),
            web.get("/operator/usage", self._usage, allow_head=False),
            web.get(session, self._session, allow_head=False),
            web.delete(session, self._end),
            web.get(f"{session}/trace", self._trace, allow_head=False),
            web.post("/operator/actors/{actor_id}/drain", self._drain),
        ]

    async def _pool(self, request: web.Request) -> web.Response:
        principal = self._caller(request)
        sessions = _word(request, "sessions", SESSIONS, "all")
        pool = await self._calls.pool(principal, pool_pb2.DescribePoolRequest(sessions=sessions))
        # 8 ms for a thousand sessions: not on the loop.
        return _json(request, await asyncio.to_thread(_text, pool))

    async def _session(self, request: web.Request) -> web.Response:
        principal = self._caller(request)
        return _json(request, _text(await self._calls.session(principal, _session_of(request))))

    async def _end(self, request: web.Request) -> web.Response:
        principal = self._caller(request)
        reason = request.query.get("reason", "")
        await self._calls.end(principal, _session_of(request), reason)
        return web.Response(status=204)

    async def _usage(self, request: web.Request) -> web.Response:
        principal, query, services = self._caller(request), request.query, self._services
        asked = usage_pb2.ReadUsageRequest(
            by=_word(request, "by", BY, "session"),
            tenant=query.get("tenant", ""),
            session_id=query.get("session", ""),
            page_size=_whole(query.get("page_size", "0")),
            page_token=query.get("page_token", ""),
        )
        for name in ("since", "until"):
            if text := query.get(name):
                getattr(asked, name).FromDatetime(_moment(name, text))
        told = await read_usage(services.usage, services.audit, principal, asked)
        return _json(request, _text(told))

    async def _trace(self, request: web.Request) -> web.StreamResponse:
        principal, session_id = self._caller(request), _session_of(request)
        # One that is over, or never was, would be followed for ever.
        await self._calls.session(principal, session_id)
        asked = event_pb2.WatchEventsRequest(session_id=session_id, trace=True, after_sequence=0)
        return await follow(self._services, request, principal, asked)

    async def _drain(self, request: web.Request) -> web.StreamResponse:
        principal = self._caller(request)
        asked = _drain_asked(request.match_info["actor_id"], await http.json_object(request))
        return await server_sent.answer(request, self._drained(principal, asked))

    async def _drained(
        self, principal: Principal, asked: pool_pb2.DrainActorRequest
    ) -> AsyncIterator[str]:
        async for progress in self._calls.drain(principal, asked):
            yield server_sent.event("progress", _dict(progress))

    def _caller(self, request: web.Request) -> Principal:
        return http.caller(self._services, request, auth.OPERATOR)


def _session_of(request: web.Request) -> str:
    return request.match_info["session_id"]


def _dict(message: Message) -> dict[str, Any]:
    told: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return told


def _text(message: Message) -> str:
    return json.dumps(_dict(message), separators=(",", ":"))


def _json(request: web.Request, text: str) -> web.Response:
    response = web.Response(text=text, content_type="application/json", headers=SEEN_BY_NOBODY_ELSE)
    if len(text) > WORTH_PACKING and "gzip" in request.headers.get("Accept-Encoding", ""):
        response.enable_compression(web.ContentCoding.gzip)
    return response


def _word(request: web.Request, name: str, words: Mapping[str, Any], usual: str) -> Any:  # noqa: ANN401 - a value of an enumeration
    word = request.query.get(name) or usual
    if word not in words:
        raise BadArgumentError(f"{name} is {', '.join(words)}")
    return words[word]


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise BadArgumentError("page_size is a whole number")
    return int(text)


def _moment(name: str, text: str) -> dt.datetime:
    try:
        if text.isascii() and text.isdecimal():
            return dt.datetime.fromtimestamp(int(text), dt.UTC)
        read = dt.datetime.fromisoformat(text)
        read = read if read.tzinfo else read.replace(tzinfo=dt.UTC)
        return read.astimezone(dt.UTC)
    except (ValueError, OverflowError, OSError):
        form = "2026-11-01T12:00:00Z, or seconds since 1970"
        raise BadArgumentError(f"{name} is a time, as {form}") from None


def _drain_asked(actor_id: str, body: Mapping[str, Any]) -> pool_pb2.DrainActorRequest:
    if body.keys() - _DRAIN_FIELDS:
        raise BadArgumentError("a drain has grace_s and cancel, and nothing else")
    cancel, grace_s = body.get("cancel", False), body.get("grace_s")
    if not isinstance(cancel, bool):
        raise BadArgumentError("cancel is true or false")
    asked = pool_pb2.DrainActorRequest(actor_id=actor_id, cancel=cancel)
    if grace_s is not None:
        # A number that is none (NaN) is not within any bounds.
        is_number = isinstance(grace_s, int | float) and not isinstance(grace_s, bool)
        if not (is_number and -_MOST_GRACE_S <= grace_s <= _MOST_GRACE_S):
            raise BadArgumentError("grace_s is a number of seconds")
        asked.grace.FromMicroseconds(round(grace_s * 1e6))
    return asked
