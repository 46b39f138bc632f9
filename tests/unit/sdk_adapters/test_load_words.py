"""How values are written for people."""

from __future__ import annotations

import pytest

from sdk_adapters.harness.report import words
from sdk_adapters.harness.report.words import Ending
from tests.unit.sdk_adapters.load_reports import bounds, empty, full

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"),
        (0.0125, "0.0125"),
        (0.2044, "0.204"),
        (1.0, "1"),
        (23.94, "23.9"),
        (1763.4, "1,763"),
        (2_509_000.0, "2.509 M"),
        (-28.21, "-28.2"),
    ],
)
def test_numbers_have_about_three_digits(value: float, written: str) -> None:
    assert words.digits(value) == written


def test_shares_are_percentages_and_others_have_their_unit() -> None:
    assert words.number(0.125, "share") == "12.5 %"
    assert words.number(12, "ms") == "12 ms"


@pytest.mark.parametrize(
    ("seconds", "written"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1:00"), (3725, "1:02:05")]
)
def test_times_are_as_a_clock_shows_them(seconds: float, written: str) -> None:
    assert words.clock(seconds) == written


def test_a_run_that_met_all_has_passed() -> None:
    head = words.headline(full({"join": bounds(p95=1000)}))
    assert (head.ending, head.text) == (Ending.PASSED, "The threshold was met.")


def test_a_run_that_missed_one_says_which_and_by_how_much() -> None:
    report = full({"join": bounds(p95=100), "sessions_lost": bounds(total=1)})
    head = words.headline(report)
    assert head.ending is Ending.FAILED
    assert head.text == "1 of 2 thresholds missed."
    assert head.reasons == ("join p95 is 120 ms; asked: at most 100 ms",)


def test_a_threshold_of_what_was_not_measured_says_so() -> None:
    head = words.headline(full({"migration_gap": bounds(p95=100)}))
    assert head.reasons == (
        "migration_gap p95: not measured: no session moved; asked: at most 100 ms",
    )


def test_where_more_is_better_the_bound_is_from_below() -> None:
    report = full({"frame_rate": bounds(p50=99)})
    (verdict,) = report.verdicts
    assert words.limit(report, verdict) == "≥ 99 frames/s"
    assert "at least 99 frames/s" in words.sentence(report, verdict)


def test_an_invalid_run_says_why_whatever_it_met() -> None:
    head = words.headline(full({"join": bounds(p95=1000)}, invalid=["the generator was slow"]))
    assert head.ending is Ending.INVALID
    assert head.reasons == ("the generator was slow",)


def test_a_run_of_which_nothing_was_asked_has_not_passed() -> None:
    assert words.headline(full()).ending is Ending.MEASURED


def test_a_run_that_was_ended_early_is_known() -> None:
    assert words.cut_short(full(measured_s=(10.0, 25.0)))
    assert not words.cut_short(full())


def test_every_result_has_a_line() -> None:
    report = full()
    lines = {name: words.summary(result) for name, result in report.metrics.items()}
    assert lines["join"] == "p50 80.2, p95 120, p99 120, max 120 ms"
    assert lines["freezes"] == "2 in 1 session"
    assert lines["sessions_lost"] == "1"
    assert lines["frozen"] == "0.833 % (0.5 of 60)"
    assert lines["batch_fill"] == "1.5 sessions"
    assert lines["deadline_misses"] == "25 %"


def test_a_level_that_changes_tells_its_extremes() -> None:
    report = full()
    level = report.metrics["loop_lag"]
    wide = level.model_copy(update={"value": level.value.model_copy(update={"max": 9.0})})
    assert words.summary(wide) == "3 ms on average, 3 to 9"


def test_a_run_that_nobody_came_to_is_invalid() -> None:
    assert words.headline(empty()).ending is Ending.INVALID
