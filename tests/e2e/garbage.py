"""Throws garbage at two TCP ports, so many times a second, until it is ended.

    python garbage.py HTTP_HOST:PORT GRPC_HOST:PORT TIMES_PER_SECOND

Bytes that are no protocol, requests that stop in the middle, headers without end, paths
and tokens that nobody has, connections that say nothing. Prints how many so far, once a
tenth of a second. Nobody waits for an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
import time
from collections import deque

OPEN = 200
"""Connections kept open, so that those that say nothing stay for a while."""
REQUESTS = (
    b"GET /sessions/s0000/transport/webrtc/sdp_params HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nnot json!",
    b"POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 999999\r\n\r\n{",
    b"PUT /workers/1/uploads/no HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /workers/99/ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(range(256)) * 8,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"",
)


async def throw(address: str, data: bytes, held: deque[asyncio.StreamWriter]) -> None:
    """Opens a connection, says something, and leaves it to be closed later."""
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(data or b"")
        held.append(writer)
        if len(held) > OPEN:
            held.popleft().transport.abort()


async def main(http: str, grpc: str, rate: int) -> None:
    """Throws for ever."""
    held: deque[asyncio.StreamWriter] = deque()
    began, thrown = time.monotonic(), 0
    kinds = itertools.cycle((*REQUESTS, os.urandom(600)))
    while True:
        for _ in range(rate // 10):
            await throw(http if thrown // 10 % 2 else grpc, next(kinds), held)
            thrown += 1
        sys.stdout.write(f"{thrown}\n")
        sys.stdout.flush()
        await asyncio.sleep(max(0.0, began + thrown / rate - time.monotonic()))


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
