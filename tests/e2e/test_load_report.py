"""A report of the whole service: what was injected shows, and what the service tells is in it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from scheduler.scenario.scenario import Scenario, parse
from sdk_adapters.harness import slo
from sdk_adapters.harness.compare import Change, compare
from sdk_adapters.harness.generator import Target, run
from sdk_adapters.harness.metrics import METRICS, Side
from sdk_adapters.harness.plan import plan
from sdk_adapters.harness.report.build import build
from sdk_adapters.harness.report.environment import facts
from sdk_adapters.harness.report.model import (
    Distribution,
    Level,
    LoadReport,
    Service,
)
from sdk_adapters.harness.report.model import (
    parse as read,
)
from sdk_adapters.harness.server import Scraper
from tests.stack import Stack, serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ADDED_MS = 1000
"""What the first window takes longer: far more than what a machine that runs other tests adds to
one service and not to the other at the same time."""


def options(first_ms: int) -> list[str]:
    told = {"chunk_ms": 40, "first_ms": first_ms, "size": "160x88", "video": "canned"}
    words = [f"--model-option={name}={value}" for name, value in told.items()]
    return ["--model", "simulated", "--backend", "in-process", *words]


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    """Users who start a clip and watch it, far enough apart that none waits for another."""
    document: dict[str, Any] = {
        "name": "injected",
        "duration": 14,
        "warm_up": 0,
        "workload": {
            "arrivals": {"kind": "constant", "per_minute": 24},
            "session": {"kind": "fixed", "value": 5},
            "think": {"kind": "fixed", "value": 0.5},
            "play": {"kind": "fixed", "value": 60},
            "live_share": 0,
        },
        "load": {
            "wires": {"grpc": 1},
            "decode": 0,
            "clip": {"seconds": 20, "width": 160, "height": 88},
        },
        "slo": {"sessions_lost": {"total": 0}, "start_to_first_frame": {"p95": 1}},
    }
    return parse(document, "test")


async def reported(stack: Stack, scenario: Scenario) -> LoadReport:
    """Puts the scenario on a service; returns its report."""
    target = Target((stack.grpc_address,), (stack.http_url,))
    async with Scraper(target) as scraper:
        watching = asyncio.create_task(scraper.watch(1.0))
        measured = await run(plan(scenario), target, observe=lambda _: None)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        scraper.into(measured)
        service = Service(version=scraper.version, model="simulated", video="canned")
    return slo.judged(build(measured, scenario, facts(service)), scenario.slo)


@pytest.fixture(scope="module")
def both(scenario: Scenario) -> tuple[LoadReport, LoadReport]:
    """Reports of two services under the same load at the same time: a quick and a slow one."""

    async def drive(quick: Stack, slow: Stack) -> tuple[LoadReport, LoadReport]:
        return await asyncio.gather(reported(quick, scenario), reported(slow, scenario))

    with serving(*options(40)) as quick, serving(*options(40 + ADDED_MS)) as slow:
        return asyncio.run(drive(quick, slow))


def median(report: LoadReport, metric: str) -> float:
    value = report.metrics[metric].value
    assert isinstance(value, Distribution)
    return value.p50


def test_what_was_added_to_the_first_window_shows_in_the_first_frame(
    both: tuple[LoadReport, LoadReport],
) -> None:
    quick, slow = both
    added = median(slow, "start_to_first_frame") - median(quick, "start_to_first_frame")
    assert added == pytest.approx(ADDED_MS, abs=ADDED_MS / 2)


def test_the_service_tells_how_it_is(both: tuple[LoadReport, LoadReport]) -> None:
    for report in both:
        told = {name for name, each in report.metrics.items() if each.side is Side.SERVER}
        expected = {name for name, each in METRICS.items() if each.side is Side.SERVER}
        assert told == expected
        active = report.metrics["sessions_active"].value
        assert isinstance(active, Level)
        assert 0 < active.max <= report.sessions.counted
        assert report.run.service.version
        assert "sessions_active" in report.timeline.levels


def test_the_report_counts_all_sessions_and_judges_them(
    both: tuple[LoadReport, LoadReport], scenario: Scenario
) -> None:
    for report in both:
        assert report.sessions.counted == len(plan(scenario).visits) >= 4
        assert len(report.sessions.rows) == report.sessions.counted
        assert [each.met for each in report.verdicts] == [True, False]
        assert not report.passed
        assert read(report.model_dump_json(), "mine.json") == report


def test_the_slower_service_is_found_worse(both: tuple[LoadReport, LoadReport]) -> None:
    quick, slow = both
    comparison = compare([quick], [slow])
    (start,) = [each for each in comparison.metrics if each.metric == "start_to_first_frame"]
    assert start.change in (Change.WORSE, Change.CANNOT_TELL)
    assert start.effect > 0
    assert any("One report on each side" in each for each in comparison.warnings)
