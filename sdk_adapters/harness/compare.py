"""Two versions of a service, by their load reports: better, worse, the same, or cannot tell. Pure.

A difference counts when it is larger than what runs differ anyway. With several reports on a
side the spread between them says how much that is (Welch's interval for two means, 95 %).
With one report on each side only the spread within the runs is known: sessions are drawn
anew from each (bootstrap over sessions, B. Efron, 1979), which bounds the chance in who was
there, not the difference from one run to the next; the comparison says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, variance
from typing import Final

from sdk_adapters.harness.metrics import METRICS, Kind, Metric, Side
from sdk_adapters.harness.report.model import LoadReport, Total
from sdk_adapters.harness.resampling import Resampled, resampled
from sdk_adapters.harness.slo import statistic_of

LEAST: Final = 0.05
"""A difference below this share of the baseline matters to nobody."""
_FLOORS: Final = {"ms": 2.0, "share": 0.002, "s": 0.05, "frames/s": 0.1, "1/min": 1.0}
"""Nor does one below this, by unit."""
_NEITHER: Final = frozenset(
    {
        "sessions_begun",
        "sessions_active",
        "sessions_resident",
        "sessions_parked",
        "batch_fill",
        "moves",
    }
)
"""What came to the service and how it went about it: more or less of it is neither good nor bad."""
_T95: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Student's t at 97.5 %, by degrees of freedom from 1."""
_T95_MANY: Final = 1.96


class Change(StrEnum):
    """What became of a metric."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "same"
    CANNOT_TELL = "cannot tell"


class Basis(StrEnum):
    """Where the interval comes from."""

    BETWEEN_RUNS = "between runs"
    WITHIN_RUN = "within one run"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Compared:
    """One metric on both sides."""

    metric: str
    unit: str
    statistic: str
    """What is compared: `p95`, `p50`, `per session`, `share` or `mean`."""
    baseline: float | None
    """None: it was not measured."""
    current: float | None
    change: Change
    effect: float = 0.0
    """Current less baseline."""
    low: float | None = None
    """Lower end of the interval in which the effect lies, at 95 %; None: not known."""
    high: float | None = None
    basis: Basis = Basis.UNKNOWN
    why: str = ""
    """What is the matter, where it cannot be told."""

    @property
    def relative(self) -> float | None:
        """The effect as a share of the baseline; None where that is 0 or unknown."""
        return self.effect / abs(self.baseline) if self.baseline else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides."""

    baseline_runs: int
    current_runs: int
    metrics: tuple[Compared, ...]
    """In the order of the table of metrics; without those that neither side has, those of the
    generator, and those of which neither more nor less is better.
    """
    warnings: tuple[str, ...]
    """Why the sides may not be comparable."""

    @property
    def worse(self) -> tuple[Compared, ...]:
        """The metrics that became worse."""
        return tuple(each for each in self.metrics if each.change is Change.WORSE)


def compare(
    baseline: Sequence[LoadReport], current: Sequence[LoadReport], *, seed: int = 1
) -> Comparison:
    """Compares two sides.

    Args:
        baseline: One report, or several of the same run repeated.
        current: The same of what is to be judged.
        seed: Draws the bootstrap, where there is one.

    Raises:
        ValueError: A side is empty.
    """
    if not baseline or not current:
        raise ValueError("each side needs a report")
    compared = []
    for metric in METRICS.values():
        if metric.side is Side.GENERATOR or metric.name in _NEITHER:
            continue
        before, after = (_values(metric, side) for side in (baseline, current))
        if before or after:
            compared.append(_compared(metric, baseline, current, before, after, seed))
    return Comparison(
        baseline_runs=len(baseline),
        current_runs=len(current),
        metrics=tuple(compared),
        warnings=tuple(_warnings(baseline, current)),
    )


def headline(metric: Metric) -> str:
    """Returns the statistic that a metric is compared by."""
    match metric.kind:
        case Kind.DISTRIBUTION:
            return "p50" if metric.more_is_better else "p95"
        case Kind.COUNT:
            return "per session"
        case Kind.SHARE:
            return "share"
        case Kind.LEVEL:
            return "mean"


def value_of(metric: Metric, report: LoadReport) -> float | None:
    """Returns what a report has of the statistic that a metric is compared by."""
    result = report.metrics.get(metric.name)
    if result is None:
        return None
    if isinstance(result.value, Total):
        sessions = report.sessions.counted
        return result.value.total / sessions if sessions else None
    return statistic_of(result.value, headline(metric))


def _values(metric: Metric, reports: Sequence[LoadReport]) -> list[float]:
    found = (value_of(metric, report) for report in reports)
    return [value for value in found if value is not None]


def _compared(
    metric: Metric,
    baseline: Sequence[LoadReport],
    current: Sequence[LoadReport],
    before: Sequence[float],
    after: Sequence[float],
    seed: int,
) -> Compared:
    def told(change: Change, **more: object) -> Compared:
        return Compared(
            metric=metric.name,
            unit=metric.unit,
            statistic=headline(metric),
            baseline=fmean(before) if before else None,
            current=fmean(after) if after else None,
            change=change,
            **more,  # type: ignore[arg-type]
        )

    if not before or not after:
        missing = "the baseline" if not before else "the current side"
        return told(Change.CANNOT_TELL, why=f"{missing} has no value")
    effect = fmean(after) - fmean(before)
    if len(before) > 1 or len(after) > 1:
        basis, half = Basis.BETWEEN_RUNS, _half_width(before, after)
        low, high = effect - half, effect + half
    elif (drawn := _drawn(metric, baseline[0], current[0], seed)) is not None:
        basis = Basis.WITHIN_RUN
        # The sample may differ from the whole: its spread counts, not its middle.
        low, high = effect + drawn.low, effect + drawn.high
    else:
        why = "one report on each side, and no sessions in it that tell of its spread"
        return told(Change.CANNOT_TELL, effect=effect, why=why)
    margin = max(LEAST * abs(fmean(before)), _FLOORS.get(metric.unit, 0.0))
    change, why = _judged(effect, low, high, margin, more_is_better=metric.more_is_better)
    return told(change, effect=effect, low=low, high=high, basis=basis, why=why)


def _judged(
    effect: float, low: float, high: float, margin: float, *, more_is_better: bool
) -> tuple[Change, str]:
    if -margin <= low and high <= margin:
        return Change.SAME, ""
    if (low > 0 or high < 0) and abs(effect) > margin:
        return (Change.BETTER if (effect > 0) == more_is_better else Change.WORSE), ""
    if low > 0 or high < 0:
        return Change.CANNOT_TELL, "a difference, but perhaps too small to matter"
    return Change.CANNOT_TELL, "the spread is larger than the difference"


def _half_width(before: Sequence[float], after: Sequence[float]) -> float:
    """Returns half of the interval around the difference of two means.

    A side with one value is taken to spread as the other does.
    """
    sides = [before, after]
    known = [variance(side) for side in sides if len(side) > 1]
    spreads = [variance(side) if len(side) > 1 else known[0] for side in sides]
    parts = [spread / len(side) for spread, side in zip(spreads, sides, strict=True)]
    if not sum(parts):
        return 0.0
    # Welch and Satterthwaite: degrees of freedom of a sum of two variances.
    degrees = sum(parts) ** 2 / sum(
        part**2 / (len(side) - 1) for part, side in zip(parts, sides, strict=True) if len(side) > 1
    )
    if len(known) == 1:
        degrees = max(map(len, sides)) - 1
    whole = max(1, math.floor(degrees))
    return (_T95[whole - 1] if whole <= len(_T95) else _T95_MANY) * math.sqrt(sum(parts))


def _drawn(
    metric: Metric, baseline: LoadReport, current: LoadReport, seed: int
) -> Resampled | None:
    before = resampled(metric, baseline, seed=seed)
    after = resampled(metric, current, seed=seed + 1)
    if before is None or after is None:
        return None
    return after.less(before)


# -- whether they can be compared ----------------------------------------------------------

_SAME: Final[Sequence[tuple[str, Callable[[LoadReport], object]]]] = (
    ("scenarios", lambda report: report.run.scenario_hash),
    ("machines of the generator", lambda report: _machine(report)),
    ("machines of the service", lambda report: report.run.service.hardware),
    ("numbers of gateways", lambda report: report.run.service.gateways),
    ("models", lambda report: report.run.service.model),
    ("ways to make the pictures", lambda report: report.run.service.video),
)
"""What has to be the same on both sides."""


def _machine(report: LoadReport) -> object:
    hardware = report.run.generator
    return hardware.cpu, hardware.cores, hardware.gpus


def _warnings(baseline: Sequence[LoadReport], current: Sequence[LoadReport]) -> list[str]:
    everyone = [*baseline, *current]
    said = [
        f"The reports are of different {what}."
        for what, of in _SAME
        if any(of(report) != of(everyone[0]) for report in everyone)
    ]
    if invalid := sum(not report.validity.valid for report in everyone):
        said.append(f"{invalid} of {len(everyone)} runs are invalid: their generator was slow.")
    if len(everyone) == 2:
        said.append(
            "One report on each side: how much runs differ from one to the next is not known, "
            "so that a difference may be that. Repeat the runs to be sure."
        )
    return said
