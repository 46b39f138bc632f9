"""CPU time of processes by thread, and which cores they may use. Linux alone."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_NUMBERED = re.compile(r"[-_:/ ]?\d+$")


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds so far."""

    at: float
    """When, on the monotonic clock."""
    by_role: dict[str, float] = field(default_factory=dict)
    """Seconds of every role's processes, threads that have ended left out."""
    by_thread: dict[tuple[str, str], float] = field(default_factory=dict)
    """The same by role and name of the thread."""
    busy: float = 0.0
    """Seconds of all of the machine, all cores together."""

    def since(self, before: Usage) -> Spent:
        """Returns what was spent from an earlier look to this one."""
        wall = self.at - before.at
        return Spent(
            wall_s=wall,
            by_role={
                role: used - before.by_role.get(role, 0.0) for role, used in self.by_role.items()
            },
            by_thread={
                key: used - before.by_thread.get(key, 0.0) for key, used in self.by_thread.items()
            },
            machine=(self.busy - before.busy) / wall,
        )


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds of a stretch of time."""

    wall_s: float
    by_role: dict[str, float]
    by_thread: dict[tuple[str, str], float]
    machine: float
    """Cores of the machine that were busy."""

    def seconds(self, *roles: str) -> float:
        """Returns the seconds of some roles."""
        return sum(self.by_role.get(role, 0.0) for role in roles)

    def cores(self, *roles: str) -> float:
        """Returns the share of a core that some roles took."""
        return self.seconds(*roles) / self.wall_s

    def threads(self, role: str, least: float = 0.002) -> dict[str, float]:
        """Returns cores by kind of thread; those below `least` cores are left out."""
        shares = {
            name: used / self.wall_s for (of, name), used in self.by_thread.items() if of == role
        }
        return {name: round(share, 4) for name, share in sorted(shares.items()) if share >= least}


def usage(roles: dict[str, list[psutil.Process]]) -> Usage:
    """Reads the CPU time of processes by role."""
    by_role: dict[str, float] = {}
    by_thread: dict[tuple[str, str], float] = {}
    for role, processes in roles.items():
        for process in processes:
            with suppress(OSError, psutil.Error):
                for name, seconds in _threads_s(process.pid):
                    by_role[role] = by_role.get(role, 0.0) + seconds
                    key = (role, name)
                    by_thread[key] = by_thread.get(key, 0.0) + seconds
    times = psutil.cpu_times()
    busy = sum(times[:8]) - times.idle - times.iowait
    return Usage(time.monotonic(), by_role, by_thread, busy)


def pin(processes: Iterable[psutil.Process], cores: Iterable[int]) -> None:
    """Restricts processes, all threads that they have, to some cores."""
    chosen = set(cores)
    for process in processes:
        with suppress(OSError):
            for task in Path(f"/proc/{process.pid}/task").iterdir():
                with suppress(OSError):
                    os.sched_setaffinity(int(task.name), chosen)


def _threads_s(pid: int) -> list[tuple[str, float]]:
    """Name and time of the threads of a process; numbers at the end of a name are cut off.

    In nanoseconds of the scheduler: the ticks of `stat` are too coarse for a few seconds.
    """
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError, ValueError):
            name = _NUMBERED.sub("", (task / "comm").read_text().strip())
            found.append((name, int((task / "schedstat").read_text().split()[0]) / 1e9))
    return found
