"""Server-sent events: words that are written to a browser, or to `curl`, as they come.

A reader that takes nothing for a while is disconnected; one that has left is noticed within
seconds, whether or not there is something to say.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

PING_S: Final = 15.0
"""Longest silence: proxies take a silent connection for a dead one."""
LOOK_S: Final = 2.0
"""How often it looks whether the reader is still there."""
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


def event(name: str, told: object, identity: int | None = None) -> str:
    """Returns a server-sent event.

    Args:
        name: What it is.
        told: What it tells, written as JSON.
        identity: Where to go on after it; None: where it was before.
    """
    at = "" if identity is None else f"id: {identity}\n"
    return f"{at}event: {name}\ndata: {json.dumps(told)}\n\n"


async def answer(request: web.Request, words: AsyncIterator[str]) -> web.StreamResponse:
    """Answers a request with events until they, or their reader, are at an end.

    Args:
        request: What is answered.
        words: The events, as `event` returns them. What they raise before the first is the
            answer instead.
    """
    # What is refused is refused before anything is written.
    first = await anext(words, None)
    response = web.StreamResponse(headers=HEADERS)
    await response.prepare(request)
    try:
        await _write(response, f"retry: {RETRY_MS}\n\n")
        if first is not None:
            await _write(response, first)
            await _pass_on(words, request, response)
    except (TimeoutError, ConnectionError):
        # Nobody reads; what is not sent yet is of no use to anybody.
        if request.transport is not None:
            request.transport.abort()
    return response


async def _pass_on(
    words: AsyncIterator[str], request: web.Request, response: web.StreamResponse
) -> None:
    coming = asyncio.ensure_future(anext(words, None))
    clock = asyncio.get_running_loop().time
    wrote_at = clock()
    try:
        while request.transport is not None:
            done, _ = await asyncio.wait({coming}, timeout=min(LOOK_S, PING_S))
            if done:
                word = coming.result()
                if word is None:
                    return
                await _write(response, word)
                coming = asyncio.ensure_future(anext(words, None))
            elif clock() - wrote_at < PING_S:
                continue
            else:
                await _write(response, ": ping\n\n")
            wrote_at = clock()
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def _write(response: web.StreamResponse, text: str) -> None:
    async with asyncio.timeout(WRITE_S):
        await response.write(text.encode())
