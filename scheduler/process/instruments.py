"""What all processes of ours measure with.

Rules for every metric of ours:

* The name is `sana_gateway_<what>_<unit>`: base units, seconds and bytes; no unit where a count
  of things is told. Counters end with `_total` when they are exposed.
* A label has few values, and ones that we choose: methods, routes, kinds, models. Never an id of
  a session, a user or a connection, nor anything that a user wrote. An actor, a process, a
  worker is told by id while it is there, and is gone with it. Tenants stand on a metric only
  where their number is bounded.
* A histogram of something that is part of a trace has the trace's id as exemplar.

`python -m tools.metrics_catalogue` lists them all.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterator, Sized
from typing import Final, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from prometheus_client import Counter
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector

CALL_SECONDS: Final = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 600.0)
"""Bounds for the time of calls, which may be streams that live for minutes."""
FRAME_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
"""Bounds for what is done for each frame."""
CHUNK_SECONDS: Final = (0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0, 5.0)
"""Bounds for what is done for each chunk, a second of video or so."""

_W3C: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-([0-9a-f]{2})")
_SAMPLED: Final = 1
_SizedT = TypeVar("_SizedT", bound=Sized)


def exemplar(context: Context | None = None) -> dict[str, str] | None:
    """Returns the exemplar of an observation: its trace; None if that is not recorded.

    Args:
        context: Where it belongs, by default the current one.
    """
    span = trace.get_current_span(context).get_span_context()
    if not (span.is_valid and span.trace_flags.sampled):
        return None
    return {"trace_id": trace.format_trace_id(span.trace_id)}


def exemplar_of(traceparent: str) -> dict[str, str] | None:
    """Returns the exemplar of an observation that belongs to a trace of some time ago.

    Args:
        traceparent: Its W3C traceparent; empty: there is none.
    """
    found = _W3C.fullmatch(traceparent)
    if found is None or not int(found[2], 16) & _SAMPLED:
        return None
    return {"trace_id": found[1]}


def trace_id_of(traceparent: str) -> str:
    """Returns the trace id that a W3C traceparent names; empty where there is none."""
    found = _W3C.fullmatch(traceparent)
    return found[1] if found is not None else ""


class Queue:
    """All queues of one kind in this process: their bound, the fullest, how often one was full.

    Made by `Queues.kind`.
    """

    def __init__(self, name: str, limit: int) -> None:
        self.limit = limit
        """Items that one may hold; 0: it is bounded by what fills it."""
        self.in_use = False
        """Whether there was one in this process."""
        self._name = name
        self._watched: dict[int, weakref.ref[Sized]] = {}

    def overflowed(self) -> None:
        """One was full, and its rule acted."""
        OVERFLOWS.labels(self._name).inc()

    def watch(self, items: _SizedT) -> _SizedT:
        """Watches a queue for as long as it lives; returns it."""
        if not self.in_use:
            self.in_use = True
            # Told from the beginning: a rate needs a zero to rise from.
            OVERFLOWS.labels(self._name)
        key = id(items)
        self._watched[key] = weakref.ref(items, lambda _: self._watched.pop(key, None))
        return items

    @property
    def fullest(self) -> int:
        """Items in the fullest of them."""
        living = (each() for each in tuple(self._watched.values()))
        return max((len(each) for each in living if each is not None), default=0)


class Queues(Collector):
    """The queues of a process: what is used of them, and when that was not enough."""

    def __init__(self) -> None:
        self._kinds: dict[str, Queue] = {}

    def kind(self, name: str, limit: int = 0) -> Queue:
        """Makes a kind of queue; asked again, returns the same.

        Args:
            name: What it is called, one of a few.
            limit: Items that one may hold; 0: it is bounded by what fills it.
        """
        known = self._kinds.get(name)
        if known is None:
            known = self._kinds[name] = Queue(name, limit)
        return known

    @classmethod
    def described(cls) -> tuple[GaugeMetricFamily, ...]:
        """Returns its metrics without samples."""
        return (
            GaugeMetricFamily(
                "sana_gateway_queue_items",
                "Items in the fullest queue of a kind, now.",
                labels=("queue",),
            ),
            GaugeMetricFamily(
                "sana_gateway_queue_limit_items",
                "Items that a queue of a kind may hold; 0: bounded by what fills it.",
                labels=("queue",),
            ),
        )

    def describe(self) -> Iterator[Metric]:
        """Returns its metrics without samples."""
        return iter(self.described())

    def collect(self) -> Iterator[Metric]:
        """Returns how full the queues are."""
        items, limits = self.described()
        for name, kind in sorted(self._kinds.items()):
            if not kind.in_use:
                continue
            items.add_metric((name,), kind.fullest)
            limits.add_metric((name,), kind.limit)
        yield items
        yield limits


OVERFLOWS: Final = Counter(
    "sana_gateway_queue_overflows",
    "Times a queue was full and its rule acted: what waits is dropped, or its reader is ended.",
    ("queue",),
)
QUEUES: Final = Queues()
"""Those of this process."""
REGISTRY.register(QUEUES)
