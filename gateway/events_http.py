"""The event journal over HTTP: server-sent events, for browsers and for `curl`.

`GET /events` with a bearer token. Each event has its sequence as its id, so that a reader that
comes again with `Last-Event-ID` goes on where it was; one that is slow is told of a gap.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from gateway import auth, http, server_sent
from gateway.event_words import as_json, name_of, sequence_of
from gateway.ingress import IngressServices
from sana_gateway.v1 import event_pb2
from scheduler.core.errors import BadArgumentError
from scheduler.core.ids import Principal

_MOST_SEQUENCE: Final = 2**64 - 1
_TRUE: Final = frozenset({"1", "true"})


class EventRoutes:
    """Serves the journal.

    Args:
        services: Who calls, and what there is to follow.
    """

    def __init__(self, services: IngressServices) -> None:
        self._services = services

    def routes(self) -> list[web.RouteDef]:
        """Returns its routes."""
        return [web.get("/events", self._events, allow_head=False)]

    async def _events(self, request: web.Request) -> web.StreamResponse:
        principal = http.caller(self._services, request, auth.OPERATOR, auth.SESSION)
        query = request.query
        asked = event_pb2.WatchEventsRequest(
            session_id=query.get("session", ""),
            actor_id=query.get("actor", ""),
            chunks=query.get("chunks", "") in _TRUE,
            trace=query.get("trace", "") in _TRUE,
        )
        return await follow(self._services, request, principal, asked)


async def follow(
    services: IngressServices,
    request: web.Request,
    principal: Principal,
    asked: event_pb2.WatchEventsRequest,
) -> web.StreamResponse:
    """Answers a request with the journal, after the event that it names if it names one.

    Args:
        services: Follows it.
        request: What is answered.
        principal: Who asks.
        asked: What of the journal, and from where on unless the request says so.

    Raises:
        BadArgumentError: It names something else.
        ForbiddenError: What is asked for is for operators.
        LimitError: Too many follow it here, or too many sessions' traces are followed.
    """
    after = request.headers.get("Last-Event-ID") or request.query.get("after")
    if after:
        if not (after.isascii() and after.isdecimal() and int(after) <= _MOST_SEQUENCE):
            raise BadArgumentError("after is the sequence of an event")
        asked.after_sequence = int(after)
    words = services.operations.watch(principal, asked, "http")
    return await server_sent.answer(request, _written(words))


async def _written(words: AsyncIterator[event_pb2.WatchEventsResponse]) -> AsyncIterator[str]:
    async for word in words:
        yield written(word)


def written(word: event_pb2.WatchEventsResponse) -> str:
    """Returns a word of the journal as a server-sent event."""
    return server_sent.event(name_of(word), as_json(word), sequence_of(word))
