"""A report as one page: opens from disk, asks nobody for anything, fits a phone.

What is said is put together here, how it looks in `page/`. The template escapes everything;
a policy in the page forbids whatever is not its own script and style.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from scheduler.scenario import durations
from sdk_adapters.harness.metrics import METRICS, Side
from sdk_adapters.harness.report import charts, words
from sdk_adapters.harness.report.model import (
    Distribution,
    Hardware,
    Level,
    LoadReport,
    Ratio,
    Result,
    Total,
    Value,
    Worst,
)
from sdk_adapters.harness.report.words import digits, number

TILES: Final = 10
"""Most key figures at the top."""
_BROKEN_DOWN: Final = (
    "join",
    "start_to_first_frame",
    "prompt_to_pixels",
    "glass_to_glass",
    "command_ack",
    "chunk_jitter",
    "frame_lateness",
    "pause_to_resume",
    "frame_rate",
    "bitrate",
    "frames_lost",
    "frames_repeated",
    "freezes",
    "frozen",
    "clean_sessions",
    "turned_away",
    "sessions_lost",
    "sessions_failed",
)
"""Metrics that are shown for each wire, codec, source and network."""
_HASH: Final = 12
"""Characters of a hash that are shown."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A key figure."""

    title: str
    statistic: str
    value: str
    unit: str
    meaning: str
    state: str
    """`met`, `missed`, or empty where nothing is asked."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: a name, what it means, and cells."""

    name: str
    meaning: str
    cells: tuple[str, ...]
    state: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of figures."""

    title: str
    heading: tuple[str, ...]
    rows: tuple[Row, ...]


def render(report: LoadReport) -> str:
    """Returns the report as an HTML document."""
    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    sections = charts.over_time(report)
    curves = charts.distributions(report)
    drawn = [*(chart for section in sections for chart in section.charts), *curves]
    number_of = {id(chart): place for place, chart in enumerate(drawn)}
    return _template().render(
        report=report,
        run=report.run,
        head=words.headline(report),
        cut_short=words.cut_short(report),
        facts=list(_facts(report)),
        tiles=list(_tiles(report))[:TILES],
        thresholds=_thresholds(report),
        sections=sections,
        curves=curves,
        shaded=any(chart.aside for chart in drawn),
        place_of=lambda chart: number_of[id(chart)],
        data=[chart.data() for chart in drawn],
        events=list(enumerate(report.events, start=1)),
        tables=[table for table in _tables(report) if table.rows],
        breakdowns=list(_breakdowns(report)),
        worst=report.worst,
        anonymous=_anonymous(report.worst),
        failures=report.failures,
        not_measured=[
            Row(name, said(METRICS[name].meaning) if name in METRICS else "", (why,))
            for name, why in report.not_measured.items()
        ],
        processes=list(_processes(report)),
        environment=list(_environment(report)),
        said=said,
        clock=words.clock,
        style=Markup(_asset("page.css")),  # noqa: S704 - ours
        script=Markup(script),  # noqa: S704 - ours
        digest=digest,
        box=(charts.WIDTH, charts.HEIGHT),
        markup=Markup,
    )


@cache
def _asset(name: str) -> str:
    return (resources.files(__package__) / "page" / name).read_text("utf-8")


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_asset("page.html.jinja"))


# -- the top -------------------------------------------------------------------------------


def _facts(report: LoadReport) -> Iterator[tuple[str, str]]:
    run = report.run
    begin, end = run.measured_s
    measured = words.clock(end - begin)
    if words.cut_short(report):
        measured += f" of {words.clock(run.planned_s)}"
    warm_up = f", after {words.clock(run.warm_up_s)} of warm-up" if run.warm_up_s else ""
    yield "Began", run.began_at.replace("T", " ")[:19] + " UTC"
    yield "Measured", f"{measured}{warm_up}"
    yield "Sessions", f"{report.sessions.counted:,}"
    yield "Seed", f"{run.seed}"
    service = run.service
    told = [f"{service.gateways} gateway" + ("s" if service.gateways != 1 else "")]
    told += [f"version {service.version}"] if service.version else []
    told += [f"model {service.model}"] if service.model else []
    told += [f"{service.video} video"] if service.video else []
    yield "Service", ", ".join(told)
    yield "Generator", f"{run.processes} process" + ("es" if run.processes != 1 else "")


def _tiles(report: LoadReport) -> Iterator[Tile]:
    verdicts = {(each.metric, each.statistic): each for each in report.verdicts}
    for name, statistic in words.HEADLINES:
        if (result := report.metrics.get(name)) is None:
            continue
        verdict, share = verdicts.get((name, statistic)), result.unit == "share"
        yield Tile(
            title=words.title(name),
            statistic=statistic if isinstance(result.value, Distribution) else "",
            value=words.figure(result.value, statistic, "share" if share else ""),
            unit="" if share else words.unit_beside(result.unit),
            meaning=said(result.meaning),
            state="" if verdict is None else "met" if verdict.met else "missed",
        )


def said(meaning: str) -> str:
    """Returns a meaning without the marks that make code of a word elsewhere."""
    return meaning.replace("`", '"')


def _thresholds(report: LoadReport) -> list[Row]:
    rows = []
    for each in report.verdicts:
        unit = words.unit_beside(words.unit_of(report, each.metric))
        measured = each.why if each.value is None else number(each.value, unit)
        meaning = said(METRICS[each.metric].meaning) if each.metric in METRICS else ""
        rows.append(
            Row(
                words.label(each),
                meaning,
                (measured, words.limit(report, each)),
                "met" if each.met else "missed",
            )
        )
    return rows


# -- tables --------------------------------------------------------------------------------


def _tables(report: LoadReport) -> Iterator[Table]:
    by_side: Mapping[Side, list[tuple[str, Result]]] = {side: [] for side in Side}
    for name, result in report.metrics.items():
        by_side[result.side].append((name, result))
    clients = by_side[Side.CLIENT]
    yield Table(
        "What users got: times and rates",
        ("p50", "p90", "p95", "p99", "max", "mean", "values"),
        tuple(_distributions(clients)),
    )
    yield Table(
        "What users got: counts and shares",
        ("all", "of which"),
        tuple(_counts(clients)),
    )
    yield Table("The service", ("mean", "least", "most"), tuple(_levels(by_side[Side.SERVER])))
    yield Table(
        "The generator",
        ("mean", "least", "most"),
        tuple(_levels(by_side[Side.GENERATOR])),
    )


def _distributions(results: Iterable[tuple[str, Result]]) -> Iterator[Row]:
    for name, result in results:
        if isinstance(value := result.value, Distribution):
            ends = (value.p50, value.p90, value.p95, value.p99, value.max, value.mean)
            cells = (*map(digits, ends), f"{value.count:,}")
            yield Row(name, said(result.meaning), cells, unit=result.unit)


def _counts(results: Iterable[tuple[str, Result]]) -> Iterator[Row]:
    for name, result in results:
        if isinstance(result.value, Distribution | Level):
            continue
        first, _, rest = words.summary(result).partition(" (")
        if not rest:
            first, _, rest = first.partition(" in ")
            rest = f"in {rest}" if rest else ""
        yield Row(name, said(result.meaning), (first, rest.removesuffix(")")))


def _levels(results: Iterable[tuple[str, Result]]) -> Iterator[Row]:
    for name, result in results:
        if isinstance(value := result.value, Level):
            unit = "share" if result.unit == "share" else ""
            cells = tuple(number(each, unit) for each in (value.mean, value.min, value.max))
            beside = "" if unit else words.unit_beside(result.unit)
            yield Row(name, said(result.meaning), cells, unit=beside)


def _breakdowns(report: LoadReport) -> Iterator[Table]:
    for dimension, groups in report.breakdowns.items():
        rows = []
        for name in _BROKEN_DOWN:
            if any(name in group.values for group in groups.values()):
                metric = report.metrics[name]
                cells = [_brief(group.values.get(name), metric) for group in groups.values()]
                percentiles = isinstance(metric.value, Distribution)
                note = f"p50 / p95, {metric.unit}" if percentiles else said(metric.meaning)
                rows.append(Row(name, note, tuple(cells)))
        heading = tuple(f"{name} ({group.sessions:,})" for name, group in groups.items())
        yield Table(f"By {dimension}", heading, tuple(rows))


def _brief(value: Value | None, metric: Result) -> str:
    match value:
        case None:
            return "-"
        case Distribution():
            return f"{digits(value.p50)} / {digits(value.p95)}"
        case Total():
            return digits(value.total)
        case Ratio():
            return number(value.share, metric.unit)
        case Level():
            return number(value.mean, metric.unit)


def _anonymous(worst: Sequence[Worst]) -> bool:
    """Whether no session has a trace."""
    return not any(each.trace_ids for each in worst)


def _processes(report: LoadReport) -> Iterator[Row]:
    for each in report.validity.processes:
        late = "-" if each.lag_p99_ms is None else number(each.lag_p99_ms, "ms")
        cpu = (digits(each.cpu_mean), digits(each.cpu_max))
        yield Row(f"{each.process}", "", (*cpu, late, number(each.lag_max_ms, "ms")))


# -- the environment -----------------------------------------------------------------------


def _environment(report: LoadReport) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    run = report.run
    yield (
        "The run",
        [
            ("configuration", run.config_hash[:_HASH]),
            ("scenario", run.scenario_hash[:_HASH]),
            ("commit of the harness", run.commit or "unknown"),
            ("planned", durations.text(run.planned_s)),
            ("report", f"version {report.schema_version}"),
        ],
    )
    yield "The generator's machine", _machine(run.generator)
    service = run.service
    told = [
        ("gateways", f"{service.gateways}"),
        ("version", service.version or "unknown"),
        ("model", service.model or "unknown"),
        ("pictures", service.video or "unknown"),
        *service.config.items(),
    ]
    yield "The service", told
    if service.hardware is not None and service.hardware != run.generator:
        yield "The service's machine", _machine(service.hardware)
    yield "Versions", list(run.versions.items())


def _machine(hardware: Hardware) -> list[tuple[str, str]]:
    return [
        ("CPU", hardware.cpu or "unknown"),
        ("cores", f"{hardware.cores}"),
        ("memory", f"{hardware.memory_gb:g} GB"),
        ("system", hardware.system),
        ("GPUs", ", ".join(hardware.gpus) or "none"),
    ]
