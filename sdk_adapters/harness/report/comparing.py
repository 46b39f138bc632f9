"""A comparison of two versions, for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sdk_adapters.harness.compare import Basis, Change, Compared, Comparison
from sdk_adapters.harness.report.markdown import escaped
from sdk_adapters.harness.report.words import number

HEADING: Final = ("metric", "before", "now", "difference", "95 % interval", "verdict")
_COLOURS: Final = {
    Change.BETTER: "green",
    Change.WORSE: "bold red",
    Change.SAME: "dim",
    Change.CANNOT_TELL: "yellow",
}
_BASES: Final = {
    Basis.BETWEEN_RUNS: "Spread between runs.",
    Basis.WITHIN_RUN: "Spread within one run on each side.",
}


def show(console: Console, comparison: Comparison) -> None:
    """Prints a comparison."""
    table = Table(*HEADING, box=None, header_style="bold")
    for each in comparison.metrics:
        *cells, verdict = cells_of(each)
        table.add_row(*cells, Text(verdict, style=_COLOURS[each.change]))
    console.print(table)
    for line in sentences(comparison):
        console.print(Text(line, style="dim"))
    style = "bold red" if comparison.worse else "bold green"
    console.print(Text(outcome(comparison), style=style))


def markdown(comparison: Comparison) -> str:
    """Returns a comparison as Markdown of GitHub's kind."""
    lines = [f"### {outcome(comparison)}", "", _row(HEADING), _row(["---"] * len(HEADING))]
    lines += [_row([escaped(cell) for cell in cells_of(each)]) for each in comparison.metrics]
    lines += ["", *(f"* {escaped(line)}" for line in sentences(comparison))]
    return "\n".join([*lines, ""])


def outcome(comparison: Comparison) -> str:
    """Returns a comparison in a sentence."""
    counts = dict.fromkeys(Change, 0)
    for each in comparison.metrics:
        counts[each.change] += 1
    told = ", ".join(f"{counts[change]} {change.value}" for change in Change)
    return f"{len(comparison.metrics)} metrics compared: {told}"


def sentences(comparison: Comparison) -> Iterator[str]:
    """Yields what a reader has to know: the sides, where spreads come from, warnings."""
    yield f"Reports: {comparison.baseline_runs} before, {comparison.current_runs} now."
    kinds = {each.basis for each in comparison.metrics}
    yield from (text for basis, text in _BASES.items() if basis in kinds)
    yield from comparison.warnings


def cells_of(compared: Compared) -> tuple[str, ...]:
    """Returns a metric as a row of a table, under `HEADING`."""
    unit = compared.unit
    plain = compared.statistic == "share"
    name = compared.metric if plain else f"{compared.metric} {compared.statistic}"
    verdict = compared.change.value + (f": {compared.why}" if compared.why else "")
    return (
        name,
        _value(compared.baseline, unit),
        _value(compared.current, unit),
        _difference(compared),
        _interval(compared),
        verdict,
    )


def _value(value: float | None, unit: str) -> str:
    return "-" if value is None else number(value, unit)


def _difference(compared: Compared) -> str:
    if compared.baseline is None or compared.current is None:
        return "-"
    relative = compared.relative
    told = f" ({relative:+.1%})" if relative is not None and compared.unit != "share" else ""
    return f"{_signed(compared.effect, compared.unit)}{told}"


def _interval(compared: Compared) -> str:
    if compared.low is None or compared.high is None:
        return "-"
    return f"{_signed(compared.low, compared.unit)} to {_signed(compared.high, compared.unit)}"


def _signed(value: float, unit: str) -> str:
    return ("+" if value > 0 else "") + number(value, unit)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
