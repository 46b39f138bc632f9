"""A process that decodes foreign video: one clip or one camera, then it ends.

Started by `workers.py` as `python -m model_actor.media.decode_worker`. It gets two
sockets: one for messages, one for descriptors. From the first message on it opens
nothing by name: clips are read through the descriptor given, frames go to the shared
memory given, and no file can grow. It may be killed at any time; nobody else is harmed.
It ends when its control socket closes, and the kernel ends it when its owner dies.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import signal
import socket
import sys
from typing import TYPE_CHECKING

from model_actor.media.camera_source import CameraSource
from model_actor.media.clip_source import ClipSource, RefusedClipError
from model_actor.media.limits import DecodeLimits, Refusal
from model_actor.media.wire import (
    HEADER,
    CameraPacket,
    Kind,
    OpenCamera,
    OpenClip,
    ReadWindow,
    Refused,
    message,
    pack_times,
    unpack_sequence,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_MAX_FILES = 64


class Worker:
    """Answers its owner until the socket closes."""

    def __init__(
        self, control: socket.socket, descriptors: socket.socket, limits: DecodeLimits
    ) -> None:
        """Takes the two sockets."""
        self._control = control
        self._input = control.makefile("rb", buffering=256 << 10)
        self._descriptors = descriptors
        self._limits = limits
        self._clip: ClipSource | None = None
        self._camera: CameraSource | None = None
        self._memory = memoryview(b"")
        self._frame_bytes = 0
        self._handlers: dict[Kind, Callable[[bytes], None]] = {
            Kind.OPEN_CLIP: self._open_clip,
            Kind.READ: self._read,
            Kind.OPEN_CAMERA: self._open_camera,
            Kind.PACKET: self._packet,
            Kind.FREE: self._free,
            Kind.FLUSH: self._flush,
        }

    def run(self) -> None:
        """Handles messages until there are no more."""
        self._send(Kind.READY)
        while True:
            head = self._input.read(HEADER.size)
            if len(head) < HEADER.size:
                return
            kind, length = HEADER.unpack(head)
            payload = self._input.read(length)
            if len(payload) < length:
                return
            _allow_cpu(self._limits.cpu_s)
            self._handlers[Kind(kind)](payload)

    def _open_clip(self, payload: bytes) -> None:
        order = OpenClip.unpack(payload)
        clip, memory = self._receive(2)
        self._map(memory, order.width, order.height, order.slots)
        try:
            self._clip = ClipSource(
                clip, (order.width, order.height), order.minimum_frames, self._limits
            )
        except RefusedClipError as refused:
            self._send(Kind.REFUSED, Refused(refused.refusal, refused.value).pack())
        except (MemoryError, ArithmeticError):
            self._send(Kind.REFUSED, Refused(Refusal.TOO_DEMANDING).pack())
        else:
            self._send(Kind.FACTS, self._clip.facts.pack())

    def _read(self, payload: bytes) -> None:
        order = ReadWindow.unpack(payload)
        if self._clip is None:
            raise RuntimeError("no clip is open")
        start, size = order.slot * self._frame_bytes, self._frame_bytes
        offsets = range(start, start + order.count * size, size)
        self._send(Kind.WINDOW, pack_times(self._clip.read(order.first, self._memory, offsets)))

    def _open_camera(self, payload: bytes) -> None:
        order = OpenCamera.unpack(payload)
        (memory,) = self._receive(1)
        self._map(memory, order.width, order.height, order.slots)
        self._camera = CameraSource(order, self._memory, self._limits)

    def _packet(self, payload: bytes) -> None:
        self._send(Kind.DECODED, self._open().decode(CameraPacket.unpack(payload)).pack())

    def _free(self, payload: bytes) -> None:
        self._open().free(unpack_sequence(payload))

    def _flush(self, _payload: bytes) -> None:
        self._open().flush()
        self._send(Kind.FLUSHED)

    def _open(self) -> CameraSource:
        if self._camera is None:
            raise RuntimeError("no camera is open")
        return self._camera

    def _receive(self, count: int) -> list[int]:
        _, descriptors, _, _ = socket.recv_fds(self._descriptors, 1, count)
        return descriptors

    def _map(self, fd: int, width: int, height: int, slots: int) -> None:
        self._frame_bytes = width * height * 3 // 2
        self._memory = memoryview(mmap.mmap(fd, slots * self._frame_bytes))
        os.close(fd)

    def _send(self, kind: Kind, payload: bytes = b"") -> None:
        self._control.sendall(message(kind, payload))


def _confine(owner: int, limits: DecodeLimits) -> None:
    """Gives up what a decoder does not need. A later issue adds seccomp."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != owner:
        sys.exit(0)
    for what, bound in (
        (resource.RLIMIT_AS, limits.address_space_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _MAX_FILES),
    ):
        resource.setrlimit(what, (bound, bound))
    _allow_cpu(limits.cpu_s)


def _allow_cpu(seconds: int) -> None:
    """Lets the kernel end this process once it has computed for so much longer."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(usage.ru_utime + usage.ru_stime)
    resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds + 1, resource.RLIM_INFINITY))


def main() -> None:
    """Runs a worker: owner's pid, descriptors of the two sockets, limits as JSON."""
    owner, control, descriptors = (int(argument) for argument in sys.argv[1:4])
    limits = DecodeLimits(**json.loads(sys.argv[4]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _confine(owner, limits)
    Worker(socket.socket(fileno=control), socket.socket(fileno=descriptors), limits).run()


if __name__ == "__main__":
    main()
