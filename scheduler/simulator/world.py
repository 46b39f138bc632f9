"""One run of a scenario: the pool, the GPUs, the users, and the time."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from scheduler.core import pool_events as ev
from scheduler.core.placement import LeastLoaded, Pack, PlacementPolicy, Spread
from scheduler.core.pool import Pool
from scheduler.scenario.scenario import Scenario
from scheduler.scenario.visits import Visit, visits
from scheduler.scenario.workload import there_at_first
from scheduler.simulator.clients import Clients
from scheduler.simulator.counts import Counts
from scheduler.simulator.disturbances import Disturbances
from scheduler.simulator.driver import Driver
from scheduler.simulator.fleet import Fleet
from scheduler.simulator.lanes import ByMix, ChunkClock, Chunks, EveryChunk, rhythm_of
from scheduler.simulator.scaling import Autoscaler
from scheduler.simulator.timeline import Timeline

SAMPLE_S = 60.0
"""Simulated seconds from one point of the curves to the next."""
_NEVER_S = 1e12
_POLICIES: dict[str, Callable[[], PlacementPolicy]] = {
    "pack": Pack,
    "spread": Spread,
    "least-loaded": LeastLoaded,
}
_HEADROOM = 1.15
"""GPUs at the start, in multiples of what the first sessions need."""

Progress = Callable[[float], None]
"""Told of the simulated time, from time to time."""


@dataclass(frozen=True, slots=True)
class Point:
    """The pool at one moment, and its chunks since the point before."""

    at: float
    connected: int
    playing: int
    waiting: int
    """For a place or for compute."""
    gpus: int
    """Booting ones too: they are paid for."""
    bound: int
    chunks: float
    late: float


@dataclass(frozen=True, slots=True)
class Run:
    """What came of it."""

    counts: Counts
    chunks: Chunks
    """Within the measured time; skipped ones are not among them."""
    gpu_s: float
    boots: int
    deaths: int
    connected_s: float
    """Seconds that sessions were connected, without those turned away."""
    present: int
    """Sessions that are there at the end."""
    waiting_s: tuple[float, ...]
    """How long those have waited who wait for a place or for compute at the end."""
    points: tuple[Point, ...]
    events: int
    """What the pool was told, in the warm-up too."""
    wall_s: float
    """Seconds of processor time on this machine."""


class World:
    """All of it.

    Args:
        scenario: What to run.
        exact: Whether to play every chunk.
        progress: Told of the time.
    """

    def __init__(
        self, scenario: Scenario, *, exact: bool = False, progress: Progress = lambda _: None
    ) -> None:
        spec = scenario.spec
        self._scenario, self._progress = scenario, progress
        self._end = scenario.duration
        self._timeline = Timeline(-scenario.warm_up)
        # Beats are left out: a GPU that dies is told of (`Costs.notice_ms`), none hangs.
        rules = replace(
            spec.pool_rules(),
            actor_timeout=_NEVER_S,
            models=(spec.model.name,),
        )
        self._driver = Driver(Pool(rules, _POLICIES[spec.policy]()), self._timeline)
        rhythm = rhythm_of(spec.model)
        self._clock: ChunkClock = EveryChunk(rhythm) if exact else ByMix(rhythm)
        self._counts = Counts(spec.compute_slots)
        self._clients = Clients(spec, self._timeline, self._driver, self._clock, self._counts)
        self._fleet = Fleet(spec, scenario.seed, self._timeline, self._driver, self._clients.lost)
        self._clients.fleet = self._fleet
        self._driver.listen(
            {
                **self._clients.effects,
                ev.Replace: self._fleet.replace,
                ev.Retire: self._fleet.retire,
            }
        )
        self._scaler = Autoscaler(spec, self._timeline, self._driver, self._fleet)
        self._points: list[Point] = []
        self._connected_s = 0.0
        self._base = self._before = Chunks(0, 0)
        self._paid_before = 0.0
        self._boots_before = self._deaths_before = 0

    def run(self) -> Run:
        """Runs it to its end."""
        began = time.process_time()
        with _without_collector():
            self._run()
        self._sample()
        counts, chunks = self._counts, self._clock.total(self._end)
        return Run(
            counts=counts,
            chunks=Chunks(chunks.made - self._base.made, chunks.late - self._base.late),
            gpu_s=self._fleet.paid_s() - self._paid_before,
            boots=self._fleet.boots - self._boots_before,
            deaths=self._fleet.deaths - self._deaths_before,
            connected_s=self._connected_s,
            present=self._clients.present,
            waiting_s=self._clients.waiting_s(self._end),
            points=tuple(self._points),
            events=self._driver.events,
            wall_s=time.process_time() - began,
        )

    def _run(self) -> None:
        for _ in range(self._gpus_at_start()):
            self._fleet.boot(at_once=True)
        self._timeline.after(0.0, self._scaler.start)
        self._timeline.at(0.0, self._measure)
        Disturbances(self._scenario, self._timeline, self._fleet, self._scaler).schedule()
        self._expect(visits(self._scenario))
        while (happening := self._timeline.next(self._end)) is not None:
            action, arguments = happening
            action(*arguments)

    def _measure(self) -> None:
        """The warm-up is over."""
        now = self._timeline.now
        self._counts.measure_from(now)
        self._base = self._before = self._clock.total(now)
        self._paid_before = self._fleet.paid_s()
        self._boots_before, self._deaths_before = self._fleet.boots, self._fleet.deaths
        self._timeline.after(SAMPLE_S, self._look)

    def _look(self) -> None:
        self._sample()
        self._timeline.after(SAMPLE_S, self._look)

    def _sample(self) -> None:
        now, counts = self._timeline.now, self._counts
        counts.plays(now, 0)
        chunks = self._clock.total(now)
        since = self._points[-1].at if self._points else 0.0
        if now <= since:
            return
        self._connected_s += (now - since) * self._clients.present
        self._points.append(
            Point(
                at=now,
                connected=self._clients.present,
                playing=counts.playing,
                waiting=self._clients.waiting,
                gpus=len(self._fleet.gpus),
                bound=counts.bound,
                chunks=chunks.made - self._before.made,
                late=chunks.late - self._before.late,
            )
        )
        self._before = chunks
        self._progress(now)

    def _expect(self, coming: Iterator[Visit]) -> None:
        """Lets the sessions come, one after the other."""
        visit = next(coming, None)
        if visit is not None:
            self._timeline.at(visit.at, self._arrive, visit, coming)

    def _arrive(self, visit: Visit, coming: Iterator[Visit]) -> None:
        self._expect(coming)
        self._clients.arrive(visit)

    def _gpus_at_start(self) -> int:
        spec, workload = self._scenario.spec, self._scenario.workload
        if spec.gpus_at_start is not None:
            return min(spec.gpus, spec.gpus_at_start)
        # All who are there begin by playing: pauses come later.
        playing = there_at_first(workload, self._timeline.now)
        needed = math.ceil(_HEADROOM * playing / spec.compute_slots) + spec.scaling.spare_gpus
        return min(spec.gpus, needed)


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Spares the cyclic collector's walks through a heap that has no cycles to speak of."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
