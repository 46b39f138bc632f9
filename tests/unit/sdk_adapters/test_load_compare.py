"""Two sides of load reports."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from sdk_adapters.harness.compare import Basis, Change, Compared, compare
from sdk_adapters.harness.records import Outcome, Scrape
from sdk_adapters.harness.report.build import Facts, build
from sdk_adapters.harness.report.model import Hardware, LoadReport, Service
from tests.unit.sdk_adapters.load_runs import measured, record, scenario

pytestmark = pytest.mark.unit


def run(
    join_ms: float,
    *,
    spread_ms: float = 5.0,
    seed: int = 1,
    sessions: int = 30,
    facts: Facts | None = None,
    **changes: Any,
) -> LoadReport:
    """A run in which sessions join in about so many milliseconds."""
    random = Random(seed)
    records = [
        record(number, values={"join": [max(1.0, random.gauss(join_ms, spread_ms))]}, **changes)
        for number in range(sessions)
    ]
    return build(measured(*records), scenario(), facts or Facts())


def of(metric: str, baseline: list[LoadReport], current: list[LoadReport]) -> Compared:
    found = [each for each in compare(baseline, current).metrics if each.metric == metric]
    assert len(found) == 1
    return found[0]


def test_repeats_that_differ_more_than_their_spread_are_told_apart() -> None:
    before = [run(each) for each in (100, 102, 98, 101)]
    after = [run(each) for each in (120, 118, 122, 119)]
    join = of("join", before, after)
    assert join.change is Change.WORSE
    assert join.basis is Basis.BETWEEN_RUNS
    assert join.low is not None
    assert join.high is not None
    assert 0 < join.low < join.effect < join.high
    assert join.relative == pytest.approx(0.18, abs=0.05)
    assert of("join", after, before).change is Change.BETTER


def test_repeats_within_their_spread_cannot_be_told_apart() -> None:
    join = of("join", [run(80), run(120), run(100)], [run(90), run(135), run(115)])
    assert join.change is Change.CANNOT_TELL
    assert "spread" in join.why


def test_repeats_that_hardly_spread_and_hardly_differ_are_the_same() -> None:
    values = (100.0, 100.4, 99.8)
    assert of("join", [run(each) for each in values], [run(each + 0.5) for each in values]).change \
        is Change.SAME  # fmt: skip


def test_a_single_run_is_taken_to_spread_as_the_repeats_of_the_other_side() -> None:
    before = [run(each) for each in (100, 103, 97, 101, 99)]
    assert of("join", before, [run(104)]).change is not Change.WORSE
    assert of("join", before, [run(160)]).change is Change.WORSE


def test_with_one_report_on_each_side_the_sessions_tell() -> None:
    join = of("join", [run(100, seed=1)], [run(150, seed=2)])
    assert (join.change, join.basis) == (Change.WORSE, Basis.WITHIN_RUN)


def test_chance_in_who_was_there_makes_no_verdict() -> None:
    wide = {"spread_ms": 60.0, "sessions": 12}
    assert of("join", [run(200, seed=1, **wide)], [run(200, seed=2, **wide)]).change in (
        Change.CANNOT_TELL,
        Change.SAME,
    )


def test_the_same_seed_makes_the_same_comparison() -> None:
    before, after = [run(100, seed=1)], [run(110, seed=2)]
    assert compare(before, after, seed=5) == compare(before, after, seed=5)


def test_more_frames_a_second_are_better() -> None:
    def rates(rate: float) -> LoadReport:
        records = [
            record(number, values={"frame_rate": [rate + number * 0.01]}) for number in range(9)
        ]
        return build(measured(*records), scenario(), Facts())

    assert of("frame_rate", [rates(20)], [rates(24)]).change is Change.BETTER


def test_counts_are_compared_by_session() -> None:
    few = run(100, counts={"frames_lost": 2})
    many = run(100, sessions=60, counts={"frames_lost": 2})
    lost = of("frames_lost", [few], [many])
    assert (lost.baseline, lost.current, lost.change) == (2, 2, Change.SAME)
    worse = of("frames_lost", [few], [run(100, counts={"frames_lost": 5})])
    assert (worse.change, worse.statistic) == (Change.WORSE, "per session")


def test_shares_are_compared_by_drawing_sessions_anew() -> None:
    def away(count: int) -> LoadReport:
        ends = [Outcome.TURNED_AWAY] * count + [Outcome.COMPLETED] * (60 - count)
        records = [record(number, outcome=end) for number, end in enumerate(ends)]
        return build(measured(*records), scenario(), Facts())

    assert of("turned_away", [away(2)], [away(40)]).change is Change.WORSE
    assert of("turned_away", [away(0)], [away(0)]).change is Change.SAME


def test_levels_of_one_run_each_cannot_be_told_apart() -> None:
    def lagging(lag_ms: float) -> LoadReport:
        scrapes = [Scrape(20.0 + number, {"loop_lag": lag_ms}) for number in range(9)]
        return build(measured(record(), scrapes=scrapes), scenario(), Facts())

    one = of("loop_lag", [lagging(1)], [lagging(90)])
    assert (one.change, one.effect) == (Change.CANNOT_TELL, 89)
    several = of("loop_lag", [lagging(1), lagging(2)], [lagging(90), lagging(91)])
    assert several.change is Change.WORSE


def test_what_one_side_did_not_measure_cannot_be_told() -> None:
    without = build(measured(record(values={})), scenario(), Facts())
    join = of("join", [run(100)], [without])
    assert (join.change, join.current) == (Change.CANNOT_TELL, None)
    assert join.why == "the current side has no value"


def test_neither_the_generator_nor_what_came_is_judged() -> None:
    names = {each.metric for each in compare([run(100)], [run(100)]).metrics}
    assert "join" in names
    assert not names & {"generator_cpu", "sessions_begun", "migration_gap"}


def test_what_became_worse_can_be_asked_for() -> None:
    comparison = compare([run(100)], [run(300, counts={"frames_lost": 3})])
    assert [each.metric for each in comparison.worse] == [
        "join",
        "frames_lost",
        "clean_sessions",
    ]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Facts(generator=Hardware(cpu="another", cores=2)), "machines of the generator"),
        (Facts(service=Service(hardware=Hardware(cores=64))), "machines of the service"),
        (Facts(service=Service(model="painter")), "different models"),
        (Facts(service=Service(video="canned")), "ways to make the pictures"),
    ],
)
def test_sides_that_ran_on_something_else_are_warned_of(other: Facts, said: str) -> None:
    warnings = compare([run(100), run(100)], [run(100, facts=other)]).warnings
    assert len(warnings) == 1
    assert said in warnings[0]


def test_another_scenario_an_invalid_run_and_single_reports_are_warned_of() -> None:
    invalid = build(measured(record(), invalid=["slow"]), scenario(load={"decode": 0.9}), Facts())
    warnings = compare([run(100)], [invalid]).warnings
    assert [each.split(" ")[0] for each in warnings] == ["The", "1", "One"]


def test_sides_without_a_report_are_refused() -> None:
    with pytest.raises(ValueError, match="a report"):
        compare([], [run(100)])
