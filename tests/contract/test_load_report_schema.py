"""The schema of stored reports, and what it is for."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from scheduler.scenario.load import Bounds
from sdk_adapters.harness.report.build import Facts, build
from sdk_adapters.harness.report.model import LoadReport, ReportError, parse, schema
from sdk_adapters.harness.slo import judged
from tests.required import ROOT
from tests.unit.sdk_adapters.load_runs import measured, record, scenario

pytestmark = pytest.mark.contract


@pytest.fixture
def report() -> LoadReport:
    """A report with verdicts."""
    run = measured(record(0), record(1, wire="webrtc", counts={"frames_lost": 2}))
    slo = {"frames_lost": Bounds(total=0), "migration_gap": Bounds(p95=1)}
    return judged(build(run, scenario(), Facts()), slo)


@pytest.fixture
def document(report: LoadReport) -> dict[str, Any]:
    """The same as it is stored."""
    stored: dict[str, Any] = json.loads(report.model_dump_json())
    return stored


def test_the_schema_in_the_docs_is_that_of_the_reports() -> None:
    # To renew it: python -c "from sdk_adapters.harness.report.model import schema;
    #   print(schema(), end='')" > docs/load-report.schema.json
    assert (ROOT / "docs/load-report.schema.json").read_text() == schema()


def test_a_report_follows_it(document: dict[str, Any]) -> None:
    jsonschema.validate(document, json.loads(schema()))


def test_a_stored_report_is_read_as_it_was(report: LoadReport) -> None:
    assert parse(report.model_dump_json(), "mine.json") == report


def test_what_a_later_harness_adds_is_passed_over(
    report: LoadReport, document: dict[str, Any]
) -> None:
    document["weather"] = "fine"
    document["run"]["mood"] = 3
    assert parse(json.dumps(document), "mine.json") == report


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": 2}, "version 2"),
        ({"run": {}}, "mine.json is no load report: run.scenario"),
        ({"notes": float("nan")}, "notes"),
    ],
)
def test_what_is_no_report_is_refused(
    document: dict[str, Any], change: dict[str, Any], said: str
) -> None:
    with pytest.raises(ReportError, match=said):
        parse(json.dumps({**document, **change}), "mine.json")


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ReportError, match=r"mine\.json is no load report"):
        parse("<html>", "mine.json")
