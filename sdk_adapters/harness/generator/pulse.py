"""What one process of the generator sees second by second, and how well it keeps time itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Final, Protocol

import numpy as np

from sdk_adapters.harness.generator.watching import Watching, Window
from sdk_adapters.harness.records import Second, sketch

TICK_S: Final = 0.05
"""Time between two looks at how late the event loop runs."""
VALUES: Final = 20_000
"""Values of a metric kept within a second; further ones are in the records alone."""


class Member(Protocol):
    """A session as the pulse counts it."""

    watching: Watching

    @property
    def connected(self) -> bool:
        """Whether it has its place."""

    @property
    def waiting(self) -> bool:
        """Whether it waits for one."""


class Pulse:
    """Counts within seconds; `second` ends one."""

    def __init__(self, process: int, window: Window) -> None:
        """Begins the first second.

        Args:
            process: Number of the process.
            window: The time that counts, on the monotonic clock.
        """
        self.values: dict[str, list[float]] = {}
        """Values since the last second, by metric."""
        self.late: list[float] = []
        """The same of `frame_lateness`; the list stays the same one."""
        self.failures = 0
        """Sessions that failed, were lost or turned away since the last second."""
        self.lags = sketch()
        """How late the event loop ran, in ms, at every look that counts."""
        self._worst_s = 0.0
        self._window = window
        self._process = process
        self._gone = [0, 0, 0]
        self._told = [0, 0, 0]
        self._cpu_s = time.process_time()
        self._at = time.monotonic()

    def add(self, metric: str, value: float) -> None:
        """Notes a value."""
        values = self.values.setdefault(metric, [])
        if len(values) < VALUES:
            values.append(value)

    def late_by(self, seconds: float, at: float) -> None:
        """Notes how late the event loop ran when it was looked at.

        While it stood it could not be looked at: looks that it missed count as they would
        have found it.
        """
        self._worst_s = max(self._worst_s, seconds)
        if self._window.begin <= at < self._window.end:
            while seconds >= 0.0:
                self.lags.add(seconds * 1e3)
                seconds -= TICK_S

    def leaves(self, watching: Watching) -> None:
        """Notes what a session saw that is no member any more."""
        for index, count in enumerate(_counts(watching)):
            self._gone[index] += count

    def second(self, members: Iterable[Member], at_s: float) -> Second:
        """Returns what was seen since the last call.

        Args:
            members: All sessions that are there.
            at_s: The time, since the beginning of the run.
        """
        now, cpu_s = time.monotonic(), time.process_time()
        totals = list(self._gone)
        connected = playing = waiting = 0
        for member in members:
            member.watching.settle()
            connected += member.connected
            waiting += member.waiting
            playing += member.watching.playing
            for index, count in enumerate(_counts(member.watching)):
                totals[index] += count
        frames, lost, freezes = (
            max(0, total - told) for total, told in zip(totals, self._told, strict=True)
        )
        second = Second(
            process=self._process,
            at_s=at_s,
            connected=connected,
            playing=playing,
            waiting=waiting,
            frames=frames,
            lost=lost,
            freezes=freezes,
            failures=self.failures,
            cpu=(cpu_s - self._cpu_s) / max(1e-3, now - self._at),
            lag_ms=self._worst_s * 1e3,
            values=self._percentiles(),
        )
        self._told, self._cpu_s, self._at = totals, cpu_s, now
        self.failures, self._worst_s = 0, 0.0
        return second

    def _percentiles(self) -> dict[str, tuple[float, float]]:
        found = {name: values for name, values in self.values.items() if values}
        if self.late:
            found["frame_lateness"] = self.late
        told = {}
        for name, values in found.items():
            median, most = np.percentile(values, (50, 95))
            told[name] = (float(median), float(most))
        self.values = {}
        self.late.clear()
        return told


async def watch_lag(pulse: Pulse) -> None:
    """Notes how late the event loop runs, until cancelled."""
    due = time.monotonic()
    while True:
        due += TICK_S
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        now = time.monotonic()
        pulse.late_by(max(0.0, now - due), now)
        if now - due > TICK_S:
            due = now


def _counts(watching: Watching) -> tuple[int, int, int]:
    return watching.frames, watching.numbers.lost, watching.freezes
