"""Carries datagrams and byte streams of one user through its network, on the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from sdk_adapters.harness.networks.link import QUEUE_S, Link
from sdk_adapters.harness.networks.sdp import Address

READ: Final = 16_384
"""Bytes of a stream that are carried at once: a few packets, as TCP sends them."""
AHEAD: Final = 1 << 20
"""Bytes of a stream under way at most; whoever sends more waits, as for TCP's window."""
BUFFER: Final = 1 << 21
"""Of a socket for datagrams."""
WAYS: Final = 16
"""Addresses of one user that are told apart; ICE tries some, and keeps one."""
_CONNECT_S: Final = 5.0


class Later:
    """Does things at their times, in the order in which they were given: one timer for all."""

    def __init__(self) -> None:
        """Has nothing to do. Make it on the event loop on which it is used."""
        self._loop = asyncio.get_running_loop()
        self._due: deque[tuple[float, Callable[[], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Does something later.

        Args:
            when: On the loop's clock; what was given before is done before.
            do: What.
        """
        self._due.append((when, do))
        if self._timer is None:
            self._timer = self._loop.call_at(when, self._run)

    def close(self) -> None:
        """Does nothing any more."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _run(self) -> None:
        self._timer = None
        while self._due and self._due[0][0] <= self._loop.time():
            _, do = self._due.popleft()
            do()
        if self._due:
            self._timer = self._loop.call_at(self._due[0][0], self._run)


# -- datagrams -----------------------------------------------------------------------------------


class Port(asyncio.DatagramProtocol):
    """A socket whose datagrams go to a function."""

    def __init__(self, take: Callable[[bytes, Address], None]) -> None:
        """Is closed; `open` opens it.

        Args:
            take: Gets a datagram and where it came from.
        """
        self._take = take
        self.transport: asyncio.DatagramTransport | None = None

    async def open(self, host: str) -> Address:
        """Opens it; returns where it is.

        Args:
            host: Address of this machine.

        Raises:
            OSError: There is no port.
        """
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: self, local_addr=(host, 0)
        )
        own: socket.socket = transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        address, number = own.getsockname()[:2]
        return Address(str(address), int(number))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        # Not an instance of it before Python 3.12.
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        """See asyncio."""
        self._take(data, Address(str(addr[0]), int(addr[1])))

    def error_received(self, exc: Exception) -> None:
        """A port that is closed: the far end is gone, which its users notice themselves."""

    def send(self, data: bytes, to: Address) -> None:
        """Sends a datagram; one from a port that is closed is lost."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.sendto(data, to)

    def close(self) -> None:
        """Closes it. Repeating it is no error."""
        if self.transport is not None:
            self.transport.close()


class DatagramRelay:
    """Stands between a user and one address of the service, as a NAT does: every address that
    the user sends from has a port of its own towards the service.
    """

    def __init__(self, host: str, up: Link, down: Link) -> None:
        """Prepares; `open` opens it.

        Args:
            host: Address of this machine that both sides reach.
            up: From the user to the service.
            down: The other way.
        """
        self._host = host
        self._up, self._down = up, down
        self._loop = asyncio.get_running_loop()
        self._later_up, self._later_down = Later(), Later()
        self._near = Port(self._from_user)
        self._spare: Port | None = None
        self._far: dict[Address, Port] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self.near = Address(host, 0)
        """Where the user finds the service."""
        self.far = Address(host, 0)
        """Where the service finds the user."""
        self.service: Address | None = None
        """Where the service really is; what comes before that is known is dropped."""
        self._user: Address | None = None

    async def open(self) -> None:
        """Opens its ports.

        Raises:
            OSError: There are none.
        """
        self.near = await self._near.open(self._host)
        self._spare = Port(lambda data, _: self._to_user(data, self._user))
        self.far = await self._spare.open(self._host)

    def begin_with(self, user: Address) -> None:
        """Says where the user is, before it has sent anything.

        Args:
            user: Its address.
        """
        self._user = user

    def close(self) -> None:
        """Closes its ports; what is under way is lost."""
        for task in self._opening:
            task.cancel()
        self._later_up.close()
        self._later_down.close()
        for port in (self._near, self._spare, *self._far.values()):
            if port is not None:
                port.close()

    def _from_user(self, data: bytes, user: Address) -> None:
        service = self.service
        if service is None:
            return
        port = self._far.get(user)
        if port is None:
            if len(self._far) >= WAYS:
                return
            port = self._far[user] = self._way_of(user)
        due = self._up.packet(self._loop.time(), len(data))
        if due is not None:
            self._later_up.at(due, lambda: port.send(data, service))

    def _way_of(self, user: Address) -> Port:
        """Returns a port of a user's address: the first has that which the service was told."""
        if self._spare is not None:
            port, self._spare, self._user = self._spare, None, user
            return port
        port = Port(lambda data, _: self._to_user(data, user))
        task = asyncio.create_task(self._open_way(port))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return port

    async def _open_way(self, port: Port) -> None:
        with contextlib.suppress(OSError):
            await port.open(self._host)

    def _to_user(self, data: bytes, user: Address | None) -> None:
        if user is None:
            return
        due = self._down.packet(self._loop.time(), len(data))
        if due is not None:
            self._later_down.at(due, lambda: self._near.send(data, user))


# -- byte streams --------------------------------------------------------------------------------


class StreamRelay:
    """Stands between a user and one address of the service, for TCP."""

    def __init__(self, host: str, port: int, up: Link, down: Link) -> None:
        """Listens from now on; `close` ends it.

        Args:
            host: Where the service is.
            port: Its port.
            up: From the user to the service.
            down: The other way.

        Raises:
            OSError: There is no port to listen on.
        """
        self._to = host, port
        self._up, self._down = up, down
        self._loop = asyncio.get_running_loop()
        # What connects before the loop gets round to accepting waits in the kernel.
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        """Where the user finds the service."""
        self._connections: set[asyncio.Task[None]] = set()
        self._serving = asyncio.create_task(self._serve())

    async def close(self) -> None:
        """Ends all connections. Repeating it is no error."""
        tasks = (self._serving, *self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()

    async def _serve(self) -> None:
        self._listener.settimeout(0.0)
        while True:
            near, _ = await self._loop.sock_accept(self._listener)
            task = asyncio.create_task(self._connected(near))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _connected(self, near: socket.socket) -> None:
        """Carries both directions of a connection until both have ended."""
        near_reader, near_writer = await asyncio.open_connection(sock=near, limit=READ)
        try:
            async with asyncio.timeout(_CONNECT_S):
                far_reader, far_writer = await asyncio.open_connection(*self._to, limit=READ)
        except (OSError, TimeoutError):
            near_writer.transport.abort()
            return
        for writer in (near_writer, far_writer):
            own = writer.get_extra_info("socket")
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ways = (
            asyncio.create_task(_carry(near_reader, far_writer, self._up)),
            asyncio.create_task(_carry(far_reader, near_writer, self._down)),
        )
        try:
            await asyncio.gather(*ways)
        except OSError:
            """One end broke the connection: so does this, for the other."""
        finally:
            for task in ways:
                task.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for writer in (near_writer, far_writer):
                writer.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link) -> None:
    """Carries one direction, until its end."""
    loop, later = asyncio.get_running_loop(), Later()
    under_way, arrived, room = 0, 0.0, asyncio.Event()
    ended: asyncio.Future[None] = loop.create_future()

    def deliver(data: bytes) -> None:
        nonlocal under_way
        under_way -= len(data)
        room.set()
        if not writer.transport.is_closing():
            writer.write(data)

    def finish() -> None:
        if not ended.done():
            ended.set_result(None)
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()

    try:
        while data := await reader.read(READ):
            arrived = link.stream(loop.time(), len(data), arrived)
            under_way += len(data)
            later.at(arrived, lambda data=data: deliver(data))  # type: ignore[misc]
            while under_way > AHEAD:
                room.clear()
                await room.wait()
            if (ahead := link.room(loop.time()) - QUEUE_S) > 0:
                await asyncio.sleep(ahead)
            await writer.drain()
        later.at(max(arrived, loop.time()), finish)
        await ended
    finally:
        later.close()
