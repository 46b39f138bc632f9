"""Several datagrams to one address in one call, where the kernel can cut them itself.

Linux takes one long buffer and a segment size (UDP_SEGMENT, since 4.18) and makes the
datagrams far down the stack: most of the cost of sending small packets is paid once.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from struct import Struct
from typing import Final

Buffer = bytes | memoryview

MAX_SEGMENTS: Final = 48
"""Datagrams in one call; the kernel takes 64, and 64 kB in all."""

_UDP_SEGMENT: Final = 103
_SIZE: Final = Struct("=H")
_REFUSALS: Final = frozenset({errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.ENOPROTOOPT})
"""How a kernel or a network card says that it does not cut datagrams."""


class DatagramPath:
    """One way out: a socket that does not block, and where its datagrams go.

    Nothing is ever queued: what the socket does not take is lost, as on any network.
    """

    def __init__(self, udp: socket.socket, address: tuple[str, int]) -> None:
        self._udp = udp
        self._address = address
        self.offload = segmentation_offload()
        """Whether the kernel cuts the datagrams; no more once a network card refuses."""

    def send(self, datagrams: Sequence[Buffer]) -> int:
        """Sends datagrams in order and returns how many were taken."""
        if not self.offload:
            return self._send_singly(datagrams)
        sent = 0
        for start, end in equal_runs(datagrams):
            run = datagrams[start:end]
            if len(run) == 1:
                sent += self._send_singly(run)
                continue
            segment = [(socket.IPPROTO_UDP, _UDP_SEGMENT, _SIZE.pack(len(run[0])))]
            failed = _attempt(self._udp.sendmsg, run, segment, 0, self._address)
            if not failed:
                sent += len(run)
            elif failed in _REFUSALS:
                self.offload = False
                return sent + self._send_singly(datagrams[start:])
        return sent

    def _send_singly(self, datagrams: Sequence[Buffer]) -> int:
        return sum(
            not _attempt(self._udp.sendto, datagram, self._address) for datagram in datagrams
        )


def _attempt(send: Callable[..., int], *arguments: object) -> int:
    """Sends, and returns the number of the error, or 0.

    A socket may answer with an error of an earlier datagram (ip(7), `IP_RECVERR`), which
    says nothing of this one: it is tried twice.
    """
    try:
        send(*arguments)
    except BlockingIOError:
        return errno.EAGAIN
    except OSError:
        try:
            send(*arguments)
        except OSError as error:
            return error.errno or errno.EIO
    return 0


def equal_runs(datagrams: Sequence[Buffer]) -> Iterator[tuple[int, int]]:
    """Yields the ranges that one call can send: of one length, but for a shorter last."""
    start, count = 0, len(datagrams)
    while start < count:
        size, end = len(datagrams[start]), start + 1
        limit = min(count, start + MAX_SEGMENTS)
        while end < limit and len(datagrams[end]) == size:
            end += 1
        if end < limit and len(datagrams[end]) < size:
            end += 1
        yield start, end
        start = end


@cache
def segmentation_offload() -> bool:
    """Tries once in this process whether the kernel cuts datagrams."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back,
    ):
        back.bind(("127.0.0.1", 0))
        back.settimeout(0.1)
        try:
            segment = [(socket.IPPROTO_UDP, _UDP_SEGMENT, _SIZE.pack(3))]
            out.sendmsg([b"abc", b"de"], segment, 0, back.getsockname())
            return (back.recv(16), back.recv(16)) == (b"abc", b"de")
        except OSError:
            return False
