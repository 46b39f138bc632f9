"""The seconds of all processes and the scrapes of the service as one bounded timeline. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Final

from sdk_adapters.harness.metrics import METRICS
from sdk_adapters.harness.records import Footprint, Scrape, Second
from sdk_adapters.harness.report.model import POINTS, Lines, Timeline

_SECOND_S: Final = 1.0


def timeline(seconds: Sequence[Second], scrapes: Sequence[Scrape]) -> Timeline:
    """Puts together what was seen over time.

    Args:
        seconds: Of all processes.
        scrapes: Of the service.
    """
    last = max((each.at_s for each in seconds), default=0.0)
    step = max(1, math.ceil(last / POINTS)) * _SECOND_S
    points: list[list[Second]] = [[] for _ in range(_point(last, step) + 1)] if seconds else []
    for second in seconds:
        points[_point(second.at_s, step)].append(second)
    told: list[list[Scrape]] = [[] for _ in points]
    for scrape in scrapes:
        if 0 <= (point := int(scrape.at_s / step)) < len(points):
            told[point].append(scrape)

    def together(of: Callable[[Second], float]) -> tuple[float, ...]:
        return tuple(sum(_means(those, of)) for those in points)

    def added(of: Callable[[Second], float], by: float = 1.0) -> tuple[float, ...]:
        return tuple(sum(map(of, those)) / by for those in points)

    return Timeline(
        step_s=step,
        at_s=tuple((number + 1) * step for number in range(len(points))),
        connected=together(lambda each: each.connected),
        playing=together(lambda each: each.playing),
        waiting=together(lambda each: each.waiting),
        frames=added(lambda each: each.frames, step),
        lost=added(lambda each: each.lost),
        freezes=added(lambda each: each.freezes),
        failures=added(lambda each: each.failures),
        cpu=tuple(max(_means(those, lambda each: each.cpu), default=0.0) for those in points),
        lag_ms=tuple(max((each.lag_ms for each in those), default=0.0) for those in points),
        values=_values(points),
        levels=_levels(told),
        rss_mb=_footprint(told, lambda each: each.rss_mb),
        descriptors=_footprint(told, lambda each: each.descriptors),
    )


def _point(at_s: float, step: float) -> int:
    """Returns the point that a second belongs to: it is told a little after its end."""
    return max(0, int((at_s - _SECOND_S / 2) / step))


def _means(seconds: Iterable[Second], of: Callable[[Second], float]) -> list[float]:
    """Returns the mean of each process."""
    by_process: dict[int, list[float]] = {}
    for each in seconds:
        by_process.setdefault(each.process, []).append(of(each))
    return [fmean(values) for values in by_process.values()]


def _values(points: Sequence[Sequence[Second]]) -> dict[str, Lines]:
    named = {name for those in points for each in those for name in each.values}
    lines = {}
    for name in (name for name in METRICS if name in named):
        seen = [[each.values[name] for each in those if name in each.values] for those in points]
        lines[name] = Lines(
            p50=tuple(fmean(p50 for p50, _ in pairs) if pairs else None for pairs in seen),
            p95=tuple(max(p95 for _, p95 in pairs) if pairs else None for pairs in seen),
        )
    return lines


def _levels(points: Sequence[Sequence[Scrape]]) -> dict[str, tuple[float | None, ...]]:
    named = {name for those in points for each in those for name in each.levels}
    return {
        name: tuple(
            fmean(values)
            if (values := [e.levels[name] for e in those if name in e.levels])
            else None
            for those in points
        )
        for name in METRICS
        if name in named
    }


def _footprint(
    points: Sequence[Sequence[Scrape]], of: Callable[[Footprint], float]
) -> tuple[float | None, ...]:
    seen = [
        [sum(map(of, scrape.processes.values())) for scrape in those if scrape.processes]
        for those in points
    ]
    if not any(seen):
        return ()
    return tuple(fmean(values) if values else None for values in seen)
