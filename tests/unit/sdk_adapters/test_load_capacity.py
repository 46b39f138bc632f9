"""Capacity: what a trial is judged by, what is kept of it, and what is told in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from scheduler.scenario.load import Bounds
from scheduler.scenario.scenario import Scenario
from scheduler.scenario.workload import Level
from sdk_adapters.harness import slo
from sdk_adapters.harness.capacity import (
    LEFT_OUT,
    USUAL,
    Capacity,
    Prediction,
    Trial,
    Wanted,
    left_out,
    search,
    told,
    wanted_s,
)
from sdk_adapters.harness.capacity_run import Kept
from sdk_adapters.harness.plan import Act, Plan, PlannedVisit, Step, plan
from sdk_adapters.harness.records import Outcome, SessionRecord
from sdk_adapters.harness.report.build import Facts, build
from sdk_adapters.harness.report.model import LoadReport, Verdict
from sdk_adapters.harness.search import Rules
from tests.unit.sdk_adapters.load_runs import measured, record, scenario

pytestmark = pytest.mark.unit

PLAYING = {
    "workload": {
        "arrivals": {"kind": "level", "connected": 1},
        "session": {"kind": "fixed", "value": "1h"},
        "think": {"kind": "fixed", "value": 1},
        "play": {"kind": "fixed", "value": "1h"},
        "pause": {"kind": "fixed", "value": 1},
    }
}
"""Users who play all the time."""
MISSED = Verdict(metric="frozen", statistic="share", limit=0.01, value=0.2, met=False)


def visit(*steps: tuple[float, Act], leave_s: float = 100.0) -> PlannedVisit:
    """A session that does this."""
    return PlannedVisit(
        number=0, process=0, arrival_s=0.0, leave_s=leave_s, wire="grpc", codec="h264",
        network="clean", decoded=False, live=False, steps=tuple(Step(*each) for each in steps),
    )  # fmt: skip


class Service:
    """A service that has room for so many, and notes what it was asked."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.asked: list[tuple[int, int]] = []
        self.invalid: Sequence[str] = ()

    async def run(self, asked: Scenario) -> LoadReport:
        """Runs a scenario: those beyond the room are shown nothing."""
        arrivals = asked.workload.arrivals
        assert isinstance(arrivals, Level)
        self.asked.append((arrivals.connected, asked.seed))
        begin_s, end_s = asked.warm_up, asked.warm_up + asked.duration
        records = [self._record(each.number, asked) for each in plan(asked).visits]
        run = measured(*records, measured_s=(begin_s, end_s), invalid=list(self.invalid))
        return slo.judged(build(run, asked, Facts()), asked.slo)

    def _record(self, number: int, asked: Scenario) -> SessionRecord:
        shown = asked.duration if number < self.room else 0.0
        return record(
            number,
            planned_s=1.0,
            began_s=1.0,
            ended_s=asked.warm_up + asked.duration,
            outcome=Outcome.CUT,
            counts={"frames_shown": 24 * shown, "playing_s": shown},
            values={},
        )


def trial(sessions: int, *, held: bool, **changes: Any) -> Trial:
    """A trial that was made."""
    missed = () if held else (MISSED,)
    return Trial(**{"sessions": sessions, "seed": 1, "held": held, "missed": missed, **changes})


# -- what a session wants ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "seconds"),
    [
        ([(1.0, Act.START)], 30.0),
        ([(20.0, Act.START)], 20.0),
        ([(1.0, Act.START), (15.0, Act.PAUSE)], 5.0),
        ([(1.0, Act.START), (15.0, Act.PAUSE), (35.0, Act.RESUME)], 10.0),
        ([(1.0, Act.START), (5.0, Act.PAUSE)], 0.0),
        ([(12.0, Act.START), (14.0, Act.PROMPT), (16.0, Act.PAUSE)], 4.0),
        ([], 0.0),
    ],
)
def test_a_session_wants_to_see_its_picture_while_it_plays(
    steps: list[tuple[float, Act]], seconds: float
) -> None:
    assert wanted_s(visit(*steps), 10.0, 40.0) == pytest.approx(seconds)


def test_nobody_wants_to_see_anything_after_leaving() -> None:
    assert wanted_s(visit((1.0, Act.START), leave_s=25.0), 10.0, 40.0) == pytest.approx(15.0)


def report_of(shown_s: float, **changes: Any) -> tuple[Plan, LoadReport]:
    """One session of 30 s that was shown its picture for so long."""
    asked = scenario(**PLAYING)
    values = {"playing_s": shown_s, "frames_shown": 24 * shown_s}
    session = record(0, began_s=0.0, ended_s=40.0, counts=values, **changes)
    return plan(asked), build(measured(session), asked, Facts())


@pytest.mark.parametrize(("shown_s", "count"), [(30.0, 0), (28.0, 0), (20.0, 1), (0.0, 1)])
def test_who_was_not_shown_what_it_wanted_was_left_out(shown_s: float, count: int) -> None:
    verdict = left_out(*report_of(shown_s))
    assert verdict.value == count
    assert verdict.met is not bool(count)


def test_waits_that_were_measured_are_not_counted_twice() -> None:
    waited = {"start_to_first_frame": [4000.0], "pause_to_resume": [6000.0]}
    assert left_out(*report_of(20.0, values=waited)).value == 0


def test_sessions_that_ended_badly_have_verdicts_of_their_own() -> None:
    assert left_out(*report_of(0.0, outcome=Outcome.TURNED_AWAY)).value == 0


# -- the search ----------------------------------------------------------------------------------


async def test_the_most_that_are_all_served_are_found() -> None:
    service, seen = Service(room=7), []
    wanted = Wanted.of(scenario(**PLAYING, slo={"sessions_lost": {"total": 0}}))
    found, trials = await search(wanted, service.run, observe=seen.append)
    assert found.interval == (7, 8)
    assert found.confirmed
    assert list(trials) == seen
    capacity = Capacity("made-up", found, wanted.rules, trials)
    assert [each.metric for each in capacity.broke] == [LEFT_OUT]


async def test_repeats_draw_other_users_and_every_number_the_same() -> None:
    service = Service(room=2)
    wanted = Wanted.of(scenario(**PLAYING, seed=40), rules=Rules(guess=2))
    await search(wanted, service.run, observe=lambda _: None)
    assert sorted(service.asked) == [(2, 40), (2, 41), (3, 40), (3, 41)]


async def test_a_search_goes_on_where_it_was() -> None:
    wanted = Wanted.of(scenario(**PLAYING), rules=Rules(guess=2))
    first, again = Service(room=2), Service(room=2)
    _, trials = await search(wanted, first.run, observe=lambda _: None)
    found, _ = await search(wanted, again.run, observe=lambda _: None, known=trials[:3])
    assert again.asked == first.asked[3:]
    assert found.interval == (2, 3)


async def test_a_generator_at_its_limit_ends_the_search_after_one_more_try() -> None:
    service, seen = Service(room=2), []
    service.invalid = ["the event loop ran 90 ms late"]
    found, trials = await search(Wanted.of(scenario(**PLAYING)), service.run, observe=seen.append)
    # What holds although the generator is late holds: lateness makes nothing look better.
    assert found.interval == (2, None)
    assert not found.confirmed
    assert "90 ms late" in found.why
    assert [each.counts for each in seen] == [True, True, False, False]
    assert [each.sessions for each in trials] == [1, 2]


async def test_a_search_that_is_ended_early_drops_the_trial_under_way() -> None:
    service, stop, seen = Service(room=9), asyncio.Event(), []

    async def run(asked: Scenario) -> LoadReport:
        if len(service.asked) == 2:
            stop.set()
        return await service.run(asked)

    found, trials = await search(
        Wanted.of(scenario(**PLAYING)), run, observe=seen.append, until=stop
    )
    assert len(trials) == len(seen) == 2
    assert not found.confirmed
    assert "ended early" in found.why


async def test_what_did_not_happen_misses_no_threshold_but_what_was_not_told_does() -> None:
    service = Service(room=5)
    asked = {"start_to_first_frame": {"p95": 1000}, "deadline_misses": {"max": 0.01}}
    wanted = Wanted.of(scenario(**PLAYING, slo=asked))
    seen: list[Trial] = []
    await search(wanted, service.run, observe=seen.append)
    assert [each.metric for each in seen[0].missed] == ["deadline_misses"]


def test_without_thresholds_the_usual_ones_hold() -> None:
    assert Wanted.of(scenario(**PLAYING)).scenario.slo == USUAL
    own = {"frozen": Bounds(share=0.5)}
    asked = scenario(**PLAYING, slo={"frozen": {"share": 0.5}})
    assert Wanted.of(asked, window_s=20, warm_up_s=5).scenario.slo == own


# -- what is kept, and told ----------------------------------------------------------------------


def test_trials_are_kept_for_the_same_search_alone(tmp_path: Path) -> None:
    path = tmp_path / "out" / "trials.json"
    kept = Kept(path, "one")
    kept.add(trial(4, held=True))
    kept.add(trial(5, held=False, wall_s=12.5))
    kept.add(trial(6, held=False, invalid=("late",)))
    assert list(Kept(path, "one").read()) == [
        trial(4, held=True),
        trial(5, held=False, wall_s=12.5),
    ]
    assert list(Kept(path, "another").read()) == []


def test_a_file_that_is_none_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "trials.json"
    path.write_text("{")
    assert list(Kept(path, "one").read()) == []


def test_another_scenario_or_service_is_another_search() -> None:
    wanted = Wanted.of(scenario(**PLAYING))
    longer = Wanted.of(scenario(**PLAYING), window_s=60)
    keys = {wanted.key({}), wanted.key({"actors": "2"}), longer.key({})}
    assert len(keys) == 3
    assert wanted.key({}) == Wanted.of(scenario(**PLAYING)).key({})


async def test_the_answer_tells_how_sure_it_is_what_broke_and_what_was_predicted() -> None:
    service = Service(room=10)
    wanted = Wanted.of(scenario(**PLAYING), rules=Rules(guess=11))
    found, trials = await search(wanted, service.run, observe=lambda _: None)
    capacity = Capacity("made-up", found, wanted.rules, trials, Prediction(11))
    assert capacity.difference == pytest.approx(-1 / 11)
    assert list(capacity.lines()) == [
        "10 sessions",
        "10 held in 2 of 2 runs",
        "11 held in 0 of 2 runs",
        "what broke first: sessions_left_out total 1 > 0 sessions",
        "the simulator predicts 11 sessions for this pool, -9% measured",
    ]
    document = capacity.document()
    assert document["sessions"] == 10
    assert document["levels"]["10"] == {"held": 2, "failed": 0}


def test_a_threshold_that_was_missed_is_told_with_its_unit() -> None:
    fewer = Verdict(
        metric="frame_rate", statistic="p50", limit=24, value=12, met=False, more_is_better=True
    )
    assert told(MISSED) == "frozen share 0.2 > 0.01 share"
    assert told(fewer) == "frame_rate p50 12 < 24 frames/s"
