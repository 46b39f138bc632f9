"""Sessions, scrapes and seconds turned into the values of a report. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, Final

from sdk_adapters.harness.metrics import METRICS, Kind, Side
from sdk_adapters.harness.records import (
    Footprint,
    Measured,
    Outcome,
    Scrape,
    Second,
    SessionRecord,
    Sketch,
    sketch,
)
from sdk_adapters.harness.report.model import Distribution, Level, Ratio, Spread, Total, Value

SLOPE_POINTS: Final = 3
"""Fewer scrapes of a process make no slope."""
_MINUTE_S: Final = 60.0

_BY_OUTCOME: Final[Mapping[str, Callable[[SessionRecord], bool]]] = {
    "sessions_begun": lambda _: True,
    "sessions_lost": lambda record: record.outcome is Outcome.LOST,
    "sessions_failed": lambda record: record.outcome is Outcome.FAILED,
}
"""Counts that are sessions themselves."""
_OF: Final[Mapping[str, Callable[[SessionRecord], bool]]] = {
    **dict.fromkeys((*_BY_OUTCOME, "commands_refused"), lambda _: True),
    "pictures_wrong": lambda record: read(record),
}
"""Counts that mean something where one session is such; the others: where frames were seen."""


# -- clients -------------------------------------------------------------------------------


def of_sessions(records: Sequence[SessionRecord]) -> dict[str, Value]:
    """Returns the client metrics of some sessions: those that were measured.

    Args:
        records: The sessions that count.
    """
    found: dict[str, Value] = {}
    for name, metric in METRICS.items():
        if metric.side is not Side.CLIENT:
            continue
        match metric.kind:
            case Kind.DISTRIBUTION:
                value: Value | None = _distribution(name, records)
            case Kind.COUNT:
                value = _total(name, records)
            case _:
                value = ratio(name, records)
        if value is not None:
            found[name] = value
    return found


def merged(sketches: Iterable[Sketch]) -> Sketch:
    """Returns one distribution of all values."""
    whole = sketch()
    for each in sketches:
        whole.merge(each)
    return whole


def spread(values: Sketch) -> Spread:
    """Returns what a row tells of a distribution."""
    return Spread(**_percentiles(values))


def _percentiles(values: Sketch) -> dict[str, Any]:
    """Returns the count, mean, extremes and percentiles of some values."""
    shares = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}
    points = {name: _at(values, share) for name, share in shares.items()}
    return {"count": round(values.count), "mean": values.avg, **points}


def read(record: SessionRecord) -> bool:
    """Whether pictures of a session told which frames they are."""
    return any(map(record.counts.get, ("pictures_read", "pictures_wrong")))


def watched(record: SessionRecord) -> bool:
    """Whether frames of a session came."""
    return record.counts.get("frames_shown", 0) > 0


def clean(record: SessionRecord) -> bool:
    """Whether a session had every frame once and no freeze."""
    faults = ("frames_lost", "frames_repeated", "freezes")
    return record.outcome is not Outcome.LOST and not any(map(record.counts.get, faults))


def ratio(name: str, records: Sequence[SessionRecord]) -> Ratio | None:
    """Returns a share over some sessions; None where there is no whole."""
    match name:
        case "frozen":
            part = sum(record.counts.get("frozen_s", 0.0) for record in records)
            whole = sum(record.counts.get("playing_s", 0.0) for record in records)
        case "turned_away":
            part = sum(record.outcome is Outcome.TURNED_AWAY for record in records)
            whole = len(records)
        case "clean_sessions":
            seen = [each for each in records if watched(each) or each.outcome is Outcome.LOST]
            part, whole = sum(map(clean, seen)), len(seen)
        case _:
            raise KeyError(name)
    return Ratio(share=part / whole, part=part, whole=whole) if whole else None


def _distribution(name: str, records: Sequence[SessionRecord]) -> Distribution | None:
    values = merged(record.values[name] for record in records if name in record.values)
    if not values.count:
        return None
    return Distribution(**_percentiles(values))


def _total(name: str, records: Sequence[SessionRecord]) -> Total | None:
    if not any(map(_OF.get(name, watched), records)):
        return None
    if is_one := _BY_OUTCOME.get(name):
        counts = [float(is_one(record)) for record in records]
    else:
        counts = [record.counts.get(name, 0.0) for record in records]
    if not counts:
        return None
    return Total(total=sum(counts), sessions=sum(map(bool, counts)), worst=max(counts))


def _at(values: Sketch, share: float) -> float:
    """Returns the smallest value that so many are not above (nearest rank).

    Of few values a high percentile is the highest: nothing bad is smoothed away.
    """
    count = round(values.count)
    if count < 2:
        return values.avg if count else 0.0
    # The sketch floors the rank; half of one keeps it off the edge.
    rank = max(1, math.ceil(share * count - 1e-9)) - 0.5
    value = values.get_quantile_value(min(1.0, rank / (count - 1)))
    return 0.0 if value is None else float(value)


# -- service and generator -----------------------------------------------------------------


def of_service(scrapes: Sequence[Scrape]) -> dict[str, Value]:
    """Returns the server metrics over some scrapes.

    Args:
        scrapes: Those within the measured time, in order.
    """
    found: dict[str, Value] = {}
    slopes = {
        "server_rss_slope": slope(scrapes, lambda each: each.rss_mb),
        "server_fd_slope": slope(scrapes, lambda each: each.descriptors),
    }
    for name, metric in METRICS.items():
        if metric.side is not Side.SERVER:
            continue
        if (steepness := slopes.get(name)) is not None:
            found[name] = Level(mean=steepness, min=steepness, max=steepness, points=len(scrapes))
        elif values := [each.levels[name] for each in scrapes if name in each.levels]:
            found[name] = level(values)
    return found


def slope(scrapes: Sequence[Scrape], of: Callable[[Footprint], float]) -> float | None:
    """Returns how much the service grows a minute, all its processes together.

    Least squares for each process by itself: one that begins or ends is no growth.

    Args:
        scrapes: In order.
        of: What grows.
    """
    lines: dict[str, list[tuple[float, float]]] = {}
    for scrape in scrapes:
        for name, footprint in scrape.processes.items():
            lines.setdefault(name, []).append((scrape.at_s, of(footprint)))
    long = [points for points in lines.values() if len(points) >= SLOPE_POINTS]
    if not long:
        return None
    return sum(_steepness(points) for points in long) * _MINUTE_S


def of_generator(measured: Measured, seconds: Sequence[Second]) -> dict[str, Value]:
    """Returns the generator's own metrics.

    Args:
        measured: The run.
        seconds: Those within the measured time.
    """
    if not seconds:
        return {}
    # Seconds of different processes end at slightly different moments.
    by_second: dict[int, list[Second]] = {}
    for each in seconds:
        by_second.setdefault(round(each.at_s), []).append(each)
    found: dict[str, Value] = {
        "generator_cpu": level(max(each.cpu for each in those) for those in by_second.values())
    }
    if measured.lag_p99_ms:
        found["generator_lag"] = level(measured.lag_p99_ms.values())
    if spent := sum(each.cpu for each in measured.seconds):
        found["measuring_cpu"] = level([measured.measuring_cpu_s / spent])
    return found


def level(values: Iterable[float]) -> Level:
    """Returns the level of values over time, at least one."""
    seen = list(values)
    return Level(mean=fmean(seen), min=min(seen), max=max(seen), points=len(seen))


def _steepness(points: Sequence[tuple[float, float]]) -> float:
    """Returns the slope of a line through points, by least squares, per unit of the first."""
    middle_x, middle_y = (fmean(axis) for axis in zip(*points, strict=True))
    across = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / across if across else 0.0
