"""The server of decode workers, whose workers also try what they must not.

`python -m tests.media.probing` is `model_actor.media.decode_worker` but for one thing: a worker
takes FLUSH for the name of an attempt, makes it, and says what became of it. Nothing else of a
worker's life differs, so that what fails here fails for whoever takes over a decoder.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from model_actor.media import decode_worker
from model_actor.media.wire import Kind

_SYSTEM_CALL: Final = ctypes.CDLL(None, use_errno=True).syscall
"""Found before there are walls."""

NUMBERS: Final = {
    "ptrace": 101, "unshare": 272, "setns": 308, "mount": 165, "chroot": 161, "bpf": 321,
    "process_vm_readv": 310, "process_vm_writev": 311, "io_uring_setup": 425, "add_key": 248,
    "perf_event_open": 298, "userfaultfd": 323, "memfd_create": 319, "socket": 41, "connect": 42,
    "bind": 49, "listen": 50, "accept4": 288, "execve": 59, "execveat": 322, "fork": 57,
    "vfork": 58, "open": 2, "openat": 257, "openat2": 437, "creat": 85, "unlink": 87, "kill": 62,
    "tgkill": 234, "pidfd_open": 434, "pidfd_getfd": 438, "seccomp": 317, "symlink": 88,
    "shmget": 29, "mq_open": 240, "inotify_init1": 294, "sendfile": 40, "ioctl": 16, "capset": 126,
}  # fmt: skip
"""Calls that no decoder needs, on x86-64."""


def _call(number: int, *arguments: int) -> str:
    ctypes.set_errno(0)
    result = _SYSTEM_CALL(number, *(ctypes.c_long(each) for each in arguments))
    return "ok" if result >= 0 else f"errno {ctypes.get_errno()}"


def _allocate() -> str:
    return str(len(bytearray(3 << 30)))


def _compute() -> str:
    while True:
        pass


def _duplicate() -> str:
    kept = []
    while True:
        kept.append(os.dup(0))


def _thread() -> str:
    said: list[str] = []
    thread = threading.Thread(target=said.append, args=("ok",))
    thread.start()
    thread.join()
    return said[0]


def _exec_memory() -> str:
    return str(mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC))


def _exec_later() -> str:
    memory = mmap.mmap(-1, 4096)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return _call(10, address, 4096, mmap.PROT_READ | mmap.PROT_EXEC)


def _internet() -> str:
    return str(socket.create_connection(("127.0.0.1", 80), 1))


ATTEMPTS: Final[dict[str, Callable[[], str]]] = {
    "socket inet": lambda: str(socket.socket(socket.AF_INET)),
    "socket inet6": lambda: str(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)),
    "socket unix": lambda: str(socket.socket(socket.AF_UNIX)),
    "socket netlink": lambda: str(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
    "socketpair": lambda: str(socket.socketpair()),
    "connect": _internet,
    "open outside": lambda: Path("/etc/passwd").read_text(),
    "open its own": lambda: Path(__file__).read_text(),
    "write outside": lambda: str(Path("/tmp/written").write_text("")),  # noqa: S108
    "list outside": lambda: str(list(Path("/").iterdir())),
    "environment of others": lambda: Path("/proc/1/environ").read_text(),
    "exec": lambda: str(os.execv("/bin/true", ["true"])),  # noqa: S606
    "spawn": lambda: str(os.posix_spawn("/bin/true", ["true"], {})),
    "fork": lambda: str(os.fork()),
    "ask for its server": lambda: _call(110),
    "clone a process": lambda: _call(56, 17, 0, 0, 0, 0),
    "clone3": lambda: _call(435, 0, 88),
    "memory to execute": _exec_memory,
    "memory to execute later": _exec_later,
    "signals through files": lambda: _call(72, 0, 8, 1),
    "limits of others": lambda: _call(302, 1, resource.RLIMIT_NOFILE, 0, 0),
    "be traced": lambda: _call(157, 0x59616D61, -1, 0, 0, 0),
    "more memory": _allocate,
    "more time": _compute,
    "more descriptors": _duplicate,
    "thread": _thread,
    **{name: partial(_call, number, 0, 0, 0, 0, 0, 0) for name, number in NUMBERS.items()},
}  # fmt: skip
"""What to try, by name. Answers `ok` or text where it works."""


class ProbingWorker(decode_worker.Worker):
    """A worker that does what it is told."""

    def _flush(self, payload: bytes) -> None:
        try:
            said = ATTEMPTS[payload.decode()]()
        except OSError as error:
            said = f"errno {error.errno}"
        except MemoryError:
            said = "no memory"
        self._send(Kind.FLUSHED, json.dumps(said).encode())


if __name__ == "__main__":
    decode_worker.Worker = ProbingWorker  # type: ignore[misc]
    decode_worker.main()
