"""A report's charts: what is drawn in each, and its lines as SVG. Pure.

Only lines are SVG, stretched to whatever width there is; words and figures stand beside them
as HTML, so that they keep their size on a phone. The SVG holds numbers alone: nothing that a
report says can become markup.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from typing import Any, Final

from sdk_adapters.harness.metrics import METRICS
from sdk_adapters.harness.report import words
from sdk_adapters.harness.report.model import Distribution, LoadReport, Timeline

WIDTH: Final = 1000.0
HEIGHT: Final = 200.0
COLUMNS: Final = 600
"""Most points of a line; of more, neighbours are put together."""
MARKS: Final = 40
"""Most events that are marked in a chart."""
COLOURS: Final = ("blue", "amber", "green", "violet", "red", "grey")
"""Of lines, in their order."""
_TICKS_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200)
_MOST_TICKS: Final = 6
_SPARSE: Final = 60
_WHOLE: Final = 0.7
"""A line with fewer values than the one, and than this part of its points, shows each as a
dot, and a thin line through all; else it is broken where they are missing."""
_SILENCE: Final = 3
"""Times the usual pause between two looks; a longer one parts a line."""

Values = Sequence[float | None]
_Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart."""

    name: str
    values: Values
    colour: str
    most: bool = True
    """Whether the highest of neighbours stands for them; else their mean."""
    joined: bool = False
    """Whether it goes on between values: a state that was looked at now and then."""


@dataclass(frozen=True, slots=True)
class Label:
    """A word at an axis."""

    at: float
    """0 to 100."""
    text: str


@dataclass(frozen=True, slots=True)
class Mark:
    """An event in a chart."""

    at: float
    number: int
    what: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart, ready to be laid out."""

    title: str
    meaning: str
    unit: str
    lines: tuple[Line, ...]
    svg: str
    """Its lines, in a box of 0 to `WIDTH` and 0 to `HEIGHT`."""
    across: tuple[Label, ...]
    up: tuple[Label, ...]
    points: tuple[str, ...]
    """What each point is called."""
    positions: tuple[float, ...]
    """Where it is, 0 to 100."""
    marks: tuple[Mark, ...] = ()
    aside: tuple[tuple[float, float], ...] = ()
    """Times that do not count: beginning and length, 0 to 100."""
    spoken: str = ""
    """The chart in a sentence, for those who cannot see it."""

    def data(self) -> dict[str, Any]:
        """Returns what the page's script needs to tell values under the pointer."""
        return {
            "at": self.positions,
            "points": self.points,
            "unit": self.unit,
            "lines": [
                {"name": line.name, "colour": line.colour, "values": line.values}
                for line in self.lines
            ],
        }


@dataclass(frozen=True, slots=True)
class _Panel:
    """What stands in a chart over time."""

    title: str
    unit: str
    lines: Callable[[Timeline], Sequence[Line]]
    meaning: str = ""
    at_least: float = 0.0
    """The scale reaches so far in any case."""


@dataclass(frozen=True, slots=True)
class Section:
    """Charts that belong together."""

    title: str
    charts: tuple[Chart, ...] = field(default=())


def over_time(report: LoadReport) -> tuple[Section, ...]:
    """Returns the charts over time; those without a value are left out."""
    sections = []
    for title, panels in _SECTIONS.items():
        drawn = [_drawn(report, panel) for panel in panels]
        if charts := tuple(chart for chart in drawn if chart is not None):
            sections.append(Section(title, charts))
    return tuple(sections)


def distributions(report: LoadReport) -> tuple[Chart, ...]:
    """Returns the percentile curves of what is felt as waiting, and of the picture's pace."""
    drawn = (_curves(report, title, names) for title, names in _CURVES.items())
    return tuple(chart for chart in drawn if chart is not None)


# -- what is drawn -------------------------------------------------------------------------


def _waits(name: str) -> _Panel:
    def lines(timeline: Timeline) -> Sequence[Line]:
        if (seen := timeline.values.get(name)) is None:
            return ()
        return (
            Line("p95", seen.p95, "amber"),
            Line("p50", seen.p50, "blue", most=False),
        )

    return _Panel(words.title(name), METRICS[name].unit, lines, METRICS[name].meaning)


def _levels(title: str, unit: str, named: Mapping[str, str], meaning: str = "") -> _Panel:
    def lines(timeline: Timeline) -> Sequence[Line]:
        seen = [
            (name, timeline.levels[key]) for key, name in named.items() if key in timeline.levels
        ]
        return [
            Line(name, values, colour, joined=True)
            for (name, values), colour in zip(seen, COLOURS, strict=False)
        ]

    return _Panel(title, unit, lines, meaning)


def _level(name: str, title: str = "") -> _Panel:
    metric = METRICS[name]
    return _levels(title or words.title(name), metric.unit, {name: name}, metric.meaning)


_SECTIONS: Final[Mapping[str, Sequence[_Panel]]] = {
    "Over time: what users got": (
        _Panel(
            "Sessions",
            "sessions",
            lambda timeline: (
                Line("connected", timeline.connected, "grey"),
                Line("playing", timeline.playing, "blue"),
                Line("waiting", timeline.waiting, "amber"),
            ),
            "connected: with a place; playing: frames are due; waiting: for a place",
        ),
        _Panel(
            "Frames",
            "frames/s",
            lambda timeline: (Line("came", timeline.frames, "blue", most=False),),
            "frames that came, all sessions together",
        ),
        _Panel(
            "What went wrong",
            "",
            lambda timeline: (
                Line("frames lost", timeline.lost, "red"),
                Line("freezes", timeline.freezes, "amber"),
                Line("sessions failed", timeline.failures, "violet"),
            ),
            "at each moment; sessions failed, were lost or turned away",
        ),
        _waits("join"),
        _waits("start_to_first_frame"),
        _waits("command_ack"),
        _waits("prompt_to_pixels"),
        _waits("glass_to_glass"),
        _waits("frame_lateness"),
    ),
    "Over time: the service": (
        _levels(
            "Sessions of the pool",
            "sessions",
            {
                "sessions_resident": "resident",
                "sessions_active": "active",
                "sessions_parked": "parked",
                "sessions_queued": "queued",
            },
            "resident: with a place on a GPU; active: computing; parked: kept without a place; "
            "queued: waiting",
        ),
        _level("batch_fill"),
        _level("deadline_misses"),
        _level("queue_age"),
        _level("loop_lag"),
        _level("gateway_cpu_per_session"),
        _Panel(
            "Memory",
            "MB",
            lambda timeline: (
                (Line("all processes", timeline.rss_mb, "blue", joined=True),)
                if timeline.rss_mb
                else ()
            ),
            "resident memory of the service's processes together",
        ),
    ),
    "Over time: the generator": (
        _Panel(
            "CPU",
            "cores",
            lambda timeline: (Line("busiest process", timeline.cpu, "blue"),),
            METRICS["generator_cpu"].meaning,
            at_least=1.0,
        ),
        _Panel(
            "Lateness",
            "ms",
            lambda timeline: (Line("latest event loop", timeline.lag_ms, "blue"),),
            "how late the generator's event loops ran, at worst",
        ),
    ),
}
_CURVES: Final[Mapping[str, Sequence[str]]] = {
    "How long users wait": (
        "join",
        "start_to_first_frame",
        "prompt_to_pixels",
        "glass_to_glass",
        "command_ack",
        "pause_to_resume",
    ),
    "How evenly pictures come": ("chunk_interval", "chunk_jitter", "frame_lateness"),
    "How a join divides": (
        "admission_wait",
        "join_request",
        "join_ice",
        "join_dtls",
        "join_gpu_wait",
    ),
}
_AT: Final = ("min", "p50", "p90", "p95", "p99", "max")


# -- over time -----------------------------------------------------------------------------


def _drawn(report: LoadReport, panel: _Panel) -> Chart | None:
    timeline = report.timeline
    lines = tuple(_thinned(line) for line in panel.lines(timeline))
    values = [value for line in lines for value in line.values if value is not None]
    if not values or not timeline.at_s:
        return None
    last = timeline.at_s[-1]
    moments = timeline.at_s[_each(len(timeline.at_s)) - 1 :: _each(len(timeline.at_s))]
    moments = (*moments, last)[: len(lines[0].values)]
    positions = tuple(round(100 * at / last, 2) for at in moments)
    most = round_up(max(*values, panel.at_least))
    return Chart(
        title=panel.title,
        meaning=panel.meaning,
        unit=panel.unit,
        lines=lines,
        svg="".join(_svg(line, positions, lambda value: value / most) for line in lines),
        across=tuple(_times(last)),
        up=tuple(
            Label(100 * share, words.number(most * share, _share(panel.unit)))
            for share in (0.0, 0.5, 1.0)
        ),
        points=tuple(words.clock(at) for at in moments),
        positions=positions,
        marks=_marks(report, last),
        aside=_aside(report, last),
        spoken=_spoken(panel, lines),
    )


def _share(unit: str) -> str:
    """Returns the unit where it must stand at every figure."""
    return unit if unit == "share" else ""


def _thinned(line: Line) -> Line:
    each = _each(len(line.values))
    if each == 1:
        return line
    thin = []
    for at in range(0, len(line.values), each):
        seen = [value for value in line.values[at : at + each] if value is not None]
        put = max(seen) if line.most and seen else sum(seen) / len(seen) if seen else None
        thin.append(put)
    return replace(line, values=thin)


def _each(points: int) -> int:
    """Returns how many neighbours are put together."""
    return max(1, math.ceil(points / COLUMNS))


def _times(last_s: float) -> Iterator[Label]:
    step = next((step for step in _TICKS_S if last_s / step <= _MOST_TICKS), 86_400)
    at = 0
    while at <= last_s:
        yield Label(100 * at / last_s, words.clock(at) if at else "0")
        at += step


def _marks(report: LoadReport, last_s: float) -> tuple[Mark, ...]:
    return tuple(
        Mark(round(100 * min(event.at_s / last_s, 1.0), 2), number, event.what)
        for number, event in enumerate(report.events[:MARKS], start=1)
    )


def _aside(report: LoadReport, last_s: float) -> tuple[tuple[float, float], ...]:
    begin, end = (round(100 * min(at / last_s, 1.0), 2) for at in report.run.measured_s)
    return tuple((at, length) for at, length in ((0.0, begin), (end, 100.0 - end)) if length > 0)


def _spoken(panel: _Panel, lines: Sequence[Line]) -> str:
    told = []
    for line in lines:
        seen = [value for value in line.values if value is not None]
        if seen:
            told.append(f"{line.name} up to {words.number(max(seen), panel.unit)}")
    return f"{panel.title} over time: {', '.join(told)}."


# -- percentile curves ---------------------------------------------------------------------


def _curves(report: LoadReport, title: str, names: Sequence[str]) -> Chart | None:
    found = []
    for name in names:
        result = report.metrics.get(name)
        if result is not None and isinstance(result.value, Distribution):
            found.append((name, result.value))
    if not found:
        return None
    lines = tuple(
        Line(name, tuple(getattr(value, at) for at in _AT), colour)
        for (name, value), colour in zip(found, COLOURS, strict=False)
    )
    above = [value for line in lines for value in line.values if value]
    lowest = max(0, math.floor(math.log10(min(above, default=1.0))))
    highest = max(lowest + 1, math.ceil(math.log10(max(above, default=10.0)) - 1e-9))
    decades = highest - lowest
    positions = tuple(100.0 * number / (len(_AT) - 1) for number in range(len(_AT)))

    def height(value: float) -> float:
        floor = 10.0**lowest
        return (math.log10(max(value, floor)) - lowest) / decades

    return Chart(
        title=title,
        meaning="percentiles over all sessions; the scale is logarithmic",
        unit="ms",
        lines=lines,
        svg="".join(_svg(line, positions, height) for line in lines),
        across=tuple(Label(at, name) for at, name in zip(positions, _AT, strict=True)),
        up=tuple(
            Label(100 * number / decades, words.digits(10.0 ** (lowest + number)))
            for number in range(decades + 1)
        ),
        points=_AT,
        positions=positions,
        spoken=f"{title}: "
        + ", ".join(
            f"{name} p50 {words.digits(value.p50)}, p99 {words.digits(value.p99)} ms"
            for name, value in found
        )
        + ".",
    )


# -- SVG -----------------------------------------------------------------------------------


def _svg(line: Line, positions: Sequence[float], height: Callable[[float], float]) -> str:
    """Returns a line as SVG. Where values are missing it is broken, or thin between dots."""
    points = [
        None if value is None else (at / 100 * WIDTH, HEIGHT * (1.0 - height(value)))
        for at, value in zip(positions, line.values, strict=True)
    ]
    seen = [point for point in points if point is not None]
    if line.joined:
        return "".join(_piece(piece, line.colour) for piece in _joined(seen))
    if 1 < len(seen) <= min(_SPARSE, _WHOLE * len(points)):
        return _path(seen, f"{line.colour} thin") + _dots(seen, line.colour)
    pieces = ([*piece] for there, piece in groupby(points, key=bool) if there)
    return "".join(_piece([each for each in piece if each], line.colour) for piece in pieces)


def _piece(points: Sequence[_Point], colour: str) -> str:
    return _path(points, colour) if len(points) > 1 else _dots(points, colour)


def _joined(points: Sequence[_Point]) -> Iterator[Sequence[_Point]]:
    """Yields points that follow each other at their usual pace; a long silence parts them."""
    if not points:
        return
    steps = [after[0] - before[0] for before, after in pairwise(points)]
    longest = _SILENCE * sorted(steps)[len(steps) // 2] if steps else 0.0
    begin = 0
    for at, step in enumerate(steps, start=1):
        if step > longest:
            yield points[begin:at]
            begin = at
    yield points[begin:]


def _dots(points: Sequence[_Point], colour: str) -> str:
    # A path of no length with round ends is a dot that no stretching makes an ellipse.
    dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)
    return f'<path class="{colour} dots" d="{dots}"/>'


def _path(points: Sequence[_Point], names: str) -> str:
    track = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path class="{names}" d="M{track}"/>'


def round_up(value: float) -> float:
    """Returns the next number of the form 1, 2, 2.5 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * 0.9999)
