"""The pool for Prometheus: what operators and autoscalers go by."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector

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
_BY_MODEL: Final = {
    "slots": ("resident_slots", 1.0, "Places for sessions at the actors of a model."),
    "used_slots": ("sessions", 1.0, "Places at the actors of a model that are taken."),
    "memory_bytes": (
        "resident_bytes",
        1.0,
        "Memory for sessions at the actors of a model; 0 where only the slots count.",
    ),
    "booked_memory_bytes": (
        "booked_bytes",
        1.0,
        "Memory at the actors of a model that is reserved.",
    ),
    "compute_actors": (
        "ceiling_ms_per_s",
        1e-3,
        "Compute that may be booked at the actors of a model, in whole actors.",
    ),
    "booked_compute_actors": (
        "booked_ms_per_s",
        1e-3,
        "Compute that is booked at the actors of a model, in whole actors.",
    ),
}
"""Summed over the actors of a model: field, factor, text."""
_ENCODING: Final = {
    "encode_cores": "CPU for encoding that may be booked at the hosts of actors, in whole cores.",
    "booked_encode_cores": "CPU for encoding that is booked, in whole cores.",
}
_REAL_TIME: Final = (
    "real_time_factor",
    "Compute over play-out time of a window, of the slowest actor of a model; below 1 is faster.",
)
_INFO_LABELS: Final = ("role", "process", "version")
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

    @classmethod
    def described(cls) -> tuple[Metric, ...]:
        """Returns its metrics without samples."""
        return tuple(_families(pool_pb2.DescribePoolResponse()))

    def describe(self) -> Iterator[Metric]:
        """Returns its metrics without samples."""
        return iter(self.described())

    def collect(self) -> Iterator[Metric]:
        """Returns the signals, the actors by model and state, what there is of each ledger and
        what is booked, the sessions by state, what was done so far, and what the pool's
        processes take.
        """
        pool = self._pool()
        if pool is not None:
            yield from _families(pool)


class ProcessInfo(Collector):
    """Which process this is: its part, its name and its version.

    Args:
        role: Its part: `gateway`, `front_door`, `media_worker`, `head`, `scheduler` or `actor`.
    """

    def __init__(self, role: str) -> None:
        self._labels = {
            "role": role,
            "process": process_name(),
            "version": metadata.version("sana-gateway"),
        }

    @classmethod
    def described(cls) -> tuple[GaugeMetricFamily, ...]:
        """Returns its metric without a sample."""
        text = "What this process is; 1."
        return (GaugeMetricFamily("sana_gateway_process_info", text, labels=_INFO_LABELS),)

    def describe(self) -> Iterator[Metric]:
        """Returns its metric without a sample."""
        return iter(self.described())

    def collect(self) -> Iterator[Metric]:
        """Returns one sample, whose labels say it."""
        (info,) = self.described()
        info.add_metric(tuple(self._labels[name] for name in _INFO_LABELS), 1)
        yield info


def _families(pool: pool_pb2.DescribePoolResponse) -> Iterator[Metric]:
    for name, (field, text) in _SIGNALS.items():
        yield GaugeMetricFamily(_PREFIX + name, text, value=getattr(pool.signals, field))
    for name, text in _TOTALS.items():
        yield CounterMetricFamily(_PREFIX + name, text, value=getattr(pool.signals, name))
    for name, (field, text) in _ON_ACTORS.items():
        value = sum(getattr(actor, field) for actor in pool.actors)
        yield GaugeMetricFamily(_PREFIX + name, text, value=value)
    actors = GaugeMetricFamily(_PREFIX + "actors", "Model actors.", labels=("model", "state"))
    running = Tally((actor.model, _state_of(actor)) for actor in pool.actors)
    for labels, count in sorted(running.items()):
        actors.add_metric(labels, count)
    yield actors
    sessions = GaugeMetricFamily(_PREFIX + "sessions", "Sessions.", labels=("state",))
    leases = {each.state: each.count for each in pool.session_counts}
    for value, state in _STATES.items():
        sessions.add_metric((state,), leases.get(value, 0))
    yield sessions
    yield from _ledgers(pool)
    yield from _processes(pool)


def _ledgers(pool: pool_pb2.DescribePoolResponse) -> Iterator[Metric]:
    """Returns what may be booked, and what is."""
    models: dict[str, list[pool_pb2.Actor]] = {}
    for actor in pool.actors:
        models.setdefault(actor.model, []).append(actor)
    for name, (field, factor, text) in _BY_MODEL.items():
        family = GaugeMetricFamily(_PREFIX + name, text, labels=("model",))
        for model, actors in sorted(models.items()):
            family.add_metric((model,), factor * sum(getattr(each, field) for each in actors))
        yield family
    name, text = _REAL_TIME
    slowest = GaugeMetricFamily(_PREFIX + name, text, labels=("model",))
    for model, actors in sorted(models.items()):
        slowest.add_metric((model,), max(each.real_time_factor for each in actors))
    yield slowest
    hosts = {actor.host: actor.encode_ceiling_ms_per_s for actor in pool.actors}
    booked = sum(actor.booked_encode_ms_per_s for actor in pool.actors)
    for (name, text), value in zip(_ENCODING.items(), (sum(hosts.values()), booked), strict=True):
        yield GaugeMetricFamily(_PREFIX + name, text, value=value / 1e3)


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


def tell_process(role: str) -> None:
    """Has this process tell what it is. Of several parts in one process the first counts.

    Args:
        role: See `ProcessInfo`.
    """
    if "sana_gateway_process_info" not in _TOLD:
        _TOLD.add("sana_gateway_process_info")
        REGISTRY.register(ProcessInfo(role))


_TOLD: Final[set[str]] = set()
"""What the registry of this process has already."""
