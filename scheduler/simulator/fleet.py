"""The GPUs: booting, up, dying, given back. And what they cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from scheduler.core import pool_events as ev
from scheduler.core.errors import InvariantError
from scheduler.core.ids import ActorId, SessionId
from scheduler.scenario.pool import PoolSpec
from scheduler.scenario.visits import stream
from scheduler.simulator.driver import Driver
from scheduler.simulator.timeline import Timeline

_GB = 10**9


@dataclass(slots=True, eq=False)
class Gpu:
    """One GPU, from the asking for it to its end."""

    actor: ActorId
    place: int
    """Its number among the places of the cluster; eight of them share a host."""
    host: str
    asked_at: float
    up: bool = False
    """Its actor is registered."""
    draining: bool = False
    doomed: bool = False
    """It is taken away, whoever may want it."""
    gone: bool = False
    sessions: set[SessionId] = field(default_factory=set)
    """Those that were placed on it."""
    computing: int = 0
    """Of these, those that compute."""


class Fleet:
    """All GPUs.

    Args:
        spec: What there is.
        seed: Of the run.
        timeline: Virtual time.
        driver: Told of GPUs that come and go.
        lost: Called with each GPU at the moment of its death.
    """

    def __init__(
        self,
        spec: PoolSpec,
        seed: int,
        timeline: Timeline,
        driver: Driver,
        lost: Callable[[Gpu], None],
    ) -> None:
        self.gpus: dict[ActorId, Gpu] = {}
        """Those that are booting or up."""
        self.deaths = 0
        self.boots = 0
        self._spec = spec
        self._timeline = timeline
        self._driver = driver
        self._lost = lost
        self._boot_time = spec.boot.sampler(stream(seed, "boots"))
        self._places = list(range(spec.gpus))
        self._paid = 0.0
        self._paid_until = timeline.now

    @property
    def idle_places(self) -> int:
        """GPUs that could still be asked for."""
        return len(self._places)

    def paid_s(self) -> float:
        """Returns the GPU-seconds so far: from the asking for a GPU to its end."""
        now = self._timeline.now
        self._paid += len(self.gpus) * (now - self._paid_until)
        self._paid_until = now
        return self._paid

    def boot(self, *, at_once: bool = False) -> None:
        """Asks for one more GPU, if there is one."""
        if not self._places:
            return
        self.paid_s()
        self.boots += 1
        place = heappop(self._places)
        host = f"host-{place // self._spec.gpus_per_host:04d}"
        gpu = Gpu(ActorId(f"gpu-{place:05d}.{self.boots}"), place, host, self._timeline.now)
        self.gpus[gpu.actor] = gpu
        self._timeline.after(0.0 if at_once else self._boot_time(), self._ready, gpu)

    def drain(self, gpu: Gpu, grace: float | None = None) -> None:
        """Has a GPU emptied: to be given back, or taken away after a grace."""
        gpu.draining = True
        self._driver.tell(ev.DrainAsked(gpu.actor, grace))

    def reclaim(self, gpu: Gpu, notice: float) -> None:
        """The cloud takes a GPU back after a notice."""
        if not gpu.gone:
            gpu.doomed = True
            self.drain(gpu, notice)

    def give_up(self, gpu: Gpu) -> None:
        """Gives a GPU back that is still booting."""
        self._end(gpu)

    def keep(self, gpu: Gpu) -> None:
        """Takes a GPU back into service that is being emptied."""
        gpu.draining = False
        self._driver.tell(ev.DrainCancelled(gpu.actor))

    def retire(self, effect: ev.Retire) -> None:
        """A GPU is empty and no longer wanted."""
        gpu = self.gpus.get(effect.actor)
        if gpu is None:
            return
        if gpu.sessions:
            raise InvariantError("a GPU with sessions on it was retired")
        self._end(gpu)
        self._driver.tell(ev.ActorDied(gpu.actor))

    def replace(self, effect: ev.Replace) -> None:
        """The pool has given a GPU up and wants another in its place."""
        gpu = self.gpus.get(effect.actor)
        if gpu is not None:
            self.kill(gpu)
        self.boot()

    def kill(self, gpu: Gpu) -> None:
        """A GPU dies; the scheduler and the gateways learn of it a little later."""
        if gpu.gone:
            return
        registered = gpu.up
        self._end(gpu)
        self.deaths += 1
        self._lost(gpu)
        notice_s = self._spec.costs.notice_ms / 1e3
        if registered:
            self._timeline.after(notice_s, self._driver.tell, ev.ActorDied(gpu.actor))
        else:
            self._timeline.after(notice_s, self.boot)

    def in_service(self) -> list[Gpu]:
        """Returns the GPUs that are up and not being emptied, in the order of their coming."""
        return [gpu for gpu in self.gpus.values() if gpu.up and not gpu.draining]

    def _ready(self, gpu: Gpu) -> None:
        if gpu.gone:
            return
        gpu.up = True
        model = self._spec.model
        self._driver.tell(
            ev.ActorRegistered(
                actor=gpu.actor,
                models=(model.name,),
                address=gpu.host,
                resident_slots=self._spec.resident_slots,
                chunk_ms=model.chunk_ms,
                period_ms=model.period_ms,
                host=gpu.host,
                resident_bytes=int((self._spec.memory_gb - model.weights_gb) * _GB),
                session_bytes=int(model.session_gb * _GB),
            )
        )
        if model.batch_gains:
            self._driver.tell(ev.ActorBeat(gpu.actor, gains=model.batch_gains))

    def _end(self, gpu: Gpu) -> None:
        self.paid_s()
        gpu.gone, gpu.up = True, False
        del self.gpus[gpu.actor]
        heappush(self._places, gpu.place)
