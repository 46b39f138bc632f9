"""A process that decodes foreign video: one clip or one camera, then it ends.

`fork_server.py` starts `python -m model_actor.media.decode_worker`, which forks a worker
whenever one is wanted. A worker gets two sockets: one for messages, one for descriptors. From
the first message on it opens nothing by name: clips are read through the descriptor given, and
frames go to the shared memory given. `sandbox.py` holds it to that: no files, no network, no
programs. It may be killed at any time; nobody else is harmed. It ends when its control socket
closes, and the kernel ends it when its owner dies.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import mmap
import os
import pkgutil
import resource
import selectors
import signal
import socket
import sys
from typing import TYPE_CHECKING, NoReturn

import av

from model_actor.media.camera_source import CameraSource
from model_actor.media.clip_source import ClipSource, RefusedClipError
from model_actor.media.limits import DecodeLimits, Refusal
from model_actor.media.sandbox import SandboxStatus, confine, enter_namespaces
from model_actor.media.wire import (
    FORKED,
    HEADER,
    CameraPacket,
    Kind,
    OpenCamera,
    OpenClip,
    ReadWindow,
    Refused,
    message,
    pack_times,
    unpack_rate,
    unpack_sequence,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
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
            Kind.PACE: self._pace,
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

    def _pace(self, payload: bytes) -> None:
        self._open().pace(unpack_rate(payload))

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


def serve(orders: socket.socket, limits: DecodeLimits, walls: SandboxStatus) -> None:
    """Forks a worker for each pair of sockets that comes, until the socket closes.

    The answer is the worker's number and a descriptor that names it. This process never sees
    a video, and stays single-threaded: else it could not be forked.
    """
    workers: dict[int, int] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(orders, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not orders:
                    selector.unregister(key.fileobj)
                    _reap(workers, key.fd)
                elif not _fork(orders, limits, walls, workers, selector):
                    for handle in list(workers):
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                        _reap(workers, handle)
                    return


def _fork(
    orders: socket.socket,
    limits: DecodeLimits,
    walls: SandboxStatus,
    workers: dict[int, int],
    selector: selectors.BaseSelector,
) -> bool:
    """Forks a worker; returns whether there was an order to do so."""
    _, sockets, _, _ = socket.recv_fds(orders, 1, 2)
    if not sockets:
        return False
    server = os.getpid()
    pid = os.fork()
    if pid == 0:
        _work(server, sockets, limits, walls)
    handle = os.pidfd_open(pid)
    workers[handle] = pid
    selector.register(handle, selectors.EVENT_READ)
    for each in sockets:
        os.close(each)
    socket.send_fds(orders, [FORKED.pack(pid)], [handle])
    return True


def _reap(workers: dict[int, int], handle: int) -> None:
    os.waitpid(workers.pop(handle), 0)
    os.close(handle)


def _work(server: int, sockets: list[int], limits: DecodeLimits, walls: SandboxStatus) -> NoReturn:
    """Is a worker, in its own process; whatever happens, no more than that."""
    try:
        _keep_only(sockets)
        _tie_to(server)
        _bound(limits)
        confine(walls)
        control, descriptors = (socket.socket(fileno=each) for each in sockets)
        Worker(control, descriptors, limits).run()
    finally:
        os._exit(0)


def _keep_only(descriptors: list[int]) -> None:
    """Closes what belongs to the server and to other workers."""
    above = 3
    for each in sorted(descriptors):
        os.closerange(above, each)
        above = each + 1
    os.closerange(above, os.sysconf("SC_OPEN_MAX"))


def _tie_to(owner: int) -> None:
    """Lets the kernel end this process when its owner dies."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != owner:
        os._exit(0)


def _bound(limits: DecodeLimits) -> None:
    """Lets the kernel refuse what a decoder does not need."""
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


def _load_all() -> None:
    """Loads what a library would load when it is first needed: a worker can open nothing."""
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def main() -> None:
    """Runs the server: owner's pid, descriptor of the socket for orders, limits as JSON."""
    owner, orders = (int(argument) for argument in sys.argv[1:3])
    limits = DecodeLimits(**json.loads(sys.argv[3]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _load_all()
    walls = enter_namespaces()
    # After that: a process that changes its rights is tied to nobody any more (prctl(2)).
    _tie_to(owner)
    # What is there now is shared with the workers for as long as nobody writes to it.
    gc.freeze()
    told = socket.socket(fileno=orders)
    told.sendall(walls.pack())
    serve(told, limits, walls)


if __name__ == "__main__":
    main()
