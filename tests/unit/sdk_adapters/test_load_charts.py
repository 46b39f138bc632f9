"""What is drawn in a report."""

from __future__ import annotations

import re

import pytest

from sdk_adapters.harness.report import charts
from sdk_adapters.harness.report.charts import Chart
from sdk_adapters.harness.report.model import Lines, LoadReport
from tests.unit.sdk_adapters.load_reports import full

pytestmark = pytest.mark.unit


def chart(report: LoadReport, title: str) -> Chart:
    """The chart with a title."""
    over_time = (each for section in charts.over_time(report) for each in section.charts)
    return next(each for each in (*over_time, *charts.distributions(report)) if each.title == title)


def paths(svg: str) -> list[tuple[str, str]]:
    """Class and track of each path."""
    return re.findall(r'<path class="([^"]*)" d="([^"]*)"/>', svg)


def test_a_whole_line_is_one_path_from_side_to_side() -> None:
    drawn = chart(full(), "Sessions")
    (_, grey), (_, blue), (_, amber) = paths(drawn.svg)
    # 40 points, the last at the right edge; 2 connected of a scale to 2: at the top.
    assert grey.count("L") == 39
    assert grey.startswith("M25.0 0.0L")
    assert grey.endswith("L1000.0 0.0")
    assert blue.startswith("M25.0 100.0L")
    assert amber.startswith("M25.0 200.0L")


def test_values_now_and_then_are_dots() -> None:
    p95 = paths(chart(full(), "Join").svg)[:2]
    assert [name for name, _ in p95] == ["amber thin", "amber dots"]
    # Two of three seconds of forty have a value.
    assert p95[1][1].count("h0") == 27


def test_a_line_with_few_gaps_is_broken_there_and_a_lone_value_is_a_dot() -> None:
    report = full()
    gaps = (None, 1.0, None, *[1.0] * 37)
    lines = Lines(p50=gaps, p95=gaps)
    timeline = report.timeline.model_copy(update={"values": {"join": lines}})
    amber = paths(chart(report.model_copy(update={"timeline": timeline}), "Join").svg)[:2]
    assert [name for name, _ in amber] == ["amber dots", "amber"]
    assert amber[1][1].count("L") == 36


def test_a_long_silence_of_the_service_parts_its_line() -> None:
    report = full()
    levels = dict(report.timeline.levels)
    levels["loop_lag"] = tuple(
        None if 12 <= number < 30 else value
        for number, value in enumerate(report.timeline.levels["loop_lag"])
    )
    silent = report.model_copy(
        update={"timeline": report.timeline.model_copy(update={"levels": levels})}
    )
    assert len(paths(chart(report, "Loop lag").svg)) == 1
    assert len(paths(chart(silent, "Loop lag").svg)) == 2


def test_time_outside_the_measured_time_is_shaded() -> None:
    # Measured from 10 s to 40 s of 40 s.
    assert chart(full(), "Sessions").aside == ((0.0, 25.0),)


def test_events_are_marked_where_they_happened() -> None:
    marks = chart(full(), "Sessions").marks
    assert [(mark.at, mark.number, mark.what) for mark in marks] == [
        (50.0, 1, "kill -9 of an actor"),
        (56.25, 2, "drained"),
    ]


def test_times_below_a_chart_are_round_and_few() -> None:
    labels = chart(full(), "Sessions").across
    assert [label.text for label in labels] == ["0", "10 s", "20 s", "30 s", "40 s"]


def test_percentile_curves_rise_on_a_logarithmic_scale() -> None:
    drawn = chart(full(), "How long users wait")
    assert [label.text for label in drawn.across] == ["min", "p50", "p90", "p95", "p99", "max"]
    assert [label.text for label in drawn.up] == ["1", "10", "100", "1,000", "10,000"]
    for _, track in paths(drawn.svg):
        heights = [float(y) for y in re.findall(r" ([\d.]+)", track)]
        assert heights == sorted(heights, reverse=True)


def test_a_chart_can_be_heard() -> None:
    assert chart(full(), "Sessions").spoken == (
        "Sessions over time: connected up to 2 sessions, playing up to 1 sessions, "
        "waiting up to 0 sessions."
    )


@pytest.mark.parametrize(
    ("value", "top"), [(0.0, 1.0), (0.7, 1.0), (1.0, 1.0), (1.1, 2.0), (240.0, 250.0)]
)
def test_scales_end_at_round_numbers(value: float, top: float) -> None:
    assert charts.round_up(value) == top
