"""The report of a load test: what is written, rendered, judged and compared.

Self-contained: units and meanings stand beside the values, so that a report can be read by
those who have another version of the harness, or none. Everything is bounded, and the bounds
stand in it. Times are seconds since the beginning of the run.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from sdk_adapters.harness.metrics import Side

SCHEMA_VERSION: Final = 1
"""Goes up when a reader of the former version would misunderstand a report."""
SESSIONS: Final = 2_000
"""Most sessions that stand in a report one by one."""
WORST: Final = 10
"""Sessions that are shown with what was wrong and with their traces."""
POINTS: Final = 1_200
"""Most points of the timeline; seconds are put together beyond."""
EVENTS: Final = 500
"""Most events; the first stay."""
_DIGITS: Final = 6
"""Significant digits of a value."""


class ReportError(Exception):
    """A stored report cannot be read."""


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("a report holds finite values only")
    return float(f"{value:.{_DIGITS}g}")


Number = Annotated[float, AfterValidator(_finite)]
"""A value to six digits."""
Seconds = Annotated[float, AfterValidator(lambda value: round(value, 3))]
"""A moment or a time, to the millisecond."""


class Part(BaseModel):
    """Base of everything in a report. What a later harness adds is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


# -- values --------------------------------------------------------------------------------


class Distribution(Part):
    """Many values. Percentiles and extremes are right to half a percent, the mean exactly."""

    kind: Literal["distribution"] = "distribution"
    count: int
    mean: Number
    min: Number
    p50: Number
    p90: Number
    p95: Number
    p99: Number
    max: Number


class Total(Part):
    """Something that happened, added up."""

    kind: Literal["count"] = "count"
    total: Number
    sessions: int
    """Sessions in which it happened."""
    worst: Number
    """Most in one session."""


class Ratio(Part):
    """A part of a whole, from counts of all sessions."""

    kind: Literal["share"] = "share"
    share: Number
    part: Number
    whole: Number


class Level(Part):
    """A state over the measured time."""

    kind: Literal["level"] = "level"
    mean: Number
    min: Number
    max: Number
    points: int
    """Times that it was looked at."""


Value = Annotated[Distribution | Total | Ratio | Level, Field(discriminator="kind")]


class Result(Part):
    """A metric with what it means."""

    unit: str
    side: Side
    meaning: str
    more_is_better: bool
    value: Value


class Group(Part):
    """Some of the sessions: those over one wire, for example."""

    sessions: int
    values: dict[str, Value]
    """By metric; those that were measured in this group."""


# -- sessions ------------------------------------------------------------------------------


class Spread(Part):
    """The values of a distribution in one session."""

    count: int
    mean: Number
    min: Number
    p50: Number
    p90: Number
    p95: Number
    p99: Number
    max: Number


class Row(Part):
    """A session."""

    number: int
    process: int
    wire: str
    codec: str
    network: str
    live: bool
    decoded: bool
    session_id: str
    planned_s: Seconds
    began_s: Seconds
    ended_s: Seconds
    outcome: str
    failure: str
    sampled: bool
    """Whether it stands here by chance (or as all do); else only as one of the worst."""
    values: dict[str, Spread]
    counts: dict[str, Number]
    trace_ids: tuple[str, ...]


class Sessions(Part):
    """The sessions one by one."""

    counted: int
    """Sessions that count in the report."""
    shown: int
    """Of these, those in `rows`."""
    selection: Literal["all", "the worst and a sample"]
    rows: tuple[Row, ...]
    """In order of arrival."""


class Worst(Part):
    """A session that went badly."""

    number: int
    session_id: str
    wire: str
    why: tuple[str, ...]
    trace_ids: tuple[str, ...]


class Failure(Part):
    """Sessions that went wrong in the same way."""

    outcome: str
    kind: str
    """Reason of the service, or kind of the error; never a text."""
    sessions: int


# -- time ----------------------------------------------------------------------------------


class Lines(Part):
    """A metric over time; None where there was no value."""

    p50: tuple[Number | None, ...]
    """Mean of what the processes saw as their median."""
    p95: tuple[Number | None, ...]
    """Highest of what the processes saw."""


class Happening(Part):
    """Something that was done to the service, or happened to all."""

    at_s: Seconds
    what: str


class Timeline(Part):
    """What was seen over time, warm-up included. All sequences are as long as `at_s`."""

    step_s: Seconds
    """Time that a point stands for."""
    at_s: tuple[Seconds, ...]
    """End of each point's time."""
    connected: tuple[Number, ...]
    playing: tuple[Number, ...]
    waiting: tuple[Number, ...]
    frames: tuple[Number, ...]
    """A second."""
    lost: tuple[Number, ...]
    freezes: tuple[Number, ...]
    failures: tuple[Number, ...]
    cpu: tuple[Number, ...]
    """Of the generator's busiest process."""
    lag_ms: tuple[Number, ...]
    """Of the generator's latest event loop."""
    values: dict[str, Lines]
    """By metric of the clients."""
    levels: dict[str, tuple[Number | None, ...]]
    """By metric of the service."""
    rss_mb: tuple[Number | None, ...] = ()
    """Memory of the service's processes together; empty where it did not tell."""
    descriptors: tuple[Number | None, ...] = ()
    """Their open descriptors together; the same."""


# -- the run -------------------------------------------------------------------------------


class Hardware(Part):
    """A machine."""

    cpu: str = ""
    cores: int = 0
    memory_gb: Number = 0.0
    system: str = ""
    gpus: tuple[str, ...] = ()


class Service(Part):
    """What was put under load, as far as it said. Empty where it did not."""

    gateways: int = 1
    version: str = ""
    model: str = ""
    video: Literal["canned", "encoded", ""] = ""
    """Whether pictures are encoded for each session, or prepared ones are shown."""
    config: dict[str, str] = {}
    """Settings it was started with, by name; secrets are not among them."""
    hardware: Hardware | None = None
    """None: not known."""


class Run(Part):
    """What was run, on what."""

    scenario: str
    summary: str
    scenario_hash: str
    """SHA-256 of all of the scenario but its thresholds."""
    config_hash: str
    """SHA-256 of the scenario, the service's settings and the generator's processes."""
    seed: int
    began_at: str
    """ISO 8601, UTC."""
    warm_up_s: Seconds
    measured_s: tuple[Seconds, Seconds]
    """Beginning and end of what counts."""
    planned_s: Seconds
    """How long it was to measure."""
    processes: int
    versions: dict[str, str]
    """Of the packages on the generator's side."""
    commit: str
    """Of the harness; empty: not known."""
    generator: Hardware
    service: Service


class Process(Part):
    """A process of the generator over the measured time."""

    process: int
    cpu_mean: Number
    cpu_max: Number
    """Of one core, in its worst second."""
    lag_p99_ms: Number | None
    """Of 100 looks, 99 were less late; None: not known."""
    lag_max_ms: Number


class Validity(Part):
    """Whether the run says anything of the service."""

    valid: bool
    reasons: tuple[str, ...]
    """Why not."""
    cpu_limit: Number
    lag_limit_ms: Number
    processes: tuple[Process, ...]


class Verdict(Part):
    """One threshold, judged."""

    metric: str
    statistic: str
    limit: Number
    value: Number | None
    """None: there is none."""
    met: bool
    more_is_better: bool = False
    why: str = ""
    """Why there is no value."""


def _current(version: Any) -> Any:  # noqa: ANN401 - from a file
    if version != SCHEMA_VERSION:
        raise ValueError(f"this is version {version} of the report, not {SCHEMA_VERSION}")
    return version


class LoadReport(Part):
    """One run of the load harness."""

    schema_version: Annotated[Literal[1], BeforeValidator(_current)] = 1
    run: Run
    validity: Validity
    metrics: dict[str, Result]
    """Those that were measured, in the order of the table of metrics."""
    not_measured: dict[str, str]
    """The others, and why; also what of the scenario was left out, such as `wire chromium`."""
    breakdowns: dict[str, dict[str, Group]]
    """By `wire`, `codec`, `source` and `network`, where there are at least two groups."""
    sessions: Sessions
    worst: tuple[Worst, ...]
    failures: tuple[Failure, ...]
    timeline: Timeline
    events: tuple[Happening, ...]
    verdicts: tuple[Verdict, ...] = ()
    notes: tuple[str, ...] = ()
    """What a reader has to know: bounds that were reached, how something was measured."""

    @property
    def passed(self) -> bool:
        """Whether the run is valid and every threshold met."""
        return self.validity.valid and all(each.met for each in self.verdicts)


def parse(text: str | bytes, origin: str) -> LoadReport:
    """Reads a stored report.

    Args:
        text: Its JSON.
        origin: What to call it in an error.

    Raises:
        ReportError: It is none, or of another version.
    """
    try:
        return LoadReport.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "file"
        raise ReportError(f"{origin} is no load report: {place}: {first['msg']}") from None


def schema() -> str:
    """Returns the JSON schema of reports, as it is kept in docs/."""
    return json.dumps(LoadReport.model_json_schema(mode="serialization"), indent=2) + "\n"
