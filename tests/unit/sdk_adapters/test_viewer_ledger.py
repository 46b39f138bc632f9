"""The ledger of the measuring viewer."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdk_adapters.harness.ledger import FrameLedger, percentiles

pytestmark = pytest.mark.unit

PERIOD = 1 / 24


def steady(ledger: FrameLedger, frames: Iterable[int], run: int = 1, start_s: float = 0.0) -> None:
    for frame in frames:
        ledger.seen(run, frame, start_s + frame * PERIOD)


def test_a_steady_run_has_no_faults() -> None:
    ledger = FrameLedger()
    steady(ledger, range(240))
    report = ledger.report()
    assert (report.received, report.missing, report.repeated, report.out_of_order) == (240, 0, 0, 0)
    assert (report.late, report.freezes, report.longest_freeze_ms) == (0, 0, 0.0)
    assert report.fps == pytest.approx(24.0)
    assert report.lateness_ms["max"] == pytest.approx(0.0, abs=1e-3)
    assert report.jitter_ms["max"] == pytest.approx(0.0, abs=1e-3)


def test_nothing_seen_is_a_report_too() -> None:
    report = FrameLedger().report()
    assert (report.received, report.fps, report.jitter_ms, report.runs) == (0, 0.0, {}, ())


def test_missing_repeated_and_out_of_order_frames_are_told_apart() -> None:
    ledger = FrameLedger()
    steady(ledger, [0, 1, 4, 4, 3, 5, 1])
    report = ledger.report()
    assert (report.received, report.missing, report.repeated, report.out_of_order) == (5, 1, 2, 1)


def test_a_frame_before_the_first_is_out_of_order() -> None:
    ledger = FrameLedger()
    steady(ledger, [5, 3, 4])
    run = ledger.report().runs[0]
    assert (run.first_frame, run.last_frame, run.missing, run.out_of_order) == (3, 5, 0, 2)


def test_runs_are_counted_apart() -> None:
    ledger = FrameLedger()
    steady(ledger, range(10), run=1)
    steady(ledger, range(2, 5), run=2, start_s=100.0)
    report = ledger.report()
    assert [(run.run, run.received, run.missing) for run in report.runs] == [(1, 10, 0), (2, 3, 0)]
    assert report.freezes == 0


def test_what_was_expected_counts_from_the_first_frame_to_the_last() -> None:
    ledger = FrameLedger()
    steady(ledger, [2, 3, 5])
    ledger.expect(1, 10)
    ledger.expect(9, 10)
    assert ledger.report().missing == 7


def test_a_late_frame_is_late_by_the_earliest_one() -> None:
    ledger = FrameLedger(late_s=0.1)
    ledger.seen(1, 0, 0.15)
    ledger.seen(1, 1, PERIOD)
    ledger.seen(1, 2, 2 * PERIOD + 0.11)
    report = ledger.report()
    assert report.late == 2
    assert report.lateness_ms["max"] == pytest.approx(150.0)


def test_due_times_of_the_stream_win_over_the_period() -> None:
    ledger = FrameLedger()
    ledger.seen(1, 0, 10.0, due_s=1.0)
    ledger.seen(1, 1, 13.0, due_s=4.0)
    report = ledger.report()
    assert (report.late, report.freezes) == (0, 0)
    assert report.fps == pytest.approx(1 / 3, abs=1e-3)


def test_a_freeze_is_a_gap_beyond_what_was_due() -> None:
    ledger = FrameLedger(freeze_s=0.5)
    steady(ledger, range(5))
    steady(ledger, range(5, 10), start_s=0.7)
    report = ledger.report()
    assert report.freezes == 1
    assert report.longest_freeze_ms == pytest.approx(700.0)


def test_a_hold_on_purpose_is_no_freeze() -> None:
    ledger = FrameLedger()
    steady(ledger, range(5))
    ledger.reanchor()
    steady(ledger, range(5, 10), start_s=60.0)
    report = ledger.report()
    assert (report.freezes, report.late, report.missing) == (0, 0, 0)
    assert report.fps == pytest.approx(24.0)


def test_numbers_that_start_again_are_unwrapped() -> None:
    ledger = FrameLedger(modulo=240)
    for frame in range(1000):
        if frame % 100 != 50:
            ledger.seen(1, frame % 240, frame * PERIOD)
    report = ledger.report()
    assert (report.received, report.missing, report.repeated) == (990, 10, 0)
    assert report.runs[0].last_frame == 999


def test_a_repeat_across_the_start_is_still_a_repeat() -> None:
    ledger = FrameLedger(modulo=240)
    for frame in [238, 239, 0, 239, 0, 1]:
        ledger.seen(1, frame, 0.0)
    report = ledger.report()
    assert (report.received, report.missing, report.repeated) == (4, 0, 2)


@given(st.lists(st.integers(0, 60), min_size=1, max_size=200))
def test_every_frame_is_counted_exactly_once(frames: list[int]) -> None:
    ledger = FrameLedger()
    steady(ledger, frames)
    report = ledger.report()
    assert report.received == len(set(frames))
    assert report.missing == max(frames) - min(frames) + 1 - len(set(frames))
    assert report.repeated == len(frames) - len(set(frames))


def test_percentiles_are_by_nearest_rank() -> None:
    assert percentiles([]) == {}
    assert percentiles([0.002]) == {"p50": 2.0, "p95": 2.0, "p99": 2.0, "max": 2.0}
    values = [number / 1000 for number in range(1, 101)]
    assert percentiles(values) == {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}
