"""Processes of this machine, found by what started them and by where they listen (Linux).

Ray keeps its own tree of processes, and forgets nobody's environment: what a service started
is known by a variable that it was given, whoever its parent became.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_LOOK_S: Final = 0.02
_GONE: Final = frozenset({"Z", "X"})
"""States of a process that has ended: nobody has reaped it yet."""


def tagged(name: str, value: str) -> list[int]:
    """Returns the living processes that were given a variable, themselves or by a parent.

    Args:
        name: Of the variable.
        value: What it was set to.
    """
    wanted = f"{name}={value}".encode()
    found = []
    for pid in _pids():
        with suppress(OSError):
            if wanted in (PROC / str(pid) / "environ").read_bytes().split(b"\0") and lives(pid):
                found.append(pid)
    return found


def titled(pids: list[int], title: str) -> list[int]:
    """Returns those among them whose command line begins so."""
    return [pid for pid in pids if command_of(pid).startswith(title)]


def command_of(pid: int) -> str:
    """Returns the command line of a process; empty if there is none."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return b" ".join(words).decode(errors="replace").strip()


def listening(pids: list[int], path: str) -> int | None:
    """Returns which of them listens on a unix socket; None: none does.

    Args:
        pids: Where to look.
        path: Of the socket.
    """
    sockets = {f"socket:[{inode}]" for inode in _inodes(path)}
    for pid in pids:
        with suppress(OSError):
            for descriptor in (PROC / str(pid) / "fd").iterdir():
                with suppress(OSError):
                    if str(descriptor.readlink()) in sockets:
                        return pid
    return None


def lives(pid: int) -> bool:
    """Whether a process runs."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return False
    # The name, in brackets, may hold anything.
    return stat.rpartition(")")[2].split()[0] not in _GONE


def send(pid: int, what: signal.Signals) -> None:
    """Sends a signal; one to a process that is gone is lost."""
    with suppress(ProcessLookupError):
        os.kill(pid, what)


async def gone(pid: int, within_s: float) -> None:
    """Waits for a process to end.

    Raises:
        TimeoutError: It runs on.
    """
    async with asyncio.timeout(within_s):
        while lives(pid):  # noqa: ASYNC110 - nobody tells of a process that is not one's child
            await asyncio.sleep(_LOOK_S)


def _pids() -> Iterator[int]:
    for entry in PROC.iterdir() if PROC.is_dir() else ():
        if entry.name.isdigit():
            yield int(entry.name)


def _inodes(path: str) -> set[str]:
    """Returns the sockets that are bound to a path, as descriptors name them."""
    with suppress(OSError):
        rows = [line.split() for line in (PROC / "net" / "unix").read_text().splitlines()[1:]]
        return {row[6] for row in rows if len(row) > 7 and row[7] == path}
    return set()
