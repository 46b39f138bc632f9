"""Metrics as scrapers read them: of this process, or of several as one exposition, told apart
by a label.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

LABEL: Final = "worker"
"""Label that says which process a sample is of."""


class Merged(CollectorRegistry):
    """What an encoder asks for metric families; they are collected already."""

    def __init__(self, families: Sequence[Metric]) -> None:
        """Holds the families."""
        super().__init__()
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Yields the families."""
        yield from self._families


async def exposition(registry: CollectorRegistry, accept: str = "") -> tuple[bytes, str]:
    """Returns what a registry has, and its content type.

    Read on the event loop, whose affair most of it is, and written down on a thread: a few
    hundred lines take milliseconds.

    Args:
        registry: What is shown.
        accept: The scraper's `Accept`; exemplars are in OpenMetrics alone.
    """
    encode, content_type = choose_encoder(accept)
    return await asyncio.to_thread(encode, Merged(tuple(registry.collect()))), content_type


def merged(texts: Mapping[str, str]) -> list[Metric]:
    """Returns the families of several processes, each once, its samples labelled.

    Args:
        texts: What they expose, as OpenMetrics, by the value of their label. One that cannot
            be read is left out.
    """
    families: dict[str, Metric] = {}
    for worker, text in texts.items():
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


def open_metrics(registry: CollectorRegistry) -> str:
    """Returns what a registry has, as OpenMetrics."""
    exposed: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
    return exposed.decode()


def _families(text: str) -> Iterator[Metric]:
    families: Iterator[Metric] = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    return families


def _labelled(sample: Sample, worker: str) -> Sample:
    return sample._replace(labels={**sample.labels, LABEL: worker})
