"""Figures of the pool that decide nothing: what its processes are and take, and what was done.

They pass the core by: it decides, and these only say how things went.
"""

from __future__ import annotations

from sana_gateway.v1 import pool_pb2
from sana_gateway_internal.v1 import placement_pb2
from scheduler.process.footprint import Footprint

_TOTALS = ("chunks", "late_chunks", "windows", "batches")
"""Fields of heartbeats that are added up, and of the signals that tell the sum."""


class PoolFigures:
    """Gathers them from heartbeats, and adds them to descriptions of the pool.

    Args:
        own: The scheduler's own process.
    """

    def __init__(self, own: Footprint) -> None:
        self._own = own
        self._totals = dict.fromkeys(_TOTALS, 0)
        self._processes: dict[str, pool_pb2.ProcessFigures] = {}
        self._gpus: dict[str, str] = {}

    def beat(self, actor_id: str, beat: placement_pb2.Heartbeat) -> None:
        """Takes in what an actor tells."""
        for name in _TOTALS:
            self._totals[name] += getattr(beat, name)
        if beat.HasField("process"):
            self._processes[actor_id] = beat.process

    def register(self, register: placement_pb2.Register) -> None:
        """Takes in what an actor tells of itself."""
        self._gpus[register.actor_id] = register.gpus

    def forget(self, actor_id: str) -> None:
        """An actor tells nothing any more."""
        self._processes.pop(actor_id, None)
        self._gpus.pop(actor_id, None)

    def describe(self, pool: pool_pb2.DescribePoolResponse) -> None:
        """Adds the figures to a description."""
        for name, total in self._totals.items():
            setattr(pool.signals, name, total)
        pool.scheduler.CopyFrom(self._own.figures())
        for actor in pool.actors:
            actor.gpus = self._gpus.get(actor.actor_id, "")
            if (process := self._processes.get(actor.actor_id)) is not None:
                actor.process.CopyFrom(process)
