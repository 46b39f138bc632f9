"""Takes RTP from the sockets of an aiortc peer before aiortc sees it.

Sixty-four sessions at 2.5 Mbit/s are 15,000 packets a second: too many for a client that
decrypts and reassembles beside the server it measures. Once a peer is connected its
sockets are read here: RTP is noted with the kernel's time of arrival, which no wait of this
process distorts; all else (STUN, DTLS, RTCP) goes on to aiortc.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

from aiortc import RTCDtlsTransport

from tests.bench.media.clients import datagrams

_HEADER: Final = 12
_READER: Final = datagrams.Reader()


class Tap:
    """Reads the sockets of one peer."""

    def __init__(self, dtls: RTCDtlsTransport) -> None:
        """Takes the sockets over. The peer must be connected.

        Args:
            dtls: Its transport.
        """
        self._dtls: Any = dtls
        self._noted: list[tuple[int, bytes, int]] | None = None
        self._whole = False
        self.first = asyncio.Event()
        """Set when the first RTP packet since `begin` has come."""
        connection: Any = dtls.transport._connection
        # All of them: a server need not send on the pair of candidates that was nominated.
        for protocol in connection._protocols:
            self._take(protocol)

    def _take(self, protocol: Any) -> None:
        own: socket.socket = protocol.transport._sock
        datagrams.prepare(own)
        loop: Any = asyncio.get_running_loop()
        # The public method refuses sockets that have a transport.
        loop._remove_reader(own.fileno())
        loop._add_reader(own.fileno(), self._drain, own, protocol)

    def begin(self, *, whole: bool) -> None:
        """Begins to note packets.

        Args:
            whole: Whether to keep all of each packet, for `decrypted`, not just its header.
        """
        self._noted, self._whole = [], whole
        self.first.clear()

    def end(self) -> list[tuple[int, bytes, int]]:
        """Returns what came since `begin`: arrival in ns, header or packet, size."""
        noted, self._noted = self._noted or [], None
        return noted

    def decrypted(self, packet: bytes) -> bytes | None:
        """Returns an RTP packet in the clear; None where it cannot be read. In order alone."""
        try:
            return bytes(self._dtls._rx_srtp.unprotect(packet))
        except Exception:  # whatever libsrtp says, the packet is of no use
            return None

    def _drain(self, own: socket.socket, protocol: Any) -> None:
        noted = self._noted
        try:
            for datagram in _READER.read(own.fileno()):
                data = datagram.data
                size = len(data)
                if size > _HEADER and 127 < data[0] < 192 and not 192 <= data[1] <= 208:
                    if noted is None:
                        continue
                    kept = bytes(data if self._whole else data[:_HEADER])
                    noted.append((datagram.arrival_ns, kept, size))
                    if len(noted) == 1:
                        self.first.set()
                else:
                    address = _READER.address(datagram)
                    protocol.datagram_received(bytes(data), address)
        except OSError as error:
            protocol.error_received(error)
