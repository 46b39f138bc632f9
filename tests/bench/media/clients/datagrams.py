"""Reads many datagrams with one system call: `recvmmsg(2)`, with the kernel's time of each.

The client of a benchmark shares the machine with what it measures. One call a packet is
most of what such a client costs; a frame of eleven packets is one call here. Linux alone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import numpy as np

MOST: Final = 64
"""Datagrams of one call."""
SIZE: Final = 2048
"""Longest datagram that is read whole."""
_NAME, _CONTROL = 28, 64
_SO_TIMESTAMPNS: Final = 35
_SO_RCVBUFFORCE: Final = 33
_BUFFER_BYTES: Final = 8 << 20
_CMSG_HEADER: Final = 16
_TIMESPEC: Final = struct.Struct("qq")
# struct mmsghdr of 64-bit Linux, recvmmsg(2).
_MESSAGE: Final = np.dtype(
    [
        ("name", "u8"),
        ("name_length", "u8"),
        ("parts", "u8"),
        ("part_count", "u8"),
        ("control", "u8"),
        ("control_length", "u8"),
        ("flags", "u8"),
        ("length", "u8"),
    ]
)
_PART: Final = np.dtype([("base", "u8"), ("length", "u8")])


@dataclass(frozen=True, slots=True)
class Datagram:
    """One datagram, valid until the next read."""

    arrival_ns: int
    """When the kernel got it, on the monotonic clock."""
    data: memoryview
    slot: int
    """Where its address lies; see `Reader.address`."""


class Reader:
    """The memory that datagrams are read into; one serves all sockets of a thread."""

    def __init__(self) -> None:
        self._call = ctypes.CDLL(None, use_errno=True).recvmmsg
        self._data = np.zeros((MOST, SIZE), np.uint8)
        self._names = np.zeros((MOST, _NAME), np.uint8)
        self._controls = np.zeros((MOST, _CONTROL), np.uint8)
        self._parts = np.zeros(MOST, _PART)
        self._messages = np.zeros(MOST, _MESSAGE)
        at = np.arange(MOST, dtype=np.uint64)
        self._parts["base"] = self._data.ctypes.data + at * SIZE
        self._parts["length"] = SIZE
        self._messages["name"] = self._names.ctypes.data + at * _NAME
        self._messages["parts"] = self._parts.ctypes.data + at * _PART.itemsize
        self._messages["part_count"] = 1
        self._messages["control"] = self._controls.ctypes.data + at * _CONTROL
        self._views = [row.data for row in self._data]
        self._stamps = self._controls.data.cast("B")

    def read(self, fd: int) -> Iterator[Datagram]:
        """Reads what waits on a socket that `prepare` was called for, at most `MOST`.

        Raises:
            OSError: The socket has an error, for example an ICMP answer.
        """
        # The kernel writes how much it used over how much there is.
        self._messages["name_length"] = _NAME
        self._messages["control_length"] = _CONTROL
        real_to_monotonic = time.monotonic_ns() - time.time_ns()
        count = self._call(fd, self._messages.ctypes.data_as(ctypes.c_void_p), MOST,
            socket.MSG_DONTWAIT, None)  # fmt: skip
        if count < 0:
            code = ctypes.get_errno()
            if code in (errno.EAGAIN, errno.EINTR):
                return
            raise OSError(code, os.strerror(code))
        for slot, length in enumerate(self._messages["length"][:count].tolist()):
            at = slot * _CONTROL + _CMSG_HEADER
            seconds, nanoseconds = _TIMESPEC.unpack_from(self._stamps, at)
            arrival = seconds * 1_000_000_000 + nanoseconds + real_to_monotonic
            yield Datagram(arrival, self._views[slot][: length & 0xFFFFFFFF], slot)

    def address(self, datagram: Datagram) -> tuple[str, int]:
        """Returns where a datagram came from."""
        name = self._names[datagram.slot].tobytes()
        family, port = struct.unpack_from("=H", name)[0], struct.unpack_from("!H", name, 2)[0]
        packed = name[4:8] if family == socket.AF_INET else name[8:24]
        return socket.inet_ntop(family, packed), port


def prepare(own: socket.socket) -> None:
    """Has the kernel note when datagrams come, and gives it room for many."""
    for option in (socket.SO_RCVBUF, _SO_RCVBUFFORCE):
        with suppress(PermissionError):
            own.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
    own.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
