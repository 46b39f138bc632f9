"""What a service exposes of itself at one moment, and the levels between two of them. Pure.

Read from the `/metrics` of its gateways or, without these, from `PoolService.DescribePool`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from sana_gateway.v1 import pool_pb2
from sdk_adapters.harness.records import Footprint

LAG_QUANTILE: Final = 0.99
_MB: Final = 1e6
_POOL: Final = "sana_gateway_pool_"
_POOL_PROCESS: Final = _POOL + "process_"
_LAG: Final = "sana_gateway_loop_lag_seconds_bucket"
_INFO: Final = "sana_gateway_process_info"
_COUNTERS: Final = ("chunks", "late_chunks", "windows", "batches")
_GAUGES: Final = {
    "computing_sessions": "sessions_active",
    "resident_sessions": "sessions_resident",
    "queued_sessions": "sessions_queued",
    "queue_age_seconds": "queue_age",
}
"""Levels that the pool tells as they are."""
_PARKED: Final = {"state": "parked"}


@dataclass(slots=True)
class Exposed:
    """A service at one moment."""

    at_s: float
    levels: dict[str, float] = field(default_factory=dict)
    """Of the pool; empty where nobody told."""
    counters: dict[str, float] = field(default_factory=dict)
    """Of the pool, since its scheduler began."""
    processes: dict[str, Footprint] = field(default_factory=dict)
    gateway_cpu_s: dict[str, float] = field(default_factory=dict)
    """CPU of each process of a gateway since it began."""
    lag: dict[float, float] = field(default_factory=dict)
    """Times that an event loop of a gateway was no later than so many seconds."""
    version: str = ""


def of_metrics(texts: Mapping[str, str], at_s: float) -> Exposed:
    """Reads what gateways of one pool expose.

    All of them tell the same of the pool, as fresh as each knows it.

    Args:
        texts: In the text format of Prometheus, by address.
        at_s: When it was asked for.
    """
    exposed = Exposed(at_s)
    for address, text in texts.items():
        try:
            samples = [
                sample
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            ]
        except ValueError:
            continue
        _own(exposed, samples, address)
        _pool(exposed, samples)
    return exposed


def of_pool(pool: pool_pb2.DescribePoolResponse, at_s: float) -> Exposed:
    """Reads a description of the pool."""
    signals = pool.signals
    parked = sum(each.state == pool_pb2.LEASE_STATE_PARKED for each in pool.sessions)
    exposed = Exposed(
        at_s,
        levels={
            "sessions_active": sum(actor.computing for actor in pool.actors),
            "sessions_resident": sum(actor.sessions for actor in pool.actors),
            "sessions_queued": signals.queued,
            "sessions_parked": parked,
            "queue_age": signals.queue_age_s,
        },
        counters={name: getattr(signals, name) for name in _COUNTERS},
    )
    for figures in (pool.scheduler, *(actor.process for actor in pool.actors)):
        if figures.process:
            exposed.processes[figures.process] = Footprint(
                figures.resident_bytes / _MB, figures.open_descriptors
            )
    return exposed


def between(before: Exposed, now: Exposed) -> dict[str, float]:
    """Returns the levels of a service at the second of two moments.

    Those that are made of what was done meanwhile are missing where nothing was.
    """
    levels = dict(now.levels)
    done = {name: _more(before.counters, now.counters, name) for name in _COUNTERS}
    if done["batches"]:
        levels["batch_fill"] = done["windows"] / done["batches"]
    if done["chunks"]:
        levels["deadline_misses"] = done["late_chunks"] / done["chunks"]
    cpu_s = sum(
        max(0.0, spent - before.gateway_cpu_s[name])
        for name, spent in now.gateway_cpu_s.items()
        if name in before.gateway_cpu_s
    )
    sessions, took_s = now.levels.get("sessions_resident", 0.0), now.at_s - before.at_s
    if now.gateway_cpu_s.keys() & before.gateway_cpu_s.keys() and sessions and took_s > 0:
        levels["gateway_cpu_per_session"] = cpu_s / took_s / sessions
    if (lag_s := _quantile(before.lag, now.lag, LAG_QUANTILE)) is not None:
        levels["loop_lag"] = lag_s * 1e3
    return levels


def _own(exposed: Exposed, samples: Iterable[Sample], address: str) -> None:
    """Takes in what a gateway tells of its own processes."""
    by_process: dict[str, dict[str, float]] = {}
    names: dict[str, str] = {}
    for sample in samples:
        worker = sample.labels.get("worker", "")
        if sample.name == _LAG:
            bound = float(sample.labels["le"])
            exposed.lag[bound] = exposed.lag.get(bound, 0.0) + sample.value
        elif sample.name == _INFO:
            names[worker] = sample.labels["process"]
            exposed.version = exposed.version or sample.labels.get("version", "")
        elif sample.name.startswith("process_"):
            by_process.setdefault(worker, {})[sample.name] = sample.value
    for worker, values in by_process.items():
        began = values.get("process_start_time_seconds", 0.0)
        name = names.get(worker) or f"{address}/{worker}:{began:.2f}"
        if (cpu_s := values.get("process_cpu_seconds_total")) is not None:
            exposed.gateway_cpu_s[name] = cpu_s
        if (resident := values.get("process_resident_memory_bytes")) is not None:
            descriptors = int(values.get("process_open_fds", 0))
            exposed.processes[name] = Footprint(resident / _MB, descriptors)


def _pool(exposed: Exposed, samples: Iterable[Sample]) -> None:
    """Takes in what a gateway tells of its pool: of several, the one that knows most."""
    told: dict[str, dict[str, float]] = {}
    for sample in samples:
        name = sample.name.removeprefix(_POOL)
        if name == sample.name:
            continue
        if sample.name.startswith(_POOL_PROCESS):
            what = sample.name.removeprefix(_POOL_PROCESS)
            told.setdefault(sample.labels["process"], {})[what] = sample.value
        elif level := _GAUGES.get(name):
            exposed.levels[level] = max(sample.value, exposed.levels.get(level, 0.0))
        elif name == "sessions" and sample.labels.get("state") == _PARKED["state"]:
            parked = exposed.levels.get("sessions_parked", 0.0)
            exposed.levels["sessions_parked"] = max(sample.value, parked)
        elif (counter := name.removesuffix("_total")) in _COUNTERS:
            exposed.counters[counter] = max(sample.value, exposed.counters.get(counter, 0.0))
    for process, values in told.items():
        if (resident := values.get("resident_memory_bytes")) is not None:
            exposed.processes.setdefault(
                process, Footprint(resident / _MB, int(values.get("open_fds", 0)))
            )


def _more(before: Mapping[str, float], now: Mapping[str, float], name: str) -> float:
    """Returns by how much a counter grew; one that fell began anew."""
    if name not in before or name not in now:
        return 0.0
    return now[name] - before[name] if now[name] >= before[name] else now[name]


def _quantile(
    before: Mapping[float, float], now: Mapping[float, float], share: float
) -> float | None:
    """Returns a quantile of what two states of a histogram have between them.

    By a straight line within a bucket, as Prometheus does. What lies beyond the last bound
    counts as that. None where nothing was added, or a process began anew.
    """
    bounds = sorted(now)
    counts = [now[bound] - before.get(bound, 0.0) for bound in bounds]
    if not counts or counts[-1] <= 0 or min(counts) < 0:
        return None
    rank = share * counts[-1]
    index = bisect_left(counts, rank)
    if bounds[index] == float("inf"):
        return bounds[index - 1] if index else None
    low, below = (bounds[index - 1], counts[index - 1]) if index else (0.0, 0.0)
    return low + (bounds[index] - low) * (rank - below) / (counts[index] - below)
