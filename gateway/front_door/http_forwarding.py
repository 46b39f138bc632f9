"""HTTP at the front door: a request that may go on is passed on to its worker, its answer back."""

from __future__ import annotations

import asyncio
from typing import Final

import aiohttp
from aiohttp import StreamReader, web
from yarl import URL

from gateway import http
from gateway.front_door.backend import Backend
from gateway.front_door.headers import end_to_end, forwarded
from gateway.front_door.routing import Route

BLOCK_BYTES: Final = 64 * 1024
"""What is read of an answer at a time."""


async def pass_on(
    request: web.BaseRequest, route: Route, backend: Backend, body: bytes | StreamReader
) -> web.StreamResponse:
    """Forwards a request and its answer.

    Raises:
        aiohttp.ClientConnectionError: The worker has ended before it answered.
    """
    asked = request.rel_url
    path = route.path or asked.raw_path
    query = f"?{asked.raw_query_string}" if asked.raw_query_string else ""
    async with backend.http.request(
        request.method,
        URL(f"http://worker{path}{query}", encoded=True),
        headers=forwarded(request.headers, request.scheme, request.remote or "unknown"),
        data=body if request.body_exists else None,
        allow_redirects=False,
    ) as answer:
        response = web.StreamResponse(
            status=answer.status, reason=answer.reason, headers=end_to_end(answer.headers)
        )
        await response.prepare(request)
        try:
            async for block in answer.content.iter_chunked(BLOCK_BYTES):
                await response.write(block)
        except aiohttp.ClientError:
            # Begun already: the client learns from the broken connection that it is not whole.
            if request.transport is not None:
                request.transport.abort()
            return response
        await response.write_eof()
        return response


async def whole_body(request: web.BaseRequest) -> bytes:
    """Reads a small body.

    Raises:
        HTTPRequestEntityTooLarge: It is none.
        HTTPRequestTimeout: It does not come to its end.
        HTTPBadRequest: It is not what its headers say.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(http.BODY_S):
            async for block in request.content.iter_any():
                body += block
                if len(body) > http.MAX_BODY_BYTES:
                    raise web.HTTPRequestEntityTooLarge(http.MAX_BODY_BYTES, len(body))
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except web.RequestPayloadError:
        raise web.HTTPBadRequest from None
    return bytes(body)
