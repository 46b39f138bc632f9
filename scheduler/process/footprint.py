"""What this process takes from its machine, and how late its event loop is.

Read from /proc; where there is none, memory and descriptors are 0: not known.
"""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections import deque
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

from sana_gateway.v1 import pool_pb2

LAG_PERIOD_S: Final = 0.25
"""How often the lag of the event loop is measured."""
LAG_KEPT_S: Final = 10.0
"""For how long a lag is told."""
READ_S: Final = 1.0
"""How old the figures of memory and descriptors may be: to list thousands takes a while."""

_SELF: Final = Path("/proc/self")
_START_FIELD: Final = 19
"""Of /proc/self/stat behind the name: clock ticks from the machine's boot to the beginning."""


class LoopLag:
    """How late the timers of an event loop are. `run` measures."""

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque(maxlen=round(LAG_KEPT_S / LAG_PERIOD_S))

    async def run(self) -> None:
        """Measures until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_PERIOD_S
            await asyncio.sleep(LAG_PERIOD_S)
            now = loop.time()
            self._late.append((now, max(0.0, now - due)))

    def worst_s(self, now: float) -> float:
        """Returns the highest lag of the last seconds.

        Args:
            now: The event loop's time.
        """
        return max((late for at, late in self._late if now - at <= LAG_KEPT_S), default=0.0)


class Footprint:
    """The figures of this process, for heartbeats and pools."""

    def __init__(
        self, lag: LoopLag | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Has read nothing yet.

        Args:
            lag: Of the event loop, where it is measured.
            clock: Tells the time, as the event loop does.
        """
        self._lag = lag
        self._clock = clock
        self._read_at = float("-inf")
        self._resident_bytes = self._open_descriptors = 0

    def figures(self) -> pool_pb2.ProcessFigures:
        """Returns them as they are now, or were within the last second."""
        now = self._clock()
        if now - self._read_at >= READ_S:
            self._read_at = now
            self._resident_bytes, self._open_descriptors = _resident_bytes(), _open_descriptors()
        return pool_pb2.ProcessFigures(
            process=process_name(),
            resident_bytes=self._resident_bytes,
            open_descriptors=self._open_descriptors,
            cpu_s=time.process_time(),
            loop_lag_s=self._lag.worst_s(now) if self._lag is not None else 0.0,
        )


def process_name() -> str:
    """Returns a name that no other process has: of this host or another, now or later."""
    return _name(os.getpid())


@cache
def _name(pid: int) -> str:
    return f"{platform.node()}:{pid}:{_began()}"


def _began() -> str:
    try:
        stat = (_SELF / "stat").read_text()
    except OSError:
        return str(time.time_ns())
    # The name before the last bracket may hold anything.
    return stat.rpartition(")")[2].split()[_START_FIELD]


def _resident_bytes() -> int:
    try:
        pages = int((_SELF / "statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _open_descriptors() -> int:
    try:
        return sum(1 for _ in (_SELF / "fd").iterdir())
    except OSError:
        return 0
