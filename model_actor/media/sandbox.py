"""What a decode worker may ask of the kernel: almost nothing.

Two walls, each taken where the machine has it, and said once where it has not:

* *Namespaces*, entered by the server of the workers, which inherit them: a network without
  interfaces, IPC and host names of its own, and an empty root directory (user_namespaces(7)).
* *seccomp*, in each worker before it reads its first foreign byte: the calls of `ALLOWED` and no
  others (seccomp(2)). Files, sockets, programs and processes are refused with EPERM rather than
  by death, so that a library that asks in passing goes on without.

Beside them stand the limits of memory, CPU time, file size and descriptors of `decode_worker`.

`python -m model_actor.media.sandbox` tells as JSON what this machine has.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

_LOOK_S: Final = 20.0
"""How long looking at the machine may take."""

# What the kernel's headers call PR_*, SECCOMP_*, CLONE_*, _LINUX_CAPABILITY_* and F_*.
_PR_SET_NAME: Final = 15
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_MODE_FILTER: Final = 2
_RETURN_ALLOW: Final = 0x7FFF0000
_RETURN_ERRNO: Final = 0x00050000
_RETURN_KILL_PROCESS: Final = 0x80000000
_CLONE_THREAD: Final = 0x00010000
_NAMESPACES: Final = 0x10000000 | 0x40000000 | 0x08000000 | 0x04000000
"""User, network, IPC and host name."""
_CAPABILITIES_3: Final = 0x20080522
_PROT_EXEC: Final = 4
_F_DUPFD_CLOEXEC: Final = 1030

# Berkeley packet filter as seccomp takes it: code, jump if true, jump if false, value.
_INSTRUCTION: Final = struct.Struct("HBBI")
_LOAD: Final = 0x20
_JUMP_EQUAL: Final = 0x15
_JUMP_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16


@dataclass(frozen=True, slots=True)
class Architecture:
    """Numbers that differ between processors."""

    audit: int
    """AUDIT_ARCH_*: which table of calls a number is of."""
    calls: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Rule:
    """On which arguments a call is allowed; only the lower half of an argument is looked at."""

    argument: int
    equal: int | None = None
    """The only value that is allowed."""
    without: int = 0
    """Bits of which none may be set."""
    with_any: int = 0
    """Bits of which one must be set."""


ALLOWED: Final[Mapping[str, Rule | None]] = {
    # What it was given: its sockets, the clip and the memory for frames.
    **dict.fromkeys(("read", "write", "readv", "writev", "pread64", "lseek", "close")),
    **dict.fromkeys(("recvfrom", "recvmsg", "sendto", "sendmsg", "shutdown", "close_range")),
    # Python looks at every socket and file that it takes over. Of what it could do besides, fcntl
    # sends signals to others, and newfstatat tells whether a file exists.
    **dict.fromkeys(("getsockname", "getsockopt", "fstat", "newfstatat")),
    "fcntl": Rule(1, equal=_F_DUPFD_CLOEXEC),
    **dict.fromkeys(("poll", "ppoll", "select", "pselect6")),
    # Memory, none of it to be executed.
    **dict.fromkeys(("munmap", "mremap", "brk", "madvise")),
    "mmap": Rule(2, without=_PROT_EXEC),
    "mprotect": Rule(2, without=_PROT_EXEC),
    # Threads of its own, no processes. clone3 hides its flags: libraries fall back to clone.
    "clone": Rule(0, with_any=_CLONE_THREAD),
    **dict.fromkeys(("futex", "set_robust_list", "rseq", "set_tid_address")),
    **dict.fromkeys(("sched_yield", "sched_getaffinity", "membarrier")),
    "prctl": Rule(0, equal=_PR_SET_NAME),
    # Time, chance, its own limits and its end.
    **dict.fromkeys(("clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep")),
    **dict.fromkeys(("gettimeofday", "getrandom", "getrusage", "setrlimit")),
    **dict.fromkeys(("getpid", "gettid", "uname", "sysinfo")),
    "prlimit64": Rule(0, equal=0),
    **dict.fromkeys(("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack")),
    **dict.fromkeys(("exit", "exit_group", "restart_syscall")),
}  # fmt: skip
"""Calls by name, each with its condition."""

_X86_64: Final = Architecture(
    0xC000003E,
    {
        "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9,
        "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14,
        "rt_sigreturn": 15, "pread64": 17, "readv": 19, "writev": 20, "select": 23,
        "sched_yield": 24, "mremap": 25, "madvise": 28, "nanosleep": 35, "getpid": 39,
        "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "shutdown": 48,
        "getsockname": 51, "getsockopt": 55, "clone": 56, "exit": 60, "uname": 63, "fcntl": 72,
        "gettimeofday": 96, "getrusage": 98, "sysinfo": 99, "sigaltstack": 131, "prctl": 157,
        "setrlimit": 160, "gettid": 186, "futex": 202, "sched_getaffinity": 204,
        "set_tid_address": 218, "restart_syscall": 219, "clock_gettime": 228,
        "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "newfstatat": 262,
        "pselect6": 270, "ppoll": 271, "set_robust_list": 273, "prlimit64": 302,
        "getrandom": 318, "membarrier": 324, "rseq": 334, "clone3": 435, "close_range": 436,
    },
)  # fmt: skip
_AARCH64: Final = Architecture(
    0xC00000B7,
    {
        "fcntl": 25, "close": 57, "lseek": 62, "read": 63, "write": 64, "readv": 65,
        "writev": 66, "pread64": 67, "pselect6": 72, "ppoll": 73, "newfstatat": 79, "fstat": 80,
        "exit": 93, "exit_group": 94, "set_tid_address": 96, "futex": 98,
        "set_robust_list": 99, "nanosleep": 101, "clock_gettime": 113, "clock_getres": 114,
        "clock_nanosleep": 115, "sched_getaffinity": 123, "sched_yield": 124,
        "restart_syscall": 128, "sigaltstack": 132, "rt_sigaction": 134, "rt_sigprocmask": 135,
        "rt_sigreturn": 139, "uname": 160, "setrlimit": 164, "getrusage": 165, "prctl": 167,
        "gettimeofday": 169, "getpid": 172, "gettid": 178, "sysinfo": 179, "getsockname": 204,
        "sendto": 206, "recvfrom": 207, "getsockopt": 209, "shutdown": 210, "sendmsg": 211,
        "recvmsg": 212, "brk": 214, "munmap": 215, "mremap": 216, "clone": 220, "mmap": 222,
        "mprotect": 226, "madvise": 233, "prlimit64": 261, "getrandom": 278, "membarrier": 283,
        "rseq": 293, "clone3": 435, "close_range": 436,
    },
)  # fmt: skip
ARCHITECTURES: Final[Mapping[str, Architecture]] = {"x86_64": _X86_64, "aarch64": _AARCH64}
"""By the machine's name in uname(2). A call that one lacks is left out there."""


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    """Which walls decode workers have on this machine. Empty text: it stands; else why not."""

    system_calls: str = ""
    """seccomp: no files, sockets, programs, processes."""
    network: str = ""
    """A network of their own, with nothing in it."""
    file_system: str = ""
    """An empty root directory."""

    @property
    def missing(self) -> dict[str, str]:
        """Those that are not there, with the reason."""
        return {name: why for name, why in asdict(self).items() if why}

    @property
    def has_no_network(self) -> bool:
        """Whether one wall at least keeps workers off the network."""
        return not (self.system_calls and self.network)

    def pack(self) -> bytes:
        """Returns it as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def unpack(cls, packed: bytes) -> SandboxStatus:
        """Reads what `pack` made."""
        return cls(**json.loads(packed))


def filter_program(architecture: Architecture) -> bytes:
    """Returns the packet filter that lets `ALLOWED` pass. Pure.

    A call of another table of numbers (32-bit ones) ends the process; clone3 is said not to
    exist; all others are refused with EPERM.
    """
    calls = architecture.calls
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_EQUAL, 1, 0, architecture.audit),
        (_RETURN, 0, 0, _RETURN_KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    for name, rule in ALLOWED.items():
        if name not in calls:
            continue
        verdict = _verdict(rule)
        # Each block is skipped by all other calls, so none has to jump further than its length.
        program += [(_JUMP_EQUAL, 0, len(verdict), calls[name]), *verdict]
    program += [
        (_JUMP_EQUAL, 0, 1, calls["clone3"]),
        (_RETURN, 0, 0, _RETURN_ERRNO | errno.ENOSYS),
        (_RETURN, 0, 0, _RETURN_ERRNO | errno.EPERM),
    ]
    return b"".join(_INSTRUCTION.pack(*each) for each in program)


def _verdict(rule: Rule | None) -> list[tuple[int, int, int, int]]:
    """Returns the instructions that end the program for one call."""
    allow, refuse = (_RETURN, 0, 0, _RETURN_ALLOW), (_RETURN, 0, 0, _RETURN_ERRNO | errno.EPERM)
    if rule is None:
        return [allow]
    load = (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * rule.argument)
    if rule.equal is not None:
        return [load, (_JUMP_EQUAL, 0, 1, rule.equal), allow, refuse]
    if rule.with_any:
        return [load, (_JUMP_ANY_BIT, 0, 1, rule.with_any), allow, refuse]
    return [load, (_JUMP_ANY_BIT, 1, 0, rule.without), allow, refuse]


def enter_namespaces() -> SandboxStatus:
    """Leaves network and file system behind, for this process and those it forks; called
    while it has one thread and all its modules.

    Returns:
        Which walls stand now; of `system_calls`, whether they can.
    """
    system_calls = _why_no_filter()
    kernel = _kernel()
    # Removed at once: an empty directory that nobody can reach or write to any more.
    folder = tempfile.mkdtemp(prefix="sana-decode-")
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    Path(folder).rmdir()
    try:
        if kernel.unshare(_NAMESPACES):
            why = f"no user namespaces: {os.strerror(ctypes.get_errno())}"
            return SandboxStatus(system_calls, why, why)
        os.fchdir(root)
        if kernel.chroot(b"."):
            why = f"chroot: {os.strerror(ctypes.get_errno())}"
            return SandboxStatus(system_calls, "", why)
        return SandboxStatus(system_calls)
    finally:
        os.close(root)


def confine(status: SandboxStatus) -> None:
    """Gives up capabilities and system calls, for ever.

    Args:
        status: What the server found when it entered its namespaces.

    Raises:
        OSError: The filter, which can be had here, was not taken.
    """
    kernel = _kernel()
    header = struct.pack("=Ii", _CAPABILITIES_3, 0)
    # Those that the namespaces gave, above all.
    if kernel.capset(header, bytes(24)):
        raise _refused("capset")
    if status.system_calls:
        return
    program = filter_program(ARCHITECTURES[platform.machine()])
    held = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: how many instructions, padding, where.
    described = struct.pack("@HP", len(program) // _INSTRUCTION.size, ctypes.addressof(held))
    if kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise _refused("PR_SET_NO_NEW_PRIVS")
    if kernel.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, described, 0, 0):
        raise _refused("PR_SET_SECCOMP")


def sandbox_status() -> SandboxStatus:
    """Tells what this machine has, by trying it in a process of its own. Blocks for a moment.

    Raises:
        OSError: No process could be started, or it ended without a word.
    """
    try:
        told = subprocess.run(
            [sys.executable, "-m", "model_actor.media.sandbox"],
            capture_output=True,
            check=True,
            timeout=_LOOK_S,
        ).stdout
    except subprocess.SubprocessError as error:
        raise OSError("the sandbox could not be tried") from error
    return SandboxStatus.unpack(told)


def _why_no_filter() -> str:
    """Tells why seccomp cannot be used here; empty when it can."""
    if sys.platform != "linux" or platform.machine() not in ARCHITECTURES:
        return f"no table of system calls for {sys.platform} on {platform.machine()}"
    # Without a program the kernel says EFAULT where it knows filters, EINVAL where it does not.
    _kernel().prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, None, 0, 0)
    return "" if ctypes.get_errno() == errno.EFAULT else "the kernel has no seccomp filters"


def _kernel() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _refused(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")


def _try_it() -> SandboxStatus:
    """Enters everything, here; returns what stands."""
    status = enter_namespaces()
    with suppress(OSError):
        confine(status)
        return status
    return SandboxStatus("the filter was not taken", status.network, status.file_system)


def main() -> None:
    """Prints what this machine has."""
    os.write(1, _try_it().pack())


if __name__ == "__main__":
    main()
