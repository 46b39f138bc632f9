"""How many GPUs are up: the pool's own signal, with hysteresis and an eye on the boot time.

Out at once, in late: a GPU is asked for when it is wanted, and given back when so many
were not needed at any moment of the last minutes. What is given back is emptied first,
the least used one before the others.
"""

from __future__ import annotations

import math
from collections import deque

from scheduler.simulator.driver import Driver
from scheduler.simulator.fleet import Fleet, Gpu
from scheduler.simulator.scenario import PoolSpec
from scheduler.simulator.timeline import Timeline


class Highest:
    """The highest of the values of the last seconds.

    Args:
        span: How many seconds.
    """

    def __init__(self, span: float) -> None:
        self._span = span
        self._falling: deque[tuple[float, int]] = deque()

    def push(self, value: int, now: float) -> int:
        """Takes in a value; returns the highest of the span."""
        falling = self._falling
        while falling and falling[-1][1] <= value:
            falling.pop()
        falling.append((now, value))
        while falling[0][0] < now - self._span:
            falling.popleft()
        return falling[0][1]


class Autoscaler:
    """Follows `Signals.actors_wanted`.

    Args:
        spec: What there is.
        timeline: Virtual time.
        driver: Asked for the signals.
        fleet: Told to grow and to shrink.
    """

    def __init__(self, spec: PoolSpec, timeline: Timeline, driver: Driver, fleet: Fleet) -> None:
        self._rules = spec.scaling
        self._most = spec.gpus
        self._timeline = timeline
        self._driver = driver
        self._fleet = fleet
        self._highest = Highest(60.0 * spec.scaling.calm_minutes)

    def start(self) -> None:
        """Begins to look, now and then. What is up already counts as needed until now."""
        self._highest.push(len(self._fleet.gpus), self._timeline.now)
        self._tick()

    def look(self) -> None:
        """Compares what there is with what is wanted."""
        now = self._timeline.now
        wanted = self.wanted(self._driver.pool.signals(now).actors_wanted)
        needed = self._highest.push(wanted, now)
        staying = [gpu for gpu in self._fleet.gpus.values() if not gpu.draining]
        if len(staying) < wanted:
            self._grow(wanted - len(staying))
        elif len(staying) > needed:
            self._shrink(staying, len(staying) - needed)

    def _tick(self) -> None:
        self._timeline.after(self._rules.every_seconds, self._tick)
        self.look()

    def wanted(self, signal: int) -> int:
        """Returns the GPUs to have, for what the pool says it wants."""
        spare = max(self._rules.spare_gpus, math.ceil(self._rules.spare_share * signal))
        return min(self._most, signal + spare)

    def _grow(self, by: int) -> None:
        emptying = [gpu for gpu in self._fleet.gpus.values() if gpu.draining and not gpu.doomed]
        for gpu in sorted(emptying, key=lambda gpu: -len(gpu.sessions))[:by]:
            self._fleet.keep(gpu)
            by -= 1
        booting = sum(not gpu.up for gpu in self._fleet.gpus.values())
        for _ in range(min(by, self._rules.surge - booting, self._fleet.idle_places)):
            self._fleet.boot()

    def _shrink(self, staying: list[Gpu], by: int) -> None:
        up = sorted((gpu for gpu in staying if gpu.up), key=_use)
        for gpu in up[:by]:
            self._fleet.drain(gpu)


def _use(gpu: Gpu) -> tuple[int, int, int]:
    return gpu.computing, len(gpu.sessions), -gpu.place
