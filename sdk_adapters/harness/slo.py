"""Thresholds: what was asked of a service against what it did. Pure."""

from __future__ import annotations

from enum import IntEnum

from scheduler.scenario.load import Slo
from sdk_adapters.harness.metrics import METRICS
from sdk_adapters.harness.report.model import LoadReport, Value, Verdict


class Exit(IntEnum):
    """Status of a command that measures."""

    PASSED = 0
    FAILED = 1
    """A threshold was not met."""
    INVALID = 2
    """The run says nothing of the service, or could not be made."""


def judge(report: LoadReport, slo: Slo) -> tuple[Verdict, ...]:
    """Returns a verdict for every threshold, in their order.

    A bound holds from above; from below where more is better. A metric without a value meets
    nothing: what was not measured is not known to be good.

    Args:
        report: The run.
        slo: What is asked, by metric.
    """
    return tuple(
        _verdict(report, name, statistic, limit)
        for name, bounds in slo.items()
        for statistic, limit in bounds.asked.items()
    )


def judged(report: LoadReport, slo: Slo) -> LoadReport:
    """Returns the report with its verdicts."""
    return report.model_copy(update={"verdicts": judge(report, slo)})


def exit_status(report: LoadReport) -> Exit:
    """Returns how a command ends that made this report."""
    if not report.validity.valid:
        return Exit.INVALID
    return Exit.PASSED if report.passed else Exit.FAILED


def statistic_of(value: Value, statistic: str) -> float | None:
    """Returns a statistic of a value; None where it has none such."""
    found = getattr(value, statistic, None)
    return float(found) if isinstance(found, int | float) else None


def _verdict(report: LoadReport, name: str, statistic: str, limit: float) -> Verdict:
    result, metric = report.metrics.get(name), METRICS.get(name)
    more = metric.more_is_better if metric else False
    value = None if result is None else statistic_of(result.value, statistic)
    if value is None:
        reason = report.not_measured.get(name, "")
        return Verdict(
            metric=name,
            statistic=statistic,
            limit=limit,
            value=None,
            met=False,
            more_is_better=more,
            why="not measured" + (f": {reason}" if reason else ""),
        )
    return Verdict(
        metric=name,
        statistic=statistic,
        limit=limit,
        value=value,
        met=value >= limit if more else value <= limit,
        more_is_better=more,
    )
