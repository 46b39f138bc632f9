"""From what was measured to the report. Pure: equal inputs make equal reports."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from scheduler.scenario.load import Limits
from scheduler.scenario.scenario import Scenario
from sdk_adapters.harness.metrics import METRICS, Metric, Side
from sdk_adapters.harness.records import Measured, Second, SessionRecord
from sdk_adapters.harness.report import sessions as one_by_one
from sdk_adapters.harness.report.model import (
    EVENTS,
    Group,
    Happening,
    Hardware,
    LoadReport,
    Process,
    Result,
    Run,
    Service,
    Validity,
    Value,
)
from sdk_adapters.harness.report.timeline import timeline
from sdk_adapters.harness.report.values import of_generator, of_service, of_sessions

_DIMENSIONS: Final[Mapping[str, Callable[[SessionRecord], str]]] = {
    "wire": lambda record: record.wire,
    "codec": lambda record: record.codec,
    "source": lambda record: "live" if record.live else "file",
    "network": lambda record: record.network,
}
"""By what the sessions are broken down."""
_NOT_THE_WORKLOAD: Final = {"slo", "targets", "pool", "summary", "seed"}
"""Parts of a scenario that change nothing of what comes to the service."""

_LATE: Final = 0.05
"""Share of the sessions that may come later than the generator may lag."""
_SESSIONS: Final = "no session counts"
_ABSENT: Final = {
    "join_ice": "no WebRTC session joined",
    "join_dtls": "no WebRTC session joined",
    "prompt_to_pixels": "no prompt changed what was playing",
    "glass_to_glass": "no live session was decoded whose pictures tell of their source",
    "pictures_wrong": "no session was decoded whose pictures tell which frames they are",
    "reconnect": "no connection was lost",
    "pause_to_resume": "nobody resumed",
    "migration_gap": "no session moved",
    "start_to_first_frame": "no session started",
}
"""Why a metric of the clients may have no value."""
_ABSENT_OTHERS: Final = {
    Side.CLIENT: "it did not happen",
    Side.SERVER: "the service did not tell",
    Side.GENERATOR: "the generator told of no second within the measured time",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a report says of who took part."""

    service: Service = field(default_factory=Service)
    generator: Hardware = field(default_factory=Hardware)
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the packages on the generator's side."""
    commit: str = ""
    """Of the harness."""


def build(measured: Measured, scenario: Scenario, facts: Facts) -> LoadReport:
    """Puts together the report of a run, without verdicts.

    Sessions that were there in the measured time count, with the values that belong to it:
    what happened in the warm-up was not noted by whoever measured.

    Args:
        measured: The run.
        scenario: What was run.
        facts: On what.
    """
    begin, end = measured.measured_s
    records = [each for each in measured.sessions if each.began_s < end and each.ended_s >= begin]
    seconds = [each for each in measured.seconds if begin < each.at_s <= end + 1.0]
    scrapes = [each for each in measured.scrapes if begin <= each.at_s <= end]
    overall = of_sessions(records)
    values = {**overall, **of_service(scrapes), **of_generator(measured, seconds)}
    return LoadReport(
        run=_run(measured, scenario, facts),
        validity=_validity(measured, records, seconds, scenario.load.limits),
        metrics={
            name: _result(metric, values[name])
            for name, metric in METRICS.items()
            if name in values
        },
        not_measured={
            name: _why_not(metric, measured, records)
            for name, metric in METRICS.items()
            if name not in values
        }
        | {what: why for what, why in measured.not_measured.items() if what not in METRICS},
        breakdowns=_breakdowns(records),
        sessions=one_by_one.rows(records, overall, scenario.seed),
        worst=one_by_one.worst(records, overall),
        failures=one_by_one.failures(records),
        timeline=timeline(measured.seconds, measured.scrapes),
        events=tuple(
            Happening(at_s=each.at_s, what=each.what)
            for each in sorted(measured.events, key=lambda each: each.at_s)[:EVENTS]
        ),
        notes=tuple(_notes(measured, scenario, facts, records)),
    )


def _result(metric: Metric, value: Value) -> Result:
    return Result(
        unit=metric.unit,
        side=metric.side,
        meaning=metric.meaning,
        more_is_better=metric.more_is_better,
        value=value,
    )


def _why_not(metric: Metric, measured: Measured, records: Sequence[SessionRecord]) -> str:
    if told := measured.not_measured.get(metric.name):
        return told
    if metric.side is Side.CLIENT and not records:
        return _SESSIONS
    return _ABSENT.get(metric.name, _ABSENT_OTHERS[metric.side])


def _breakdowns(records: Sequence[SessionRecord]) -> dict[str, dict[str, Group]]:
    found = {}
    for dimension, of in _DIMENSIONS.items():
        groups: dict[str, list[SessionRecord]] = {}
        for record in records:
            groups.setdefault(of(record), []).append(record)
        if len(groups) > 1:
            found[dimension] = {
                name: Group(sessions=len(those), values=of_sessions(those))
                for name, those in sorted(groups.items())
            }
    return found


# -- the run -------------------------------------------------------------------------------


def _run(measured: Measured, scenario: Scenario, facts: Facts) -> Run:
    processes = len({each.process for each in measured.seconds})
    workload = scenario.model_dump(mode="json", exclude=_NOT_THE_WORKLOAD)
    return Run(
        scenario=scenario.name,
        summary=scenario.summary,
        scenario_hash=_hash(workload),
        config_hash=_hash(
            {
                "scenario": {**workload, "seed": scenario.seed},
                "service": facts.service.model_dump(mode="json", exclude={"hardware"}),
                "processes": processes,
            }
        ),
        seed=scenario.seed,
        began_at=measured.began_at,
        warm_up_s=scenario.warm_up,
        measured_s=measured.measured_s,
        planned_s=scenario.duration,
        processes=processes,
        versions=dict(facts.versions),
        commit=facts.commit,
        generator=facts.generator,
        service=facts.service,
    )


def _hash(document: Any) -> str:  # noqa: ANN401 - any JSON
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _notes(
    measured: Measured, scenario: Scenario, facts: Facts, records: Sequence[SessionRecord]
) -> list[str]:
    said = []
    begin, end = measured.measured_s
    if end - begin < scenario.duration - 0.5:
        said.append(
            f"The run was ended early: {max(0.0, end - begin):.0f} s of "
            f"{scenario.duration:.0f} s were measured."
        )
    joined = [record for record in records if record.counts.get("frames_shown")]
    decoded, by_pixels, glass = (
        sum(map(of, joined))
        for of in (
            lambda record: record.decoded,
            lambda record: bool(record.counts.get("by_pixels")),
            lambda record: bool(record.counts.get("glass_by_pixels")),
        )
    )
    if joined and not decoded:
        said.append(
            "No pictures were decoded: prompt_to_pixels goes by what the service says of its "
            "chunks, and glass_to_glass by what it says of its frames."
        )
    elif joined:
        said.append(
            f"Pictures of {decoded} of {len(joined)} sessions were decoded. In {by_pixels} of "
            f"them the pictures themselves told which prompt they were made with, in {glass} "
            "which camera frame they show; in all others prompt_to_pixels goes by what the "
            "service says of its chunks, and glass_to_glass by what it says of its frames."
        )
    if unread := sum(record.counts.get("pictures_unreadable", 0.0) for record in joined):
        said.append(f"{unread:,.0f} decoded pictures did not tell which frames they are.")
    if facts.service.video == "canned":
        said.append(
            "The service showed prepared pictures: what encoding costs is not in this report."
        )
    if len(measured.events) > EVENTS:
        said.append(f"Of {len(measured.events):,} events the first {EVENTS} are shown.")
    return said


# -- validity ------------------------------------------------------------------------------


def _validity(
    measured: Measured,
    records: Sequence[SessionRecord],
    seconds: Sequence[Second],
    limits: Limits,
) -> Validity:
    reasons = list(measured.invalid)
    if not records:
        reasons.append(_SESSIONS)
    delays_ms = [(each.began_s - each.planned_s) * 1e3 for each in records]
    late = sum(delay > limits.generator_lag_ms for delay in delays_ms)
    if late > max(1, _LATE * len(records)):
        reasons.append(
            f"{late} of {len(records)} sessions came late, by up to {max(delays_ms):.0f} ms"
        )
    by_process: dict[int, list[Second]] = {}
    for second in seconds:
        by_process.setdefault(second.process, []).append(second)
    return Validity(
        valid=not reasons,
        reasons=tuple(reasons),
        cpu_limit=limits.generator_cpu,
        lag_limit_ms=limits.generator_lag_ms,
        processes=tuple(
            _process(number, those, measured.lag_p99_ms.get(number))
            for number, those in sorted(by_process.items())
        ),
    )


def _process(number: int, seconds: Sequence[Second], lag_p99_ms: float | None) -> Process:
    return Process(
        process=number,
        cpu_mean=sum(each.cpu for each in seconds) / len(seconds),
        cpu_max=max(each.cpu for each in seconds),
        lag_p99_ms=lag_p99_ms,
        lag_max_ms=max(each.lag_ms for each in seconds),
    )
