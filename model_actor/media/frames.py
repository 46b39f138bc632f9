"""Frames in memory that a decode worker shares with its owner."""

from __future__ import annotations

import ctypes
import fcntl
import math
import mmap
import os
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t) + (ctypes.c_int,) * 3 + (ctypes.c_ssize_t,)
_LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_PROT_NONE = 0
_MAP_FIXED = 0x10
_MAP_FAILED = ctypes.c_void_p(-1).value


class FrameBlock:
    """Consecutive frames, readable until `release`."""

    def __init__(
        self,
        frames: npt.NDArray[np.uint8],
        pts_us: tuple[int, ...],
        released: Callable[[], None],
    ) -> None:
        """Takes the view, and whom to tell of its release."""
        self.frames = frames
        """I420, shape `(count, height * 3 // 2, width)`, contiguous, read-only."""
        self.pts_us = pts_us
        """When each frame is due or was captured, in microseconds."""
        self._released: Callable[[], None] | None = released

    def release(self) -> None:
        """Gives the memory back: the frames change from now on. Repeating it is no error."""
        released, self._released = self._released, None
        if released is not None:
            released()


class SharedFrames:
    """A ring of I420 frames: a worker writes, this process only reads.

    The ring is mapped twice in a row, so that any run of frames shorter than the ring
    is contiguous, wherever it begins. The memory's size is sealed: a worker that turned
    hostile can spoil its own session's pictures, and cannot take the pages away.
    """

    def __init__(self, width: int, height: int, slots: int) -> None:
        """Allocates; pages are only taken up once a frame is written to them.

        Args:
            width: Of a frame; even.
            height: Of a frame; even.
            slots: Fewest frames that the ring must hold; rounded up to whole pages.
        """
        frame_bytes = width * height * 3 // 2
        step = mmap.PAGESIZE // math.gcd(frame_bytes, mmap.PAGESIZE)
        self.slots = -(-slots // step) * step
        size = self.slots * frame_bytes
        self.fd = os.memfd_create("frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        """For a worker."""
        self._close = weakref.finalize(self, os.close, self.fd)
        os.ftruncate(self.fd, size)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals)
        frames: npt.NDArray[np.uint8] = np.frombuffer(
            memoryview(_map_twice(self.fd, size)), np.uint8
        )
        frames.flags.writeable = False
        self._frames = frames.reshape(2 * self.slots, height * 3 // 2, width)

    def view(self, first: int, count: int) -> npt.NDArray[np.uint8]:
        """Returns `count` frames from slot `first` modulo the ring on; keeps them mapped."""
        start = first % self.slots
        return self._frames[start : start + count]

    def close(self) -> None:
        """Closes the descriptor. The memory goes when the last view does."""
        self._frames = np.empty((0, *self._frames.shape[1:]), np.uint8)
        self._close()


def _map_twice(fd: int, size: int) -> ctypes.Array[ctypes.c_ubyte]:
    """Maps a descriptor read-only, twice in a row; unmapped when nobody refers to it."""
    anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    address = _mmap(None, 2 * size, _PROT_NONE, anonymous, -1)
    for half in (address, address + size):
        _mmap(half, size, mmap.PROT_READ, mmap.MAP_SHARED | _MAP_FIXED, fd)
    # A subclass, because plain ctypes arrays take no weak references.
    kind: Any = type("_Mapping", (ctypes.c_ubyte * (2 * size),), {})
    mapping: ctypes.Array[ctypes.c_ubyte] = kind.from_address(address)
    weakref.finalize(mapping, _LIBC.munmap, address, 2 * size).atexit = False
    return mapping


def _mmap(address: int | None, size: int, protection: int, flags: int, fd: int) -> int:
    got: int | None = _LIBC.mmap(address, size, protection, flags, fd, 0)
    if got is None or got == _MAP_FAILED:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return got
