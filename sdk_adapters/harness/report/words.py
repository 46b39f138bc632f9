"""How a report's values are written for people, the same in every kind of output. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sdk_adapters.harness.metrics import METRICS
from sdk_adapters.harness.report.model import (
    Distribution,
    Level,
    LoadReport,
    Ratio,
    Result,
    Total,
    Value,
    Verdict,
)

CUT_S: Final = 0.5
"""A run that measured so much less than planned was ended early."""
_SHARES: Final = "share"
_COUNTED: Final = {"sessions", "frames", "freezes", "underruns", "moves", "commands", "pictures"}
"""Units that the names of their metrics say."""
_HUGE: Final = 1e6
_HUNDRED: Final = 100.0

HEADLINES: Final = (
    ("start_to_first_frame", "p95"),
    ("prompt_to_pixels", "p95"),
    ("glass_to_glass", "p95"),
    ("join", "p95"),
    ("command_ack", "p95"),
    ("frame_rate", "p50"),
    ("frames_lost", "total"),
    ("freezes", "total"),
    ("frozen", "share"),
    ("clean_sessions", "share"),
    ("sessions_begun", "total"),
    ("sessions_lost", "total"),
    ("turned_away", "share"),
    ("batch_fill", "mean"),
    ("deadline_misses", "mean"),
)
"""The figures that are looked at first."""

TITLES: Final = {
    "join": "Join",
    "start_to_first_frame": "Start to first frame",
    "prompt_to_pixels": "Prompt to pixels",
    "glass_to_glass": "Glass to glass",
    "command_ack": "Command to acknowledgement",
    "gateway_cpu_per_session": "Gateway CPU per session",
}


class Ending(StrEnum):
    """What came of a run."""

    PASSED = "passed"
    FAILED = "failed"
    """A threshold was missed."""
    INVALID = "invalid"
    """It says nothing of the service."""
    MEASURED = "measured"
    """Nothing was asked."""


@dataclass(frozen=True, slots=True)
class Headline:
    """A run in a sentence."""

    ending: Ending
    text: str
    reasons: tuple[str, ...] = ()


def headline(report: LoadReport) -> Headline:
    """Returns what came of a run, and why."""
    if not report.validity.valid:
        return Headline(
            Ending.INVALID,
            "The run is invalid: it says nothing of the service.",
            report.validity.reasons,
        )
    missed = [each for each in report.verdicts if not each.met]
    asked = len(report.verdicts)
    if missed:
        return Headline(
            Ending.FAILED,
            f"{len(missed)} of {thresholds(asked)} missed.",
            tuple(sentence(report, each) for each in missed),
        )
    if asked:
        met = "The threshold was met." if asked == 1 else f"All {thresholds(asked)} were met."
        return Headline(Ending.PASSED, met)
    return Headline(Ending.MEASURED, "Measured; the scenario asks for nothing (no slo).")


def thresholds(count: int) -> str:
    """Returns `1 threshold`, `2 thresholds`."""
    return f"{count} threshold" + ("s" if count != 1 else "")


def cut_short(report: LoadReport) -> bool:
    """Whether a run was ended before its time."""
    begin, end = report.run.measured_s
    return end - begin < report.run.planned_s - CUT_S


def sentence(report: LoadReport, verdict: Verdict) -> str:
    """Returns a verdict in words, for example `join p95 is 480 ms; asked: at most 300 ms`."""
    unit = unit_beside(unit_of(report, verdict.metric))
    bound = "at least" if verdict.more_is_better else "at most"
    asked = f"asked: {bound} {number(verdict.limit, unit)}"
    if verdict.value is None:
        return f"{label(verdict)}: {verdict.why or 'not measured'}; {asked}"
    return f"{label(verdict)} is {number(verdict.value, unit)}; {asked}"


def label(verdict: Verdict) -> str:
    """Returns the name of what a verdict is about; totals and shares speak for themselves."""
    plain = verdict.statistic in ("total", "share")
    return verdict.metric if plain else f"{verdict.metric} {verdict.statistic}"


def limit(report: LoadReport, verdict: Verdict) -> str:
    """Returns what was asked, for example `<= 300 ms`."""
    unit = unit_beside(unit_of(report, verdict.metric))
    sign = "\N{GREATER-THAN OR EQUAL TO}" if verdict.more_is_better else "\N{LESS-THAN OR EQUAL TO}"
    return f"{sign} {number(verdict.limit, unit)}"


def unit_of(report: LoadReport, metric: str) -> str:
    """Returns the unit of a metric; empty where nobody knows it."""
    known = report.metrics.get(metric) or METRICS.get(metric)
    return known.unit if known is not None else ""


def unit_beside(unit: str) -> str:
    """Returns the unit to write beside a value; nothing where the metric's name says it."""
    return "" if unit in _COUNTED else unit


def number(value: float, unit: str = "") -> str:
    """Returns a value with its unit, to about three digits; shares as percentages."""
    if unit == _SHARES:
        return f"{digits(value * 100)} %"
    return f"{digits(value)} {unit}".rstrip()


def digits(value: float) -> str:
    """Returns a number to about three digits, whole where it is large."""
    size = abs(value)
    if float(value).is_integer() and size < _HUGE:
        return f"{value:,.0f}"
    if size >= _HUGE:
        return f"{value / _HUGE:,.4g} M"
    if size >= _HUNDRED:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def summary(result: Result) -> str:
    """Returns a result in one line."""
    value, unit = result.value, result.unit
    match value:
        case Distribution():
            ends = f"p50 {digits(value.p50)}, p95 {digits(value.p95)}, p99 {digits(value.p99)}"
            return f"{ends}, max {number(value.max, unit)}"
        case Total():
            itself = not value.total or unit == "sessions"
            return digits(value.total) + ("" if itself else f" in {sessions(value.sessions)}")
        case Ratio():
            return f"{number(value.share, unit)} ({digits(value.part)} of {digits(value.whole)})"
        case Level():
            if value.min == value.max:
                return number(value.mean, unit)
            ends = f"{digits(value.min)} to {digits(value.max)}"
            if unit == _SHARES:
                ends = f"{number(value.min, unit)} to {number(value.max, unit)}"
            return f"{number(value.mean, unit)} on average, {ends}"


def sessions(count: int) -> str:
    """Returns `1 session`, `2 sessions`."""
    return f"{count:,} session" + ("s" if count != 1 else "")


def clock(seconds: float) -> str:
    """Returns a time as a clock shows it: `42 s`, `3:05`, `1:02:45`."""
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def title(metric: str) -> str:
    """Returns a metric's name as the title of a chart or a tile."""
    return TITLES.get(metric, metric.replace("_", " ").capitalize())


def figure(value: Value, statistic: str, unit: str) -> str:
    """Returns one statistic of a value, with its unit."""
    found = getattr(value, statistic, None)
    return number(found, unit) if isinstance(found, int | float) else "-"
