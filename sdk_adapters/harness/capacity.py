"""How many sessions a service can have: one number of them after another, each judged.

At each number exactly so many sessions are connected and do what the scenario says; the same
users every time, those of a repeat drawn from a seed of its own. A number holds if the
thresholds are met and nobody was left out. What decides which number comes next is
`sdk_adapters.harness.search`; what the simulator expects of the same pool stands beside the
answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from scheduler.scenario.load import Bounds, Slo
from scheduler.scenario.scenario import Scenario
from scheduler.scenario.sizes import at_level
from sdk_adapters.harness.metrics import METRICS, Side
from sdk_adapters.harness.plan import Act, Plan, PlannedVisit, plan
from sdk_adapters.harness.report.model import LoadReport, Row, Verdict
from sdk_adapters.harness.search import Found, Rules, Tally, bounds, step, tallied

SCHEMA_VERSION: Final = 1
USUAL: Final[Slo] = {
    "sessions_lost": Bounds(total=0),
    "sessions_failed": Bounds(total=0),
    "turned_away": Bounds(share=0),
    "frozen": Bounds(share=0.01),
    "start_to_first_frame": Bounds(p95=3000),
}
"""What is asked where neither the scenario nor anybody else says: what the simulator asks."""
LEFT_OUT: Final = "sessions_left_out"
"""Verdict beside the thresholds: sessions that wait for their picture are in no distribution."""
PATIENCE_S: Final = 3.0
"""A session that was shown so much less than it wanted to see, for no reason that was
measured, was left out."""
TRIES: Final = 2
"""A trial whose run says nothing of the service is made so often."""
_WAITS: Final = ("start_to_first_frame", "pause_to_resume", "reconnect")
"""Waits that have a metric of their own."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one number of sessions."""

    sessions: int
    seed: int
    held: bool
    missed: tuple[Verdict, ...]
    """Thresholds that were not met, in their order."""
    invalid: tuple[str, ...] = ()
    """Why the run says nothing of the service, if it does not."""
    wall_s: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether it says something: a generator at its limit makes a service look worse, so
        that what held all the same does hold.
        """
        return self.held or not self.invalid

    def document(self) -> dict[str, Any]:
        """Returns it for JSON."""
        missed = [verdict.model_dump(mode="json") for verdict in self.missed]
        return {**asdict(self), "missed": missed}


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the simulator says."""

    sessions: int | None
    """None: nothing."""
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Capacity:
    """The answer."""

    scenario: str
    found: Found
    rules: Rules
    trials: tuple[Trial, ...]
    prediction: Prediction = Prediction(None)
    service: Mapping[str, str] = field(default_factory=dict)
    """Settings of the service, as far as they are known."""

    @property
    def difference(self) -> float | None:
        """By how much the measurement differs from the prediction, as a share of that."""
        predicted = self.prediction.sessions
        return (self.found.sessions - predicted) / predicted if predicted else None

    @property
    def broke(self) -> tuple[Verdict, ...]:
        """What did not hold with the fewest sessions that failed, most frequent first."""
        return broke(self.trials, self.found.failing)

    def document(self) -> dict[str, Any]:
        """Returns it for JSON."""
        found, rules = self.found, self.rules
        return {
            "schema_version": SCHEMA_VERSION,
            "scenario": self.scenario,
            "sessions": found.sessions,
            "failing": found.failing,
            "confirmed": found.confirmed,
            "why": found.why,
            "repeats": rules.repeats,
            "needed": rules.needed,
            "levels": {
                str(sessions): asdict(tally) for sessions, tally in sorted(found.tallies.items())
            },
            "broke": [each.model_dump(mode="json") for each in self.broke],
            "predicted": self.prediction.sessions,
            "difference": self.difference,
            "not_predicted": self.prediction.why_not,
            "service": dict(self.service),
            "trials": [trial.document() for trial in self.trials],
        }

    def lines(self) -> Iterator[str]:
        """Yields the answer in sentences: the first is the answer, the others explain it."""
        found = self.found
        yield f"{_sessions(found.sessions, 'at least ' if found.failing is None else '')}" + (
            "" if found.confirmed else f" (not confirmed: {found.why})"
        )
        for sessions in (found.sessions, found.failing):
            if sessions and (tally := found.tallies.get(sessions)):
                yield f"{sessions:,} held in {tally.held} of {_times(tally.runs)}"
        if worst := self.broke:
            yield f"what broke first: {told(worst[0])}" + (
                f"; then {', '.join(each.metric for each in worst[1:])}" if worst[1:] else ""
            )
        if (predicted := self.prediction.sessions) is not None:
            apart = "" if self.difference is None else f", {self.difference:+.0%} measured"
            yield f"the simulator predicts {_sessions(predicted)} for this pool{apart}"
        elif self.prediction.why_not:
            yield f"not predicted: {self.prediction.why_not}"


def told(verdict: Verdict) -> str:
    """Returns a threshold that was missed, in words."""
    name = f"{verdict.metric} {verdict.statistic}"
    if verdict.value is None:
        return f"{name} ({verdict.why or 'no value'})"
    unit = METRICS[verdict.metric].unit if verdict.metric in METRICS else "sessions"
    sign = "<" if verdict.more_is_better else ">"
    return f"{name} {verdict.value:,.4g} {sign} {verdict.limit:,.4g} {unit}"


def broke(trials: Sequence[Trial], failing: int | None) -> tuple[Verdict, ...]:
    """Returns the thresholds that were missed with so many sessions, most frequent first, each
    with a value.

    Args:
        trials: Of the search.
        failing: How many; None: nothing failed.
    """
    missed = [
        verdict
        for trial in trials
        if trial.sessions == failing and not trial.held
        for verdict in trial.missed
    ]
    often = Counter((each.metric, each.statistic) for each in missed)
    first = {key: next(v for v in missed if (v.metric, v.statistic) == key) for key in often}
    return tuple(first[key] for key, _ in often.most_common())


def left_out(planned: Plan, report: LoadReport) -> Verdict:
    """Judges whether all were shown what they wanted to see.

    Whoever waits for a first frame until the end of the run is in no distribution of waits:
    so the time for which each wanted to see its picture is laid beside that for which it did.

    Args:
        planned: What each session was to do.
        report: What came of it.
    """
    begin, end = report.run.measured_s
    visits = {visit.number: visit for visit in planned.visits}
    count = sum(
        wanted_s(visits[row.number], begin, end) - _seen_s(row) > PATIENCE_S
        for row in report.sessions.rows
        if row.number in visits and row.outcome not in ("lost", "failed", "turned-away")
    )
    return Verdict(metric=LEFT_OUT, statistic="total", limit=0, value=count, met=not count)


def wanted_s(visit: PlannedVisit, begin: float, end: float) -> float:
    """Returns for how long a session is to play within some time."""
    seconds, since = 0.0, None
    over = min(end, visit.leave_s)
    for each in visit.steps:
        if each.act in (Act.START, Act.RESUME):
            since = each.at_s
        elif each.act is Act.PAUSE and since is not None:
            seconds += max(0.0, min(each.at_s, over) - max(since, begin))
            since = None
    return seconds + (max(0.0, over - max(since, begin)) if since is not None else 0.0)


def _seen_s(row: Row) -> float:
    waits = (row.values[name] for name in _WAITS if name in row.values)
    return row.counts.get("playing_s", 0.0) + sum(each.mean * each.count for each in waits) / 1e3


def _absent(verdict: Verdict) -> bool:
    """Whether what a threshold is about did not happen: who waits for it was left out instead.

    What the service should have told and did not is another matter: that is missed.
    """
    metric = METRICS.get(verdict.metric)
    return verdict.value is None and metric is not None and metric.side is Side.CLIENT


# -- the search ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is searched for."""

    scenario: Scenario
    """Its thresholds are those that have to hold; its duration is that of one trial."""
    rules: Rules = field(default_factory=Rules)

    @classmethod
    def of(
        cls,
        scenario: Scenario,
        *,
        window_s: float | None = None,
        warm_up_s: float | None = None,
        rules: Rules | None = None,
    ) -> Wanted:
        """Returns a search.

        Args:
            scenario: Whose users come; without thresholds the usual ones hold.
            window_s: How long each trial measures; None: as long as the scenario.
            warm_up_s: Before that; None: as the scenario.
            rules: How to search.
        """
        changes: dict[str, object] = {"slo": scenario.slo or USUAL}
        if window_s is not None:
            changes["duration"] = window_s
        if warm_up_s is not None:
            changes["warm_up"] = warm_up_s
        return cls(scenario.model_copy(update=changes), rules or Rules())

    def trial(self, sessions: int, repeat: int) -> Scenario:
        """Returns what is run for one trial.

        Args:
            sessions: How many.
            repeat: Which time it is that so many are tried, from 0.
        """
        seeded = self.scenario.model_copy(update={"seed": self.scenario.seed + repeat})
        return at_level(seeded, sessions)

    def key(self, service: Mapping[str, str]) -> str:
        """Returns what trials have in common that may be put together.

        Args:
            service: Settings of the service.
        """
        document = {
            "scenario": self.scenario.model_dump(mode="json", exclude={"summary", "targets"}),
            "service": dict(service),
        }
        text = json.dumps(document, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


Run = Callable[[Scenario], Awaitable[LoadReport]]
Observe = Callable[[Trial], None]


async def search(
    wanted: Wanted,
    run: Run,
    *,
    observe: Observe,
    known: Sequence[Trial] = (),
    until: asyncio.Event | None = None,
) -> tuple[Found, tuple[Trial, ...]]:
    """Searches for the most sessions that hold.

    Args:
        wanted: What to search for.
        run: Runs a scenario against the service.
        observe: Told of each trial as it ends, those that are void included.
        known: Trials that were made before.
        until: Ends the search early; a trial that it cuts short is dropped.

    Returns:
        The answer, and the trials that it stands on.
    """
    trials = [trial for trial in known if trial.counts]
    while True:
        tallies = tallied((trial.sessions, trial.held) for trial in trials)
        sessions = step(tallies, wanted.rules)
        if isinstance(sessions, Found):
            return sessions, tuple(trials)
        repeat = tallies.get(sessions, Tally()).runs
        why = ""
        for _ in range(TRIES):
            trial = await _one(wanted, run, sessions, repeat)
            if until is not None and until.is_set():
                why = "it was ended early"
                break
            observe(trial)
            if trial.counts:
                trials.append(trial)
                break
            why = f"with {sessions} the generator is its own limit: {trial.invalid[0]}"
        else:
            return _unfinished(tallies, wanted.rules, why), tuple(trials)
        if until is not None and until.is_set():
            return _unfinished(tallies, wanted.rules, why), tuple(trials)


def _unfinished(tallies: Mapping[int, Tally], rules: Rules, why: str) -> Found:
    holding, failing = bounds(tallies, rules)
    return Found(sessions=holding, failing=failing, confirmed=False, why=why, tallies=tallies)


async def _one(wanted: Wanted, run: Run, sessions: int, repeat: int) -> Trial:
    scenario, began = wanted.trial(sessions, repeat), time.monotonic()
    report = await run(scenario)
    planned = await asyncio.to_thread(plan, scenario)
    verdicts = (*report.verdicts, left_out(planned, report))
    missed = tuple(each for each in verdicts if not each.met and not _absent(each))
    return Trial(
        sessions=sessions,
        seed=scenario.seed,
        held=not missed,
        missed=missed,
        invalid=() if report.validity.valid else report.validity.reasons,
        wall_s=round(time.monotonic() - began, 1),
    )


def _sessions(count: int, prefix: str = "") -> str:
    return f"{prefix}{count:,} session" + ("" if count == 1 else "s")


def _times(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
