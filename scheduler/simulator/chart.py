"""A run as a chart: sessions, GPUs and their bound, who waits, chunks too late. Plain SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from scheduler.simulator.report import Report
from scheduler.simulator.world import Point

INK, FAINT, LINE, GROUND = "#1f2733", "#6a7585", "#e3e7ec", "#ffffff"
BLUE, AMBER, GREY, RED, GREEN = "#2f6fde", "#d98a4b", "#9aa4b2", "#c0392b", "#2c8a57"
WIDTH: Final = 960.0
LEFT: Final = 64.0
RIGHT: Final = 24.0
PANEL_H: Final = 150.0
GAP: Final = 46.0
HEAD_H: Final = 76.0
_MOST_COLUMNS = 720
"""Points that are drawn; of more, neighbours are put together."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a panel."""

    name: str
    colour: str
    of: Callable[[Point], float]
    filled: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves on one scale."""

    title: str
    curves: tuple[Curve, ...]
    percent: bool = False


PANELS: Final = (
    Panel(
        "Sessions",
        (
            Curve("connected", GREY, lambda point: point.connected),
            Curve("computing", BLUE, lambda point: point.playing),
        ),
    ),
    Panel(
        "GPUs",
        (
            Curve("asked for and up", BLUE, lambda point: point.gpus),
            Curve("bound", AMBER, lambda point: point.bound),
        ),
    ),
    Panel(
        "Waiting for a place or for compute",
        (Curve("sessions", AMBER, lambda point: point.waiting, filled=True),),
    ),
    Panel(
        "Chunks too late",
        (
            Curve(
                "share",
                RED,
                lambda point: point.late / point.chunks if point.chunks else 0.0,
                filled=True,
            ),
        ),
        percent=True,
    ),
)


def svg(reports: Sequence[Report]) -> str:
    """Renders runs, one below the other."""
    height_each = HEAD_H + len(PANELS) * (PANEL_H + GAP)
    height = height_each * len(reports)
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:g}" '
        f'width="{WIDTH:g}" height="{height:g}" font-family="Helvetica, Arial, sans-serif">'
    )
    parts = [opening, f'<rect width="{WIDTH:g}" height="{height:g}" fill="{GROUND}"/>']
    for number, report in enumerate(reports):
        parts += _run(report, number * height_each)
    return "\n".join([*parts, "</svg>", ""])


def _run(report: Report, top: float) -> Iterator[str]:
    told = (
        f"{report.gpu_hours:,.0f} GPU-hours: {report.of_bound:.2f} of the bound, "
        f"{report.of_one_per_gpu:.2f} of one per GPU; {report.in_time:.2%} of chunks in time; "
        f"start and resume wait p95 {report.wait.p95:.2f} s; {report.rejected:.2%} turned away"
    )
    verdict, colour = ("all targets met", GREEN) if report.met else ("targets missed", RED)
    yield _text(LEFT, top + 32, report.scenario.name, 19, INK, bold=True)
    if report.checks:
        yield _text(WIDTH - RIGHT, top + 32, verdict, 13, colour, end=True)
    yield _text(LEFT, top + 54, told, 12, FAINT)
    columns = list(_columns(report.points))
    for number, panel in enumerate(PANELS):
        yield from _panel(panel, columns, top + HEAD_H + 18 + number * (PANEL_H + GAP))


def _columns(points: Sequence[Point]) -> Iterator[Sequence[Point]]:
    each = max(1, math.ceil(len(points) / _MOST_COLUMNS))
    for at in range(0, len(points), each):
        yield points[at : at + each]


def _panel(panel: Panel, columns: Sequence[Sequence[Point]], top: float) -> Iterator[str]:
    yield _text(LEFT, top - 8, panel.title, 13, INK, bold=True)
    values = [[max(map(curve.of, column)) for column in columns] for curve in panel.curves]
    most = _round_up(max((max(line, default=0.0) for line in values), default=0.0))
    bottom = top + PANEL_H
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * PANEL_H
        label = f"{share * most:.2%}" if panel.percent else f"{share * most:,.10g}"
        yield f'<path d="M{LEFT:g} {y:.1f}H{WIDTH - RIGHT:g}" stroke="{LINE}"/>'
        yield _text(LEFT - 8, y + 4, label, 11, FAINT, end=True)
    yield from _hours(columns, bottom)
    beside = WIDTH - RIGHT
    for curve, line in zip(reversed(panel.curves), reversed(values), strict=True):
        yield _text(beside, top - 8, curve.name, 12, curve.colour, end=True)
        beside -= 7.0 * len(curve.name) + 16
        yield _line(curve, line, most, bottom)


def _line(curve: Curve, line: Sequence[float], most: float, bottom: float) -> str:
    if not line:
        return ""
    step = (WIDTH - LEFT - RIGHT) / max(1, len(line) - 1)
    path = "L".join(
        f"{LEFT + number * step:.1f} {bottom - value / most * PANEL_H:.1f}"
        for number, value in enumerate(line)
    )
    if not curve.filled:
        return f'<path d="M{path}" fill="none" stroke="{curve.colour}" stroke-width="1.6"/>'
    end = LEFT + (len(line) - 1) * step
    return (
        f'<path d="M{path}L{end:.1f} {bottom:g}L{LEFT:g} {bottom:g}Z" fill="{curve.colour}" '
        f'fill-opacity="0.25" stroke="{curve.colour}" stroke-width="1"/>'
    )


def _hours(columns: Sequence[Sequence[Point]], bottom: float) -> Iterator[str]:
    if not columns:
        return
    end_h = columns[-1][-1].at / 3600.0
    every = next(step for step in (0.25, 0.5, 1, 2, 4, 24, 168, math.inf) if end_h / step <= 12)
    hour = 0.0
    while hour <= end_h + 1e-9:
        x = LEFT + hour / end_h * (WIDTH - LEFT - RIGHT)
        yield _text(x, bottom + 15, f"{hour:g} h", 11, FAINT, middle=True)
        hour += every


def _round_up(value: float) -> float:
    """Returns the next number of the form 1, 2, 2.5 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * 0.9999)


def _text(
    left: float,
    top: float,
    text: str,
    size: float,
    colour: str,
    *,
    bold: bool = False,
    end: bool = False,
    middle: bool = False,
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    anchor = ' text-anchor="end"' if end else ' text-anchor="middle"' if middle else ""
    return (
        f'<text x="{left:.1f}" y="{top:.1f}" font-size="{size:g}" fill="{colour}"{weight}{anchor}>'
        f"{escape(text)}</text>"
    )
