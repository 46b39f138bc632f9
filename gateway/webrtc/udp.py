"""UDP sockets of peers: a configurable range of ports, large buffers, and a lean transport.

asyncio's own datagram transport reads one datagram a wake-up, keeps what the kernel
cannot take in a queue without bound, and never hears that nobody listens at the other
end. This one reads a burst at once, drops what the kernel cannot take (media are worth
nothing later), and reports ICMP "port unreachable" (Linux, `IP_RECVERR`, see ip(7)).
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from contextlib import suppress
from typing import Any, Final, Protocol

from scheduler.core.errors import ConfigurationError, LimitError

BUFFER_BYTES: Final = 1 << 20
"""What a socket may hold each way: a second of video while the loop is busy."""
MAX_DATAGRAM: Final = 1500
"""Longer datagrams are dropped: SRTP here takes no more, and no path brings them whole."""
MAX_BURST: Final = 32
"""Datagrams read at once; others have their turn then."""
RETRY_AFTER_S: Final = 5.0
"""When to come back after all ports were taken."""

Address = tuple[str, int]

_RECVERR: Final = {
    socket.AF_INET: (socket.IPPROTO_IP, 11),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 25),
}
_EXTENDED_ERROR: Final = struct.Struct("=I")
_MAX_ERRORS: Final = 64


class DatagramReceiver(Protocol):
    """Who takes what a `UdpTransport` reads."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is open."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is closed."""

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """A datagram has come; must not raise."""

    def unreachable(self, addr: Address) -> None:
        """Nobody listens at this address, says its host."""


class UdpPorts:
    """Binds sockets to ports of a range, each time from the port after the last one taken."""

    def __init__(self, span: tuple[int, int] | None, address: str | None = None) -> None:
        """Takes the first and the last port; None: whichever the system gives.

        Args:
            span: The ports.
            address: Where clients reach the same ports, if not at addresses of this host: that
                of a load balancer in front of it.

        Raises:
            ConfigurationError: These are no two ports in order.
        """
        if span is not None and not 0 < span[0] <= span[1] < 1 << 16:
            raise ConfigurationError(f"UDP ports {span[0]}-{span[1]} are no range of ports")
        self._span = span
        self._next = 0
        self.address = address

    def bind(self, host: str) -> socket.socket:
        """Returns a socket on an address of this host.

        Raises:
            LimitError: No port of the range is free.
            OSError: The address cannot be bound at all.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        udp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._bind(udp, host)
        except BaseException:
            udp.close()
            raise
        udp.settimeout(0)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            with suppress(OSError):
                udp.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        with suppress(OSError):
            udp.setsockopt(*_RECVERR[family], 1)
        return udp

    def _bind(self, udp: socket.socket, host: str) -> None:
        if self._span is None:
            udp.bind((host, 0))
            return
        first, last = self._span
        count = last - first + 1
        for step in range(count):
            offset = (self._next + step) % count
            try:
                udp.bind((host, first + offset))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                self._next = offset + 1
                return
        raise LimitError(
            f"all UDP ports from {first} to {last} are taken", retry_after_s=RETRY_AFTER_S
        )


class UdpTransport(asyncio.DatagramTransport):
    """A bound socket on the running event loop, from construction to `close`."""

    def __init__(self, udp: socket.socket, receiver: DatagramReceiver) -> None:
        super().__init__({"socket": udp, "sockname": udp.getsockname()})
        self._socket = udp
        self._receiver = receiver
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self.dropped = 0
        """Datagrams that the kernel could not take or that were too long."""
        self._loop.add_reader(udp.fileno(), self._readable)
        receiver.connection_made(self)

    def sendto(self, data: Any, addr: Any = None) -> None:  # noqa: ANN401 - asyncio's signature
        """Sends a datagram at once, or drops it."""
        if self._closed:
            return
        try:
            self._socket.sendto(data, addr)
        except ConnectionError:
            # The error belongs to an earlier datagram, and went out instead of this one.
            self._read_errors()
            with suppress(OSError):
                self._socket.sendto(data, addr)
        except OSError:
            self.dropped += 1

    def is_closing(self) -> bool:
        """Whether it has been closed."""
        return self._closed

    def close(self) -> None:
        """Returns the socket to the system at once. Repeating it is no error."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._loop.call_soon(self._receiver.connection_lost, None)

    def abort(self) -> None:
        """Closes it."""
        self.close()

    def _readable(self) -> None:
        receive, received = self._socket.recvfrom, self._receiver.datagram_received
        for count in range(MAX_BURST):
            try:
                data, address = receive(MAX_DATAGRAM + 1)
            except (BlockingIOError, InterruptedError):
                if not count:
                    self._read_errors()
                return
            except OSError:
                self._read_errors()
                continue
            if len(data) > MAX_DATAGRAM:
                self.dropped += 1
                continue
            received(data, address)
            if self._closed:
                return

    def _read_errors(self) -> None:
        """Empties the socket's queue of errors; without that the loop would be woken forever."""
        for _ in range(_MAX_ERRORS):
            try:
                _, details, _, address = self._socket.recvmsg(1, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return
            for level, kind, value in details:
                if (level, kind) in _RECVERR.values() and len(value) >= _EXTENDED_ERROR.size:
                    (number,) = _EXTENDED_ERROR.unpack_from(value)
                    if number == errno.ECONNREFUSED:
                        self._receiver.unreachable(address[:2])
