"""Reads the sockets of a connected aioice connection without its detours, and writes to them.

asyncio hands out one datagram for each turn of the loop. Here the kernel joins the packets
of a frame into one buffer (UDP_GRO, udp(7)) where it can, and they are read together. What
is no RTP goes on to aioice.
"""

# ruff: noqa: SLF001 - private parts are what this module is about

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

UDP_GRO: Final = 104
BUFFER: Final = 1 << 16
READS: Final = 16
"""Buffers read in one turn of the loop."""
RECEIVE_BYTES: Final = 1 << 20
_SEGMENT: Final = struct.Struct("=i")
_CONTROL: Final = socket.CMSG_SPACE(_SEGMENT.size)

Take = Callable[[memoryview, int, int], None]
"""Takes a buffer, its length and the length of each datagram in it, but for the last."""

_buffer: Final = bytearray(BUFFER)
_view: Final = memoryview(_buffer)


class Sockets:
    """The sockets of one connection. Used on one event loop only."""

    def __init__(self, connection: Any, take: Take) -> None:  # noqa: ANN401 - of aioice
        """Takes over RTP and RTCP; a relayed way, and what comes early, pass through aioice.

        Args:
            connection: The connection of aioice, not connected yet.
            take: Takes what comes, at once; the buffer is used again after that.
        """
        self._connection = connection
        self._take = take
        self._pass_on = connection.data_received
        connection.data_received = self._received

    def open(self) -> None:
        """The connection is connected: its sockets are read here from now on."""
        loop: Any = asyncio.get_running_loop()
        # All of them: the far end need not send on the pair that was nominated.
        for protocol in self._connection._protocols:
            own = getattr(protocol.transport, "_sock", None)
            if own is None:
                continue
            for level, option, value in (
                (socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES),
                (socket.IPPROTO_UDP, UDP_GRO, 1),
            ):
                try:
                    own.setsockopt(level, option, value)
                except OSError:
                    continue  # an older kernel: one datagram a call
            # The public method refuses sockets that have a transport. Closing it removes ours.
            loop._remove_reader(own.fileno())
            loop._add_reader(own.fileno(), self._read, own, protocol)

    def send(self, data: bytes) -> None:
        """Sends a datagram to the far end; before there is a way to it, nothing happens."""
        pair = self._connection._nominated.get(1)
        if pair is not None:
            pair.protocol.transport.sendto(data, pair.remote_addr)

    def _read(self, own: socket.socket, protocol: Any) -> None:  # noqa: ANN401 - of aioice
        receive, take = own.recvmsg_into, self._take
        try:
            for _ in range(READS):
                size, control, _, address = receive((_buffer,), _CONTROL)
                segment = size
                for _, kind, data in control:
                    if kind == UDP_GRO:
                        segment = _SEGMENT.unpack(data[: _SEGMENT.size])[0] or size
                if 127 < _buffer[0] < 192:
                    take(_view, size, segment)
                else:
                    for at in range(0, size, segment):
                        protocol.datagram_received(
                            bytes(_view[at : min(size, at + segment)]), address
                        )
        except BlockingIOError:
            return
        except OSError as error:
            protocol.error_received(error)

    def _received(self, data: bytes, component: int) -> None:
        if data and 127 < data[0] < 192:
            self._take(memoryview(data), len(data), len(data))
        else:
            self._pass_on(data, component)
