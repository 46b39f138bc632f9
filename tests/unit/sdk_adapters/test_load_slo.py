"""Thresholds against a report."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.scenario.load import Bounds
from sdk_adapters.harness.report.build import Facts, build
from sdk_adapters.harness.report.model import LoadReport
from sdk_adapters.harness.slo import Exit, exit_status, judge, judged
from tests.unit.sdk_adapters.load_runs import measured, record, scenario

pytestmark = pytest.mark.unit


@pytest.fixture
def report() -> LoadReport:
    """Joins of 100 ms, two frames lost, 24 frames a second."""
    values = {"join": [100.0] * 20, "frame_rate": [24.0]}
    sessions = [record(0, values=values), record(1, values={}, counts={"frames_lost": 2})]
    return build(measured(*sessions), scenario(), Facts())


@pytest.mark.parametrize(
    ("metric", "bound", "met"),
    [
        ("join", {"p95": 101}, True),
        ("join", {"p95": 98}, False),
        ("join", {"mean": 100}, True),
        ("frames_lost", {"total": 2}, True),
        ("frames_lost", {"total": 1}, False),
        ("turned_away", {"share": 0}, True),
        ("generator_cpu", {"max": 0.5}, True),
        ("generator_cpu", {"mean": 0.1}, False),
        ("frame_rate", {"p50": 23.5}, True),
        ("frame_rate", {"p50": 30}, False),
        ("clean_sessions", {"share": 0.5}, True),
        ("clean_sessions", {"share": 0.6}, False),
    ],
)
def test_bounds_hold_from_above_and_from_below_where_more_is_better(
    report: LoadReport, metric: str, bound: dict[str, Any], met: bool
) -> None:
    (verdict,) = judge(report, {metric: Bounds(**bound)})
    assert verdict.met is met


def test_a_verdict_tells_what_was_asked_and_what_was_found(report: LoadReport) -> None:
    (verdict,) = judge(report, {"frames_lost": Bounds(total=0)})
    assert (verdict.metric, verdict.statistic) == ("frames_lost", "total")
    assert (verdict.limit, verdict.value) == (0, 2)


def test_every_bound_has_a_verdict(report: LoadReport) -> None:
    slo = {"join": Bounds(p50=1000, p99=50), "frames_lost": Bounds(total=5)}
    assert [(each.statistic, each.met) for each in judge(report, slo)] == [
        ("p50", True),
        ("p99", False),
        ("total", True),
    ]


def test_what_was_not_measured_is_not_met(report: LoadReport) -> None:
    (verdict,) = judge(report, {"migration_gap": Bounds(p95=1e9)})
    assert (verdict.met, verdict.value) == (False, None)
    assert verdict.why == "not measured: no session moved"


def test_a_statistic_that_a_metric_has_not_is_not_met(report: LoadReport) -> None:
    (verdict,) = judge(report, {"join": Bounds(total=1e9)})
    assert (verdict.met, verdict.why) == (False, "not measured")


@pytest.mark.parametrize(("limit", "status"), [(1000, Exit.PASSED), (1, Exit.FAILED)])
def test_the_exit_status_tells_whether_all_was_met(
    report: LoadReport, limit: float, status: Exit
) -> None:
    result = judged(report, {"join": Bounds(p95=limit), "turned_away": Bounds(share=0)})
    assert exit_status(result) == status
    assert result.passed is (status == Exit.PASSED)


def test_an_invalid_run_passes_nothing() -> None:
    run = measured(record(), invalid=["the generator's event loops ran 900 ms late"])
    result = judged(build(run, scenario(), Facts()), {"turned_away": Bounds(share=1)})
    assert all(verdict.met for verdict in result.verdicts)
    assert not result.passed
    assert exit_status(result) == Exit.INVALID


def test_without_thresholds_a_valid_run_passes(report: LoadReport) -> None:
    assert exit_status(judged(report, {})) == Exit.PASSED
