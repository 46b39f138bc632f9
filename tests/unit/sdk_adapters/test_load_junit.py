"""The report as continuous integration reads it."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from sdk_adapters.harness.report import junit
from sdk_adapters.harness.report.model import LoadReport
from tests.unit.sdk_adapters.load_reports import bounds, full

pytestmark = pytest.mark.unit


def suite(report: LoadReport) -> ET.Element:
    root = ET.fromstring(junit.render(report))  # noqa: S314 - ours
    assert root.tag == "testsuites"
    (only,) = root
    return only


def test_each_threshold_is_a_case_beside_the_validity() -> None:
    found = suite(full({"join": bounds(p95=100, p50=100), "frames_lost": bounds(total=0)}))
    cases = [case.get("name") for case in found.iter("testcase")]
    assert cases == [
        "the run is valid",
        "join p50 ≤ 100 ms",
        "join p95 ≤ 100 ms",
        "frames_lost ≤ 0",
    ]
    assert (found.get("tests"), found.get("failures"), found.get("errors")) == ("4", "1", "0")
    (failure,) = found.iter("failure")
    assert failure.get("message") == "join p95 is 120 ms; asked: at most 100 ms"


def test_an_invalid_run_is_an_error() -> None:
    found = suite(full({"join": bounds(p95=1000)}, invalid=["slow", "late"]))
    assert (found.get("failures"), found.get("errors")) == ("0", "1")
    (error,) = found.iter("error")
    assert error.get("message") == "slow; late"


def test_a_run_that_was_ended_early_is_an_error() -> None:
    (error,) = suite(full(measured_s=(10.0, 25.0))).iter("error")
    assert "ended early" in str(error.get("message"))


def test_what_xml_cannot_hold_is_replaced() -> None:
    found = suite(full(invalid=['<b>&"\x00\x1b\ud800']))
    (error,) = found.iter("error")
    assert error.get("message") == '<b>&"���'
