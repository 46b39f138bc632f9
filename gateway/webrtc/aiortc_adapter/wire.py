"""The shortest way from RTP packets to the network: encrypted in place, sent in one call.

aiortc sends a packet through four coroutines, two copies and one system call. Here the
packets of a burst are laid into memory that libsrtp encrypts where it lies, and the
socket of the nominated ICE pair takes them together.
"""

# ruff: noqa: SLF001 - private parts are what this package is about

from __future__ import annotations

import socket
from functools import cache
from typing import Final

import pylibsrtp
from aioice.ice import CandidatePair, Connection
from aioice.turn import TurnTransport
from aiortc.rtcdtlstransport import RTCDtlsTransport, State
from aiortc.rtcicetransport import RTCIceTransport
from pylibsrtp import _binding

from gateway.webrtc.aiortc_adapter.guard import private, uses
from gateway.webrtc.datagrams import MAX_SEGMENTS, DatagramPath

MAX_RELAYING: Final = 512
"""Packets that may wait for a TURN server to let them through; further ones are lost."""
MAX_BUFFERED: Final = 1 << 18
"""Bytes that may wait in the connection to a TURN server; past it packets are lost."""

_SLOT: Final = 1536
"""Room for one packet and what SRTP may append."""
_LONGEST: Final = _SLOT - 144
"""Longest packet: libsrtp may append up to `SRTP_MAX_TRAILER_LEN` (144) bytes to it."""
_COMPONENT: Final = 1
"""RTP and RTCP share the one component of the ICE connection."""

uses(RTCDtlsTransport, "_state", "_tx_srtp")
uses(RTCIceTransport, "_connection")
uses(Connection, "_nominated")
uses(CandidatePair, "protocol", "remote_addr")
uses(TurnTransport, "_TurnTransport__send_tasks", "_TurnTransport__inner_protocol")
uses(pylibsrtp.Session, "_srtp")
uses(_binding, "ffi", "lib")
uses(_binding.lib, "srtp_protect")


class Wire:
    """Encrypted packets out of one DTLS transport. Used on one event loop only.

    Never raises over what the network does: what cannot be sent is counted.
    """

    def __init__(self, transport: RTCDtlsTransport) -> None:
        self.dropped = 0
        """Packets that were not sent."""
        self._dtls = transport
        self._ice: Connection = private(transport.transport, "_connection")
        self._memory = _memory()
        self._pair: CandidatePair | None = None
        self._path: DatagramPath | _RelayedPath | None = None

    def send(self, packets: list[bytes]) -> None:
        """Encrypts and sends packets, in order."""
        path = self._nominated() if self._dtls._state is State.CONNECTED else None
        if path is None:
            self.dropped += len(packets)
            return
        session = self._dtls._tx_srtp._srtp[0]
        for start in range(0, len(packets), MAX_SEGMENTS):
            batch = packets[start : start + MAX_SEGMENTS]
            self.dropped += len(batch) - path.send(self._memory.encrypt(session, batch))

    def _nominated(self) -> DatagramPath | _RelayedPath | None:
        """Returns the way that ICE has chosen, which may change."""
        pair = self._ice._nominated.get(_COMPONENT)
        if pair is not self._pair:
            self._pair = pair
            self._path = None if pair is None else _path(pair)
        return self._path


class _RelayedPath:
    """A way through a TURN server, whose transport would queue without bound."""

    def __init__(self, transport: TurnTransport, address: tuple[str, int]) -> None:
        self._transport = transport
        self._address = address
        self._tasks: set[object] = private(transport, "_TurnTransport__send_tasks")
        self._turn = private(transport, "_TurnTransport__inner_protocol")

    def send(self, datagrams: list[memoryview]) -> int:
        sent = 0
        for datagram in datagrams:
            buffered = self._turn.transport.get_write_buffer_size()
            if len(self._tasks) >= MAX_RELAYING or buffered > MAX_BUFFERED:
                break
            self._transport.sendto(bytes(datagram), self._address)
            sent += 1
        return sent


def _path(pair: CandidatePair) -> DatagramPath | _RelayedPath | None:
    transport = pair.protocol.transport
    if isinstance(transport, TurnTransport):
        return _RelayedPath(transport, pair.remote_addr)
    udp = transport.get_extra_info("socket")
    return DatagramPath(udp, pair.remote_addr) if isinstance(udp, socket.socket) else None


class _Memory:
    """Where packets are encrypted: a slot for each of a burst."""

    def __init__(self) -> None:
        ffi = _binding.ffi
        self._protect = _binding.lib.srtp_protect
        self._bytes = ffi.new("char[]", MAX_SEGMENTS * _SLOT)
        self._view = memoryview(ffi.buffer(self._bytes)).cast("B")
        self._slots = [(slot * _SLOT, self._bytes + slot * _SLOT) for slot in range(MAX_SEGMENTS)]
        self._length = ffi.new("int *")

    def encrypt(self, session: object, packets: list[bytes]) -> list[memoryview]:
        """Returns the packets encrypted, in memory that the next call uses again.

        What libsrtp refuses is left out, and what is too long for its slot.
        """
        view, length, protect = self._view, self._length, self._protect
        encrypted = []
        for packet, (start, slot) in zip(packets, self._slots, strict=False):
            size = len(packet)
            if size > _LONGEST:
                continue
            view[start : start + size] = packet
            length[0] = size
            if protect(session, slot, length) == 0:
                encrypted.append(view[start : start + length[0]])
        return encrypted


@cache
def _memory() -> _Memory:
    """One for the process: nothing stays in it from one call to the next."""
    return _Memory()
