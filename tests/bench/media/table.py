"""A report as a table in Markdown."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

from tests.bench.media.results import Figure, Report


def markdown(report: Report, titles: dict[str, str]) -> str:
    """Renders a report.

    Args:
        report: What was measured.
        titles: A heading for each row.
    """
    parts = [_preface(report)]
    for row, figures in itertools.groupby(report.figures, key=lambda figure: figure.row):
        parts.append(_section(titles.get(row, row), list(figures)))
    if report.notes:
        parts.append("\n".join(["Not measured:", "", *(f"* {note}" for note in report.notes)]))
    return "\n\n".join(parts) + "\n"


def number(value: float) -> str:
    """Writes a value with three digits that mean something."""
    if math.isnan(value):
        return "-"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{max(0, min(3, digits))}f}"


def spread(figure: Figure) -> str:
    """Writes median and extremes; the median alone where there was one run."""
    middle = number(figure.median)
    if len(figure.values) == 1:
        return middle
    return f"{middle} ({number(min(figure.values))}-{number(max(figure.values))})"


def _preface(report: Report) -> str:
    machine = report.machine
    libraries = ", ".join(f"{name} {each}" for name, each in report.versions.items())
    kind = "quick run: one repetition, short windows" if report.quick else f"{report.runs} runs"
    return (
        f"Commit `{report.commit}`, {report.began}, {kind}, {report.seconds:.0f} s. "
        f"{machine.cores} cores of {machine.cpu}, {machine.memory_gib:g} GiB, {machine.system}; "
        f"load before {machine.load_before:g}. {libraries}. Median (least-most)."
    )


def _section(title: str, figures: list[Figure]) -> str:
    lines = [
        f"### {title}",
        "",
        "| Figure | System | Measured | Target | |",
        "|---|---|---|---|---|",
    ]
    lines += [_line(figure) for figure in figures]
    return "\n".join([*lines, *_footnotes(figures)])


def _line(figure: Figure) -> str:
    target = "" if figure.target is None else figure.target.text
    mark = {True: "met", False: "**missed**", None: ""}[figure.met]
    value = f"{spread(figure)} {figure.unit}".strip()
    system = f"{figure.system} (quoted)" if figure.quoted else figure.system
    return f"| {figure.name} | {system} | {value} | {target} | {mark} |"


def _footnotes(figures: Iterable[Figure]) -> list[str]:
    notes = dict.fromkeys(figure.note for figure in figures if figure.note)
    return ["", *(f"* {note}" for note in notes)] if notes else []
