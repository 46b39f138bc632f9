"""A report as Markdown, short enough for a comment on a pull request. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from sdk_adapters.harness.metrics import METRICS, Kind
from sdk_adapters.harness.report import words
from sdk_adapters.harness.report.model import Distribution, LoadReport
from sdk_adapters.harness.report.words import Ending, digits

_MARKS: Final = {
    Ending.PASSED: "\N{WHITE HEAVY CHECK MARK}",
    Ending.FAILED: "\N{CROSS MARK}",
    Ending.INVALID: "\N{WARNING SIGN}",
    Ending.MEASURED: "\N{INFORMATION SOURCE}",
}
_STATISTICS: Final = {
    Kind.DISTRIBUTION: "p50 p90 p95 p99 min mean max",
    Kind.COUNT: "total",
    Kind.SHARE: "share",
    Kind.LEVEL: "min mean max",
}
_SPECIAL: Final = re.compile(r"([\\`*_\[\]#!|<>&@~])")
_WHITE: Final = re.compile(r"\s+")


def render(report: LoadReport) -> str:
    """Returns the report as Markdown of GitHub's kind."""
    return "\n".join([*_lines(report), ""])


def metrics() -> str:
    """Returns the table of all metrics, as it stands in docs/load.md."""
    rows = (
        f"| `{each.name}` | {each.unit} | {_STATISTICS[each.kind]} | {each.meaning} |"
        for each in METRICS.values()
    )
    heading = ("Metric", "Unit", "Statistics", "What it is")
    return "\n".join([_row(heading), _row(["---"] * len(heading)), *rows, ""])


def _lines(report: LoadReport) -> Iterator[str]:
    head, run = words.headline(report), report.run
    begin, end = run.measured_s
    yield f"### {_MARKS[head.ending]} Load test `{_code(run.scenario)}`: {head.ending.value}"
    yield ""
    who = words.sessions(report.sessions.counted)
    yield f"{escaped(head.text)} {words.clock(end - begin)} measured, {who}, seed {run.seed}."
    if head.ending is Ending.INVALID:
        yield from ("", *(f"* {escaped(reason)}" for reason in head.reasons))
    if report.verdicts:
        yield ""
        yield from _table(("Threshold", "Measured", "Asked", ""), _verdicts(report))
    yield ""
    yield from _table(("Metric", "p50", "p95", "p99", "max", "Unit"), _distributions(report))
    yield ""
    yield from _table(("Metric", "Value"), _others(report))
    if report.failures:
        yield ""
        rows = ((f"{each.sessions}", each.outcome, each.kind) for each in report.failures)
        yield from _table(("Sessions", "Went wrong", "Kind"), rows)
    yield from _details(report)


def _verdicts(report: LoadReport) -> Iterator[Sequence[str]]:
    for each in report.verdicts:
        unit = words.unit_beside(words.unit_of(report, each.metric))
        measured = each.why if each.value is None else words.number(each.value, unit)
        mark = _MARKS[Ending.PASSED if each.met else Ending.FAILED]
        yield words.label(each), measured, words.limit(report, each), mark


def _distributions(report: LoadReport) -> Iterator[Sequence[str]]:
    for name, result in report.metrics.items():
        if isinstance(value := result.value, Distribution):
            ends = (value.p50, value.p95, value.p99, value.max)
            yield name, *map(digits, ends), result.unit


def _others(report: LoadReport) -> Iterator[Sequence[str]]:
    for name, result in report.metrics.items():
        if not isinstance(result.value, Distribution):
            yield name, words.summary(result)


def _details(report: LoadReport) -> Iterator[str]:
    run = report.run
    yield from ("", "<details><summary>What was run, and what was not measured</summary>", "")
    yield f"* {escaped(run.summary)}" if run.summary else "* No summary."
    yield (
        f"* Service: {run.service.gateways} gateway(s), version "
        f"{escaped(run.service.version or 'unknown')}, model "
        f"{escaped(run.service.model or 'unknown')}"
    )
    machine = run.generator
    yield (
        f"* Generator: {run.processes} process(es) on {escaped(machine.cpu or 'an unknown CPU')}, "
        f"{machine.cores} cores; commit `{_code(run.commit or 'unknown')}`"
    )
    yield f"* Configuration `{_code(run.config_hash[:12])}`, began {escaped(run.began_at)}"
    yield from (f"* {escaped(note)}" for note in report.notes)
    yield from (
        f"* Not measured: {escaped(name)} ({escaped(why)})"
        for name, why in report.not_measured.items()
    )
    yield from ("", "</details>")


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield _row(heading)
    yield _row(["---"] * len(heading))
    yield from (_row([escaped(cell) for cell in row]) for row in rows)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escaped(text: str) -> str:
    """Returns text that Markdown, and HTML within it, leave as it is; on one line."""
    return _SPECIAL.sub(r"\\\1", _WHITE.sub(" ", text)).replace("\\<", "&lt;")


def _code(text: str) -> str:
    """Returns text for between two backticks."""
    return _WHITE.sub(" ", text).replace("`", "'")
