"""From what was measured to the report."""

from __future__ import annotations

from typing import Any

import pytest

from sdk_adapters.harness.metrics import METRICS, Kind
from sdk_adapters.harness.records import Event, Footprint, Outcome, Scrape
from sdk_adapters.harness.report import model
from sdk_adapters.harness.report.build import Facts, build
from sdk_adapters.harness.report.model import LoadReport, Service, Value
from tests.unit.sdk_adapters.load_runs import measured, record, scenario, second

pytestmark = pytest.mark.unit

KINDS = {
    Kind.DISTRIBUTION: "distribution",
    Kind.COUNT: "count",
    Kind.SHARE: "share",
    Kind.LEVEL: "level",
}


def built(*sessions: Any, **changes: Any) -> LoadReport:
    return build(measured(*sessions, **changes), scenario(), Facts())


def value_of(report: LoadReport, metric: str) -> Value:
    return report.metrics[metric].value


def test_distributions_of_all_sessions_are_one() -> None:
    values = [float(number) for number in range(1, 101)]
    report = built(
        record(0, values={"join": values[::2]}), record(1, values={"join": values[1::2]})
    )
    join = value_of(report, "join")
    assert isinstance(join, model.Distribution)
    assert (join.count, join.mean) == (100, 50.5)
    assert join.p50 == pytest.approx(50.5, abs=1)
    assert join.p95 == pytest.approx(95, abs=1)
    assert (join.min, join.max) == pytest.approx((1, 100), rel=0.006)


@pytest.mark.parametrize(
    ("values", "p50", "p95", "most"),
    [
        ([7.0], 7, 7, 7),
        ([10.0, 20.0], 10, 20, 20),
        ([float(number) for number in range(1, 7)], 3, 6, 6),
        ([float(number) for number in range(1, 21)], 10, 19, 20),
        ([0.0, 0.0, 0.0], 0, 0, 0),
    ],
)
def test_of_few_values_a_high_percentile_is_the_highest(
    values: list[float], p50: float, p95: float, most: float
) -> None:
    join = value_of(built(record(values={"join": values})), "join")
    assert isinstance(join, model.Distribution)
    assert (join.p50, join.p95, join.max) == pytest.approx((p50, p95, most), rel=0.006)


def test_the_sessions_own_distributions_are_left_as_they_were() -> None:
    sessions = [record(0, values={"join": [1.0]}), record(1, values={"join": [9.0]})]
    built(*sessions)
    assert [each.values["join"].count for each in sessions] == [1, 1]


def test_counts_are_added_and_tell_in_how_many_sessions() -> None:
    report = built(
        record(0, counts={"frames_lost": 3}), record(1, counts={"frames_lost": 1}), record(2)
    )
    assert value_of(report, "frames_lost") == model.Total(total=4, sessions=2, worst=3)


def test_shares_are_of_all_sessions_together() -> None:
    short = {"playing_s": 1.0, "frozen_s": 1.0, "freezes": 1}
    report = built(record(0, counts=short), record(1, counts={"playing_s": 99.0}))
    assert value_of(report, "frozen") == model.Ratio(share=0.01, part=1, whole=100)


def test_a_session_is_clean_with_every_frame_once_and_no_freeze() -> None:
    faults: list[dict[str, Any]] = [
        {"counts": {"frames_lost": 1}},
        {"counts": {"frames_repeated": 1}},
        {"counts": {"freezes": 1}},
        {"outcome": Outcome.LOST, "counts": {"frames_shown": 0}},
    ]
    report = built(record(0), *(record(number, **each) for number, each in enumerate(faults, 1)))
    assert value_of(report, "clean_sessions") == model.Ratio(share=0.2, part=1, whole=5)


def test_sessions_are_counted_by_their_end() -> None:
    ends = [Outcome.COMPLETED, Outcome.CUT, Outcome.LOST, Outcome.FAILED, Outcome.TURNED_AWAY]
    report = built(*(record(number, outcome=end) for number, end in enumerate(ends)))
    totals = [value_of(report, f"sessions_{name}") for name in ("begun", "lost", "failed")]
    assert [each.total for each in totals if isinstance(each, model.Total)] == [5, 1, 1]
    assert value_of(report, "turned_away") == model.Ratio(share=0.2, part=1, whole=5)


def test_sessions_of_the_warm_up_do_not_count() -> None:
    report = built(
        record(0, began_s=0.0, planned_s=0.0, ended_s=9.9),
        record(1, began_s=0.0, planned_s=0.0, ended_s=10.5),
        record(2, began_s=39.0, planned_s=39.0, ended_s=41.0),
        record(3, began_s=40.0, planned_s=40.0, ended_s=41.0),
    )
    assert [row.number for row in report.sessions.rows] == [1, 2]


def test_every_metric_is_measured_or_has_a_reason() -> None:
    for report in (built(record()), built()):
        assert report.metrics.keys() | report.not_measured.keys() == METRICS.keys()
        assert not report.metrics.keys() & report.not_measured.keys()
        assert all(report.not_measured.values())


def test_values_are_of_the_kind_that_the_table_says() -> None:
    scrapes = [Scrape(11.0, {"queue_age": 1.0})]
    report = built(record(values={"join": [1.0]}), scrapes=scrapes)
    assert {name: each.value.kind for name, each in report.metrics.items()} == {
        name: KINDS[METRICS[name].kind] for name in report.metrics
    }


def test_what_the_generator_could_not_measure_keeps_its_reason() -> None:
    reasons = {"join_ice": "this host has no WebRTC", "wire chromium": "there is no browser"}
    assert reasons.items() <= built(record(), not_measured=reasons).not_measured.items()


def test_the_lag_of_the_generator_is_that_of_its_processes() -> None:
    seconds = [second(20.0, 0, lag_ms=90.0), second(20.0, 1)]
    report = built(record(), seconds=seconds, lag_p99_ms={0: 4.0})
    assert value_of(report, "generator_lag") == model.Level(mean=4, min=4, max=4, points=1)
    first, other = report.validity.processes
    assert (first.lag_p99_ms, first.lag_max_ms) == (4, 90)
    assert other.lag_p99_ms is None


def test_the_cpu_of_the_generator_is_that_of_its_busiest_process() -> None:
    seconds = [
        second(at_s + process / 100, process, cpu=cpu)
        for at_s, cpus in ((20.0, (0.2, 0.6)), (21.0, (0.4, 0.1)))
        for process, cpu in enumerate(cpus)
    ]
    report = built(record(), seconds=seconds, measuring_cpu_s=0.13)
    assert value_of(report, "generator_cpu") == model.Level(mean=0.5, min=0.4, max=0.6, points=2)
    measuring = value_of(report, "measuring_cpu")
    assert measuring == model.Level(mean=0.1, min=0.1, max=0.1, points=1)


def test_wrong_pictures_are_counted_where_pictures_were_read() -> None:
    assert "no session was decoded" in built(record()).not_measured["pictures_wrong"]
    counts = {"pictures_read": 470, "pictures_wrong": 10, "pictures_unreadable": 7}
    report = built(record(0, decoded=True, counts=counts), record(1))
    assert value_of(report, "pictures_wrong") == model.Total(total=10, sessions=1, worst=10)
    assert any("7 decoded pictures did not tell" in note for note in report.notes)
    right = built(record(0, decoded=True, counts={"pictures_read": 480}))
    assert value_of(right, "pictures_wrong") == model.Total(total=0, sessions=0, worst=0)


def test_without_a_frame_nothing_is_said_of_frames() -> None:
    report = built(record(outcome=Outcome.FAILED, counts={"frames_shown": 0, "playing_s": 0}))
    assert "frames_lost" in report.not_measured
    assert "frozen" in report.not_measured
    assert "sessions_failed" in report.metrics


def test_levels_are_of_the_measured_time() -> None:
    scrapes = [Scrape(at, {"sessions_active": active}) for at, active in
               ((5.0, 99.0), (15.0, 2.0), (25.0, 4.0), (41.0, 99.0))]  # fmt: skip
    report = built(record(), scrapes=scrapes)
    assert value_of(report, "sessions_active") == model.Level(mean=3, min=2, max=4, points=2)


def test_growth_is_of_each_process_by_itself_and_added() -> None:
    scrapes = []
    for step in range(6):
        at = 12.0 + 4 * step
        processes = {"worker 0 of 1": Footprint(100 + 2 * at, 50)}
        if step >= 3:
            processes["actor 1 of 2"] = Footprint(4000 + at, 10 + step)
        scrapes.append(Scrape(at, {}, processes))
    report = built(record(), scrapes=scrapes)
    rss, descriptors = (value_of(report, f"server_{each}_slope") for each in ("rss", "fd"))
    assert isinstance(rss, model.Level)
    assert isinstance(descriptors, model.Level)
    # 2 MB and 1 MB a second; the actor's beginning is no growth. One descriptor in 4 s.
    assert rss.mean == pytest.approx(180.0)
    assert descriptors.mean == pytest.approx(15.0)


def test_breakdowns_are_made_where_there_is_something_to_tell_apart() -> None:
    report = built(
        record(0, wire="grpc", live=True, values={"join": [100.0]}),
        record(1, wire="webrtc", values={"join": [300.0]}),
    )
    assert report.breakdowns.keys() == {"wire", "source"}
    webrtc = report.breakdowns["wire"]["webrtc"]
    join = webrtc.values["join"]
    assert isinstance(join, model.Distribution)
    assert (webrtc.sessions, join.mean) == (1, 300)


def test_all_sessions_stand_in_a_report_of_few() -> None:
    sessions = built(*(record(number) for number in range(5))).sessions
    assert (sessions.counted, sessions.shown, sessions.selection) == (5, 5, "all")
    assert all(row.sampled for row in sessions.rows)


def test_of_many_sessions_the_worst_and_a_sample_stand_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sdk_adapters.harness.report.sessions.SESSIONS", 20)
    monkeypatch.setattr("sdk_adapters.harness.report.sessions.WORST_ROWS", 5)
    records = [record(number, values={}) for number in range(500)]
    records[321].counts["frames_lost"] = 7
    sessions = built(*records).sessions
    assert sessions.counted == 500
    assert 15 <= sessions.shown <= 20
    assert sessions.selection == "the worst and a sample"
    assert 321 in {row.number for row in sessions.rows}
    assert sum(row.sampled for row in sessions.rows) == 15


def test_the_worst_come_first_with_what_was_wrong_and_their_traces() -> None:
    report = built(
        record(0),
        record(1, values={"join": [5000.0]}),
        record(2, counts={"frames_lost": 3}, trace_ids=["aa", "bb"]),
        record(3, outcome=Outcome.LOST, failure="session_closed"),
        record(4, values={"join": [100.0]}),
    )
    assert [each.number for each in report.worst[:3]] == [3, 2, 1]
    assert report.worst[0].why[0] == "lost: session_closed"
    assert report.worst[1].why[0] == "3 frames lost"
    assert report.worst[1].trace_ids == ("aa", "bb")
    assert report.worst[2].why[0].startswith("join of up to ")


def test_failures_are_counted_by_kind() -> None:
    turned = {"outcome": Outcome.TURNED_AWAY, "failure": "no_capacity"}
    report = built(
        record(0, **turned), record(1, **turned), record(2, outcome=Outcome.FAILED, failure="x")
    )
    assert [(each.outcome, each.kind, each.sessions) for each in report.failures] == [
        ("turned-away", "no_capacity", 2),
        ("failed", "x", 1),
    ]


def test_the_timeline_adds_up_the_processes() -> None:
    seconds = [
        second(1.002, 0, connected=2, frames=48, values={"join": (10.0, 40.0)}),
        second(
            1.004, 1, connected=3, frames=24, cpu=0.9, lag_ms=7.0, values={"join": (30.0, 35.0)}
        ),
        second(2.003, 0),
    ]
    line = built(record(), seconds=seconds, scrapes=[Scrape(0.5, {"batch_fill": 2.0})]).timeline
    assert (line.step_s, line.at_s) == (1, (1, 2))
    assert (line.connected, line.frames) == ((5, 2), (72, 24))
    assert (line.cpu, line.lag_ms) == ((0.9, 0.2), (7, 1))
    assert line.values["join"] == model.Lines(p50=(20, None), p95=(40, None))
    assert line.levels == {"batch_fill": (2, None)}


def test_a_long_timeline_is_put_together() -> None:
    seconds = [second(number + 0.003) for number in range(1, 7201)]
    line = built(record(), seconds=seconds).timeline
    assert (line.step_s, len(line.at_s)) == (7, 1029)
    assert set(line.connected) == {2}
    assert line.frames[:-1] == (24,) * 1028


def test_events_stand_in_their_order() -> None:
    report = built(record(), events=[Event(20.0, "an actor was killed"), Event(15.0, "drain")])
    assert [each.what for each in report.events] == ["drain", "an actor was killed"]


def test_a_generator_that_was_its_own_limit_makes_the_run_invalid() -> None:
    report = built(record(), invalid=["generator process 0 took 0.97 of a core"])
    assert not report.validity.valid
    assert not report.passed


@pytest.mark.parametrize(("late", "valid"), [(1, True), (2, False)])
def test_sessions_that_came_late_make_the_run_invalid(late: int, valid: bool) -> None:
    records = [record(number, planned_s=12.0, began_s=12.049) for number in range(20 - late)]
    records += [record(20 + number, planned_s=12.0, began_s=12.4) for number in range(late)]
    validity = built(*records).validity
    assert validity.valid is valid
    said = ("2 of 20 sessions came late, by up to 400 ms",)
    assert validity.reasons == (() if valid else said)


def test_a_run_without_sessions_is_invalid() -> None:
    assert built().validity.reasons == ("no session counts",)


def test_a_run_that_was_ended_early_says_so() -> None:
    report = built(record(), measured_s=(10.0, 22.0))
    assert "12 s of 30 s were measured" in report.notes[0]


def test_prepared_pictures_are_mentioned() -> None:
    report = build(measured(record()), scenario(), Facts(Service(video="canned")))
    assert any("prepared pictures" in note for note in report.notes)


def test_hashes_tell_workloads_apart_and_not_thresholds() -> None:
    def hashed(**changes: Any) -> str:
        return build(measured(record()), scenario(**changes), Facts()).run.scenario_hash

    assert hashed() == hashed(slo={"join": {"p95": 1}}, seed=9)
    assert hashed() != hashed(load={"decode": 0.5})
