"""The event journal over HTTP: server-sent events, for browsers and for `curl`.

`GET /events` with a bearer token. Each event has its sequence as its id, so that a reader that
comes again with `Last-Event-ID` goes on where it was. A reader that takes nothing for a while is
disconnected; one that is slow is told of a gap.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from gateway import auth, http
from gateway.event_words import as_json, name_of, sequence_of
from gateway.ingress import IngressServices
from sana_gateway.v1 import event_pb2
from scheduler.core.errors import BadArgumentError

PING_S: Final = 15.0
"""Longest silence: proxies take a silent connection for a dead one."""
WRITE_S: Final = 30.0
"""How long a reader may take nothing."""
RETRY_MS: Final = 1000
"""When browsers are to come again."""
HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    # Proxies would else hold events until they have a buffer full.
    "X-Accel-Buffering": "no",
}
_MOST_SEQUENCE: Final = 2**64 - 1


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
        words = self._services.operations.watch(principal, _asked(request), "http")
        # What is refused is refused before anything is written.
        first = await anext(words, None)
        response = web.StreamResponse(headers=HEADERS)
        await response.prepare(request)
        try:
            await _write(response, f"retry: {RETRY_MS}\n\n")
            if first is not None:
                await _write(response, written(first))
                await _pass_on(words, response)
        except (TimeoutError, ConnectionError):
            # Nobody reads; what is not sent yet is of no use to anybody.
            if request.transport is not None:
                request.transport.abort()
        return response


async def _pass_on(
    words: AsyncIterator[event_pb2.WatchEventsResponse], response: web.StreamResponse
) -> None:
    coming = asyncio.ensure_future(anext(words, None))
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=PING_S)
            if not done:
                await _write(response, ": ping\n\n")
                continue
            word = coming.result()
            if word is None:
                return
            await _write(response, written(word))
            coming = asyncio.ensure_future(anext(words, None))
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def _write(response: web.StreamResponse, text: str) -> None:
    async with asyncio.timeout(WRITE_S):
        await response.write(text.encode())


def written(word: event_pb2.WatchEventsResponse) -> str:
    """Returns a word of the journal as a server-sent event."""
    number = sequence_of(word)
    identity = "" if number is None else f"id: {number}\n"
    return f"{identity}event: {name_of(word)}\ndata: {json.dumps(as_json(word))}\n\n"


def _asked(request: web.Request) -> event_pb2.WatchEventsRequest:
    query = request.query
    asked = event_pb2.WatchEventsRequest(
        session_id=query.get("session", ""),
        actor_id=query.get("actor", ""),
        chunks=query.get("chunks", "") in ("1", "true"),
    )
    after = request.headers.get("Last-Event-ID") or query.get("after")
    if after:
        if not (after.isascii() and after.isdecimal() and int(after) <= _MOST_SEQUENCE):
            raise BadArgumentError("after is the sequence of an event")
        asked.after_sequence = int(after)
    return asked
