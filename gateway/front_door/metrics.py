"""One exposition of the metrics of several processes, told apart by a label. Pure, but for
what this process itself counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import REGISTRY
from prometheus_client.samples import Sample

LABEL: Final = "worker"
"""Label that says which process a sample is of."""
OWN: Final = "front_door"
"""Its value on this process's own samples."""


class Merged(CollectorRegistry):
    """What an encoder asks for metric families; they are collected already."""

    def __init__(self, families: Sequence[Metric]) -> None:
        """Holds the families."""
        super().__init__()
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Yields the families."""
        yield from self._families


def merged(texts: Mapping[str, str], own: CollectorRegistry = REGISTRY) -> list[Metric]:
    """Returns the families of all processes, each once, its samples labelled.

    Args:
        texts: What the workers expose, as OpenMetrics, by the value of their label. One
            that cannot be read is left out.
        own: This process's metrics.
    """
    families: dict[str, Metric] = {}
    for worker, text in {OWN: _exposed(own), **texts}.items():
        try:
            parsed = list(_families(text))
        except ValueError:
            continue
        for family in parsed:
            known = families.setdefault(
                family.name, Metric(family.name, family.documentation, family.type, family.unit)
            )
            # One name stands for one kind of thing: another build's may differ.
            if known.type == family.type:
                known.samples.extend(_labelled(sample, worker) for sample in family.samples)
    return list(families.values())


def _exposed(registry: CollectorRegistry) -> str:
    exposed: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
    return exposed.decode()


def _families(text: str) -> Iterator[Metric]:
    families: Iterator[Metric] = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    return families


def _labelled(sample: Sample, worker: str) -> Sample:
    return sample._replace(labels={**sample.labels, LABEL: worker})
