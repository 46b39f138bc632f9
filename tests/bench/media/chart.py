"""A report as a chart: one panel for each figure that has a target or a rival. Plain SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from tests.bench.media.results import FLOOR, INCUMBENT, NAIVE, OURS, STOCK, Figure, Report
from tests.bench.media.table import spread

COLOURS: Final = {
    OURS: "#2f6fde",
    FLOOR: "#9aa4b2",
    STOCK: "#c4a15a",
    NAIVE: "#d98a4b",
    INCUMBENT: "#b0566e",
}
MET, MISSED, INK, FAINT, LINE = "#2c8a57", "#c0392b", "#1f2733", "#6a7585", "#e3e7ec"
COLUMNS: Final = 2
PANEL_W: Final = 560
BAR_H: Final = 20
LABEL_W: Final = 118
VALUE_W: Final = 150
HEAD_H: Final = 34
PAD: Final = 24


def svg(report: Report, titles: dict[str, str]) -> str:
    """Renders a report.

    Args:
        report: What was measured.
        titles: A heading for each row.
    """
    body: list[str] = []
    top = 112.0
    for row, title in titles.items():
        panels = [panel for panel in _panels(report.figures, row) if _worth(panel)]
        if not panels:
            continue
        body.append(_text(PAD, top, title, 15, INK, bold=True))
        top += 14
        for at in range(0, len(panels), COLUMNS):
            line = panels[at : at + COLUMNS]
            for column, panel in enumerate(line):
                body += _panel(panel, PAD + column * (PANEL_W + PAD), top)
            top += max(HEAD_H + len(panel) * BAR_H for panel in line) + 14
        top += 26
    width = PAD + COLUMNS * (PANEL_W + PAD)
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top:.0f}" '
        f'width="{width}" height="{top:.0f}" font-family="Helvetica, Arial, sans-serif">'
    )
    ground = f'<rect width="{width}" height="{top:.0f}" fill="#ffffff"/>'
    return "\n".join([opening, ground, *_head(report), *body, "</svg>", ""])


def _head(report: Report) -> list[str]:
    machine = report.machine
    kind = "quick run" if report.quick else f"median of {report.runs} runs, whiskers least to most"
    told = (
        f"{machine.cores} cores, {machine.cpu}; commit {report.commit}, {report.began[:10]}; {kind}"
    )
    parts = [
        _text(PAD, 34, "The media path, measured in one run", 20, INK, bold=True),
        _text(PAD, 54, told, 12, FAINT),
    ]
    left = float(PAD)
    for system in dict.fromkeys(figure.system for figure in report.figures):
        parts.append(_bar(left, 63, 12, 12, COLOURS.get(system, FAINT)))
        parts.append(_text(left + 17, 73, system, 12, INK))
        left += 17 + 7 * len(system) + 22
    parts.append(f'<path d="M{left:.0f} 62v14" stroke="{INK}" stroke-dasharray="3 2"/>')
    parts.append(_text(left + 8, 73, "target", 12, INK))
    return parts


def _panels(figures: Iterable[Figure], row: str) -> list[list[Figure]]:
    """Returns the figures of a row by name: what is measured the same way is compared."""
    panels: dict[str, list[Figure]] = {}
    for figure in figures:
        if figure.row == row:
            panels.setdefault(figure.name, []).append(figure)
    return list(panels.values())


def _worth(panel: Sequence[Figure]) -> bool:
    return len(panel) > 1 or any(figure.target for figure in panel) or panel[0].system == FLOOR


def _panel(panel: Sequence[Figure], left: float, top: float) -> list[str]:
    target = next((figure.target for figure in panel if figure.target), None)
    values = [value for figure in panel for value in figure.values]
    most = max([*values, target.limit if target else 0.0, 1e-9]) * 1.04
    area, start = PANEL_W - LABEL_W - VALUE_W, left + LABEL_W
    unit = f", {panel[0].unit}" if panel[0].unit else ""
    parts = [_text(left, top + 20, panel[0].name + unit, 12.5, INK)]
    if target is not None:
        met = next(figure.met for figure in panel if figure.target)
        said = f"target {target.text}: {'met' if met else 'missed'}"
        parts.append(_text(left + PANEL_W, top + 20, said, 12, MET if met else MISSED, end=True))
    y = top + HEAD_H - 4
    for figure in panel:
        parts += _row(figure, left, start, y, area / most)
        y += BAR_H
    if target is not None:
        x = start + target.limit * area / most
        parts.append(
            f'<path d="M{x:.1f} {top + HEAD_H - 7:.1f}V{y:.1f}" stroke="{INK}" '
            'stroke-width="1.2" stroke-dasharray="3 2"/>'
        )
    parts.append(f'<path d="M{left:.0f} {y + 4:.1f}h{PANEL_W}" stroke="{LINE}" stroke-width="1"/>')
    return parts


def _row(figure: Figure, left: float, start: float, top: float, scale: float) -> list[str]:
    """One bar: the median, and a whisker from the least to the most."""
    name = f"{figure.system}{' (quoted)' if figure.quoted else ''}"
    middle = top + BAR_H / 2 - 1
    low, high = start + min(figure.values) * scale, start + max(figure.values) * scale
    parts = [
        _text(start - 8, middle + 4, name, 11.5, FAINT, end=True),
        _bar(
            start,
            top + 2,
            max(1.0, figure.median * scale),
            BAR_H - 6,
            COLOURS.get(figure.system, FAINT),
            faint=figure.quoted,
        ),
    ]
    if len(figure.values) > 1:
        parts.append(
            f'<path d="M{low:.1f} {middle:.1f}H{high:.1f}M{low:.1f} {middle - 3:.1f}v6'
            f'M{high:.1f} {middle - 3:.1f}v6" stroke="{INK}" stroke-width="1" fill="none"/>'
        )
    parts.append(_text(left + PANEL_W, middle + 4, spread(figure), 11.5, INK, end=True))
    return parts


def _bar(
    left: float, top: float, width: float, height: float, colour: str, *, faint: bool = False
) -> str:
    opacity = ' fill-opacity="0.5"' if faint else ""
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2" '
        f'fill="{colour}"{opacity}/>'
    )


def _text(
    left: float,
    top: float,
    text: str,
    size: float,
    colour: str,
    *,
    bold: bool = False,
    end: bool = False,
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    anchor = ' text-anchor="end"' if end else ""
    return (
        f'<text x="{left:.1f}" y="{top:.1f}" font-size="{size:g}" fill="{colour}"{weight}{anchor}>'
        f"{escape(text)}</text>"
    )
