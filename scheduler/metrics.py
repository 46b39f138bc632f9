"""The pool for Prometheus: what operators and autoscalers go by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sana_gateway.v1 import pool_pb2
from scheduler.process.footprint import process_name

_PREFIX: Final = "sana_gateway_pool_"
_SIGNALS: Final = {
    "queue_age_seconds": ("queue_age_s", "Time that the first in the queue has waited."),
    "queued_sessions": ("queued", "Sessions that wait for a place."),
    "predicted_utilisation": (
        "predicted_utilisation",
        "Booked share of all compute that may be booked, with those who wait; over 1: short.",
    ),
    "miss_rate": ("miss_rate", "Share of chunks after their deadline, over the last minute."),
    "actors_wanted": ("actors_wanted", "Actors that the present demand needs."),
    "batch_fill": (
        "batch_fill",
        "Windows that models computed in one call, on average over the last minute.",
    ),
}
_TOTALS: Final = {
    "chunks": "Chunks that were finished.",
    "late_chunks": "Chunks that were finished after their deadline.",
    "windows": "Windows that models computed.",
    "batches": "Calls of models in which windows were computed.",
}
"""Counted since the scheduler began."""
_ON_ACTORS: Final = {
    "computing_sessions": ("computing", "Sessions that compute."),
    "resident_sessions": ("sessions", "Sessions with a place at an actor."),
}
_PROCESS_PREFIX: Final = _PREFIX + "process_"
_PROCESS_LABELS: Final = ("role", "process")
"""`role` is `scheduler`, `actor`, or `head` for one process that is both."""
_PROCESSES: Final = {
    "resident_memory_bytes": ("resident_bytes", "Resident memory of a process of the pool."),
    "open_fds": ("open_descriptors", "Open file descriptors of a process of the pool."),
    "loop_lag_seconds": (
        "loop_lag_s",
        "How late a timer of the process's event loop was, at worst within ten seconds.",
    ),
}
_STATES: Final = {
    value: name.removeprefix("LEASE_STATE_").lower()
    for name, value in pool_pb2.LeaseState.items()
    if value != pool_pb2.LEASE_STATE_UNSPECIFIED
}


class PoolCollector(Collector):
    """The pool as a gateway last heard of it; nothing while the scheduler is away.

    All gateways tell the same, as they ask the same scheduler: take the highest of them.

    Args:
        pool: Returns it.
    """

    def __init__(self, pool: Callable[[], pool_pb2.DescribePoolResponse | None]) -> None:
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        """Returns the signals, the actors by model and state, the sessions by state, what was
        done so far, and what the pool's processes take.
        """
        pool = self._pool()
        if pool is None:
            return
        for name, (field, text) in _SIGNALS.items():
            yield GaugeMetricFamily(_PREFIX + name, text, value=getattr(pool.signals, field))
        for name, text in _TOTALS.items():
            yield CounterMetricFamily(_PREFIX + name, text, value=getattr(pool.signals, name))
        for name, (field, text) in _ON_ACTORS.items():
            value = sum(getattr(actor, field) for actor in pool.actors)
            yield GaugeMetricFamily(_PREFIX + name, text, value=value)
        actors = GaugeMetricFamily(_PREFIX + "actors", "Model actors.", labels=("model", "state"))
        running = Counter((actor.model, _state_of(actor)) for actor in pool.actors)
        for labels, count in sorted(running.items()):
            actors.add_metric(labels, count)
        yield actors
        sessions = GaugeMetricFamily(_PREFIX + "sessions", "Sessions.", labels=("state",))
        leases = {each.state: each.count for each in pool.session_counts}
        for value, state in _STATES.items():
            sessions.add_metric((state,), leases.get(value, 0))
        yield sessions
        yield from _processes(pool)


class ProcessInfo(Collector):
    """Which process this is: its part, its name and its version.

    Args:
        role: Its part: `gateway`, `front_door` or `media_worker`.
    """

    def __init__(self, role: str) -> None:
        self._labels = {
            "role": role,
            "process": process_name(),
            "version": metadata.version("sana-gateway"),
        }

    def collect(self) -> Iterator[Metric]:
        """Returns one sample, whose labels say it."""
        info = GaugeMetricFamily(
            "sana_gateway_process_info",
            "What this process is; 1.",
            labels=tuple(self._labels),
        )
        info.add_metric(tuple(self._labels.values()), 1)
        yield info


def _processes(pool: pool_pb2.DescribePoolResponse) -> Iterator[Metric]:
    """Returns what the scheduler and the actors take, each process once."""
    told: dict[str, tuple[str, pool_pb2.ProcessFigures]] = {}
    for actor in pool.actors:
        if actor.process.process:
            told[actor.process.process] = "actor", actor.process
    if own := pool.scheduler.process:
        told[own] = "head" if own in told else "scheduler", pool.scheduler
    for name, (field, text) in _PROCESSES.items():
        family = GaugeMetricFamily(_PROCESS_PREFIX + name, text, labels=_PROCESS_LABELS)
        for process, (role, figures) in told.items():
            family.add_metric((role, process), getattr(figures, field))
        yield family
    cpu = CounterMetricFamily(
        _PROCESS_PREFIX + "cpu_seconds", "CPU of a process of the pool.", labels=_PROCESS_LABELS
    )
    for process, (role, figures) in told.items():
        cpu.add_metric((role, process), figures.cpu_s)
    yield cpu


def _state_of(actor: pool_pb2.Actor) -> str:
    if not actor.healthy:
        return "silent"
    return "draining" if actor.draining else "serving"
