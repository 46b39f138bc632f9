"""Attacks the public ports of a service until it is ended, and says once a second how it goes.

    python -m tests.bench.attacking HTTP_HOST:PORT GRPC_HOST:PORT --open 2000 --rate 1000

`--open` connections are half open: each has sent the beginning of something and says nothing more;
one that the service closes is opened again. Beside them `--rate` requests a second come, each over
a connection of its own: without a token, with a wrong one, for sessions that do not exist, and what
is no request at all. They come from many addresses, 127.0.1.1 to 127.0.1.250: else the limit
of one address would answer most of them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import sys
import time
from dataclasses import dataclass, field

BEGINNINGS = (
    b"GET /sessions/s0000 HTTP/1.1\r\nHost: a\r\nX-Slow: ",
    b"POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n{",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"",
)
"""What half-open connections have said: headers, a body, HTTP/2, TLS, nothing."""

REQUESTS = (
    b"POST /sessions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /tokens HTTP/1.1\r\nHost: a\r\nConnection: close\r\nReactor-API-Key: rk_no\r\n\r\n",
    b"GET /sessions/s0123 HTTP/1.1\r\nAuthorization: Bearer rk_no\r\nConnection: close\r\n\r\n",
    b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"not a request at all\r\n\r\n",
)
AT_ONCE = 400
"""Requests under way at once; more would be this generator's own queue."""
TICK_S = 0.02
SOURCES = tuple(f"127.0.1.{number}" for number in range(1, 251))


@dataclass
class Tally:
    """What came of it."""

    held: int = 0
    """Half-open connections now."""
    closed: int = 0
    """Of them, those that the service closed."""
    sent: int = 0
    answered: int = 0
    refused: int = 0
    """Connections that were not taken, or broke."""
    pending: set[asyncio.Task[None]] = field(default_factory=set)


async def hold(address: tuple[str, int], beginning: bytes, source: str, tally: Tally) -> None:
    """Keeps one half-open connection, for ever."""
    while True:
        try:
            reader, writer = await asyncio.open_connection(*address, local_addr=(source, 0))
        except OSError:
            tally.refused += 1
            await asyncio.sleep(1.0)
            continue
        tally.held += 1
        writer.write(beginning)
        with contextlib.suppress(OSError):
            while await reader.read(4096):
                pass
        tally.held -= 1
        tally.closed += 1
        writer.transport.abort()
        await asyncio.sleep(0.1)


async def ask(address: tuple[str, int], request: bytes, source: str, tally: Tally) -> None:
    """Sends one request and reads what comes."""
    try:
        async with asyncio.timeout(10.0):
            reader, writer = await asyncio.open_connection(*address, local_addr=(source, 0))
            try:
                writer.write(request)
                tally.answered += bool(await reader.read(4096))
            finally:
                writer.transport.abort()
    except OSError:
        tally.refused += 1


async def flood(address: tuple[str, int], rate: float, tally: Tally) -> None:
    """Sends so many requests a second, as long as not too many are under way."""
    began, due = time.monotonic(), 0.0
    kinds, sources = itertools.cycle(REQUESTS), itertools.cycle(SOURCES)
    while True:
        await asyncio.sleep(TICK_S)
        due = (time.monotonic() - began) * rate
        while tally.sent < due:
            if len(tally.pending) >= AT_ONCE:
                # What could not be sent in time is not made up for later.
                began += (due - tally.sent) / rate
                break
            task = asyncio.create_task(ask(address, next(kinds), next(sources), tally))
            tally.pending.add(task)
            task.add_done_callback(tally.pending.discard)
            tally.sent += 1


async def attack(http: tuple[str, int], grpc: tuple[str, int], half_open: int, rate: float) -> None:
    """Attacks for ever."""
    tally = Tally()
    ports, kinds = itertools.cycle((http, http, grpc)), itertools.cycle(BEGINNINGS)
    sources = itertools.cycle(SOURCES)
    async with asyncio.TaskGroup() as group:
        for number in range(half_open):
            group.create_task(hold(next(ports), next(kinds), next(sources), tally))
            if number % 100 == 99:
                await asyncio.sleep(0.05)
        if rate:
            group.create_task(flood(http, rate, tally))
        while True:
            told = {name: value for name, value in vars(tally).items() if name != "pending"}
            sys.stdout.write(json.dumps({"at": time.monotonic(), **told}) + "\n")
            sys.stdout.flush()
            await asyncio.sleep(1.0)


def address(text: str) -> tuple[str, int]:
    """Reads `host:port`, with or without a scheme."""
    host, _, port = text.rpartition("/")[2].rpartition(":")
    return host, int(port)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("http", type=address)
    parser.add_argument("grpc", type=address)
    parser.add_argument("--open", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=1000.0)
    told = parser.parse_args()
    asyncio.run(attack(told.http, told.grpc, told.open, told.rate))


if __name__ == "__main__":
    main()
