"""Connections are taken one after the other, or closed before anything is made for them."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from structlog.testing import capture_logs

from gateway import accepting
from gateway.accepting import Acceptor, bound
from gateway.limits.buckets import Rate
from gateway.limits.connections import Connections
from tests.fakes.changes import Changes

pytestmark = pytest.mark.unit

FAST = Rate(100_000.0, 1_000)


class Spoken:
    """What was made for connections, and when."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.changes = Changes()

    def __call__(self) -> asyncio.Protocol:
        self.at.append(time.monotonic())
        self.changes.happened()
        return Greeting()


class Greeting(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(b"hello\n")


class Clients:
    """Connections to a socket, made while the loop does nothing."""

    def __init__(self, listening: socket.socket) -> None:
        self._address = listening.getsockname()
        self._open: list[socket.socket] = []

    def connect(self, count: int = 1) -> None:
        for _ in range(count):
            self._open.append(socket.create_connection(self._address, timeout=30))

    async def read(self, index: int) -> bytes:
        """Reads what came; nothing at the end, a reset included."""
        reader, writer = await asyncio.open_connection(sock=self._open[index])
        try:
            async with asyncio.timeout(30):
                return await reader.readline()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    def close(self) -> None:
        for each in self._open:
            each.close()


@pytest.fixture
async def listening() -> AsyncIterator[socket.socket]:
    [made] = await bound("127.0.0.1", 0)
    yield made
    made.close()


@pytest.fixture
def clients(listening: socket.socket) -> Iterator[Clients]:
    made = Clients(listening)
    yield made
    made.close()


async def test_what_stands_goes_on_when_nobody_is_taken_any_more(
    listening: socket.socket, clients: Clients
) -> None:
    spoken = Spoken()
    acceptor = Acceptor([listening], spoken, Connections(), FAST)
    clients.connect()
    await spoken.changes.until(lambda: len(spoken.at) == 1)
    await asyncio.sleep(0)
    acceptor.close()
    acceptor.close()
    assert await clients.read(0) == b"hello\n"
    with pytest.raises(OSError, match="refused"):
        clients.connect()


async def test_those_over_the_limit_are_closed_and_nothing_is_made_for_them(
    listening: socket.socket, clients: Clients
) -> None:
    spoken = Spoken()
    acceptor = Acceptor([listening], spoken, Connections(most=2), FAST)
    clients.connect(5)
    assert [await clients.read(index) for index in range(5)] == [b"hello\n"] * 2 + [b""] * 3
    assert len(spoken.at) == 2
    acceptor.close()


async def test_others_of_the_loop_have_their_turn_between_two_connections(
    listening: socket.socket, clients: Clients
) -> None:
    spoken = Spoken()
    seen = []

    def look() -> None:
        seen.append(len(spoken.at))
        if seen[-1] < 5:
            loop.call_soon(look)

    acceptor = Acceptor([listening], spoken, Connections(), FAST)
    loop = asyncio.get_running_loop()
    clients.connect(5)
    loop.call_soon(look)
    await spoken.changes.until(lambda: len(spoken.at) == 5)
    assert set(range(1, 5)) <= set(seen)
    acceptor.close()


async def test_so_many_are_taken_in_a_second(listening: socket.socket, clients: Clients) -> None:
    spoken, began = Spoken(), time.monotonic()
    acceptor = Acceptor([listening], spoken, Connections(), Rate(50.0, 2))
    clients.connect(4)
    await spoken.changes.until(lambda: len(spoken.at) == 4)
    assert spoken.at[2] - began >= 0.02
    assert spoken.at[3] - began >= 0.04
    acceptor.close()


class Jumps:
    """The clock of the loop, which jumps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop, self._jumped_s = asyncio.get_running_loop(), 0.0
        time_of_loop = loop.time
        monkeypatch.setattr(loop, "time", lambda: time_of_loop() + self._jumped_s)

    async def to(self, jumped_s: float) -> None:
        """Jumps so far from the begin, and lets the loop do what is due then."""
        self._jumped_s = jumped_s
        for _ in range(20):
            await asyncio.sleep(0)


async def test_a_loop_that_is_late_takes_nobody_until_it_had_as_much_time_again(
    listening: socket.socket, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "LONGEST_REST_S", 1e9)
    clock, spoken = Jumps(monkeypatch), Spoken()
    acceptor = Acceptor([listening], spoken, Connections(), Rate(1 / 600, 1))
    clients.connect(2)
    await spoken.changes.until(lambda: len(spoken.at) == 1)
    for jumped_s, taken in ((0.0, 1), (1600.0, 1), (2400.0, 1), (2700.0, 2)):
        await clock.to(jumped_s)
        assert len(spoken.at) == taken, jumped_s
    acceptor.close()


class Short(socket.socket):
    """A listening socket of a process that has no descriptors left."""

    short = 3
    """So many times."""

    def accept(self) -> tuple[socket.socket, object]:
        if self.short:
            self.short -= 1
            raise OSError(errno.EMFILE, "too many open files")
        return super().accept()


async def test_without_descriptors_it_rests_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "EXHAUSTED_S", 600.0)
    monkeypatch.setattr(accepting, "LATE_S", 1e9)
    clock, spoken = Jumps(monkeypatch), Spoken()
    with Short() as listening, capture_logs() as log:
        listening.bind(("127.0.0.1", 0))
        acceptor = Acceptor([listening], spoken, Connections(), FAST)
        clients = Clients(listening)
        clients.connect()
        for jumped_s, tries in ((0.0, 1), (700.0, 2), (1400.0, 3)):
            await clock.to(jumped_s)
            assert [line["reason"] for line in log] == ["EMFILE"] * tries
        await clock.to(2100.0)
        assert len(spoken.at) == 1
        acceptor.close()
        clients.close()
