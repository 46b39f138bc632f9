"""What a model actor measures of its windows, its encoders, its decoders and its slots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final, Protocol

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector

from scheduler.process.instruments import CHUNK_SECONDS, FRAME_SECONDS

STAGES: Final = Histogram(
    "sana_gateway_window_stage_seconds",
    "Time that a stage of the model took, for all windows of a call together.",
    ("model", "stage"),
    buckets=CHUNK_SECONDS,
)
WAITS: Final = Histogram(
    "sana_gateway_window_wait_seconds",
    "From when a window could have begun to when it did.",
    ("model",),
    buckets=CHUNK_SECONDS,
)
WINDOWS: Final = Counter(
    "sana_gateway_windows", "Windows that the model computed, or failed to.", ("model", "outcome")
)
BATCHES: Final = Histogram(
    "sana_gateway_batch_windows",
    "Windows that the model computed in one call.",
    ("model",),
    buckets=(1, 2, 3, 4, 6, 8, 16),
)
CHUNKS: Final = Counter("sana_gateway_chunks", "Chunks that were finished.", ("model",))
LATE_CHUNKS: Final = Counter(
    "sana_gateway_late_chunks", "Chunks that were finished after their deadline.", ("model",)
)
ENCODES: Final = Histogram(
    "sana_gateway_frame_encode_seconds",
    "Time from the begin of encoding a frame to its packet, waiting for a thread included.",
    ("codec",),
    buckets=FRAME_SECONDS,
)
FRAMES_LEFT_OUT: Final = Counter(
    "sana_gateway_frames_left_out",
    "Frames not encoded: `behind`, the output had fallen behind the clock; `failed`, an encoder "
    "could not.",
    ("cause",),
)


@dataclass(frozen=True, slots=True)
class Use:
    """What an actor has, and what is used of it, at one moment."""

    model: str
    """Name of its model."""
    sessions: int
    """Sessions on the actor."""
    slots: int
    """Sessions that it has memory for."""
    computing: int
    """Sessions that hold compute."""
    real_time_factor: float
    """Compute of a steady window over its play-out time: below 1 is faster than real time; 0
    while unknown."""
    encoder_threads: int
    """Threads that encode."""
    encoder_jobs: int
    """Frames that wait for one."""
    encoder_busy_s: float
    """Seconds of CPU that encoding has taken so far."""
    decoders_used: int
    """Decode processes in use, one for each open clip or camera."""
    decoders_spare: int
    """Decode processes that are ready."""
    decoders_limit: int
    """Most that may be in use."""
    decoder_crashes: int
    """Decode processes that ended while in use."""


class Used(Protocol):
    """An actor, as far as this goes."""

    def use(self) -> Use:
        """Returns what it has, and what is used of it."""


_GAUGES: Final = {
    "sessions": ("actor_sessions", "Sessions on the actor."),
    "slots": ("actor_slots", "Sessions that the actor has memory for."),
    "computing": ("actor_computing_sessions", "Sessions that hold compute on the actor."),
    "real_time_factor": (
        "real_time_factor",
        "Compute of a steady window over its play-out time; below 1 is faster than real time.",
    ),
    "encoder_threads": ("encoder_threads", "Threads that encode."),
    "encoder_jobs": ("encoder_waiting_jobs", "Frames that wait for an encoding thread."),
    "decoders_used": ("decoders_used", "Decode processes in use: open clips and cameras."),
    "decoders_spare": ("decoders_spare", "Decode processes that are ready."),
    "decoders_limit": ("decoders_limit", "Most decode processes that may be in use."),
}
_COUNTERS: Final = {
    "encoder_busy_s": ("encoder_cpu_seconds", "CPU that encoding has taken."),
    "decoder_crashes": ("decoder_crashes", "Decode processes that ended while in use."),
}
assert {each.name for each in fields(Use)} == {"model"} | _GAUGES.keys() | _COUNTERS.keys()  # noqa: S101 - a table that must be complete


class ActorCollector(Collector):
    """The actors of this process: one, but where all runs in one process."""

    def __init__(self) -> None:
        self._actors: dict[str, Used] = {}

    def add(self, actor_id: str, actor: Used) -> None:
        """Tells of an actor from now on."""
        self._actors[actor_id] = actor

    def remove(self, actor_id: str) -> None:
        """Tells of an actor no more. Repeating it is no error."""
        self._actors.pop(actor_id, None)

    @classmethod
    def described(cls) -> dict[str, GaugeMetricFamily | CounterMetricFamily]:
        """Returns its metrics without samples, by the fields of `Use`."""
        labels = ("actor", "model")
        gauges = {
            field: GaugeMetricFamily(f"sana_gateway_{name}", text, labels=labels)
            for field, (name, text) in _GAUGES.items()
        }
        counters = {
            field: CounterMetricFamily(f"sana_gateway_{name}", text, labels=labels)
            for field, (name, text) in _COUNTERS.items()
        }
        return {**gauges, **counters}

    def describe(self) -> Iterator[Metric]:
        """Returns its metrics without samples."""
        return iter(self.described().values())

    def collect(self) -> Iterator[Metric]:
        """Returns what each actor has and uses."""
        families = self.described()
        for actor_id, actor in tuple(self._actors.items()):
            use = actor.use()
            for field, family in families.items():
                family.add_metric((actor_id, use.model), getattr(use, field))
        yield from families.values()


ACTORS: Final = ActorCollector()
"""Those of this process."""
REGISTRY.register(ACTORS)
