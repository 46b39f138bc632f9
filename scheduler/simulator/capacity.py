"""The most sessions that a pool can serve: a prediction, to be laid beside a measurement.

The GPUs of the scenario are all up and stay; exactly so many sessions are connected at any
time and do what the workload says; every chunk is played. A number of sessions holds if the
scenario's targets hold for most of some seeds; the largest is searched for by doubling and
halving. Where the scenario asks nothing, 99 % of the chunks have to be in time, 95 of 100
starts may wait for 2 s, and nobody may be left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Final

from scheduler.core.errors import ConfigurationError
from scheduler.scenario.pool import Targets
from scheduler.scenario.scenario import Scenario
from scheduler.scenario.sizes import at_level
from scheduler.simulator.report import percentile, share_in_time
from scheduler.simulator.world import Run, World

REPEATS: Final = 3
"""Seeds that every number of sessions is tried with."""
MOST: Final = 100_000
"""No more sessions than these are tried."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What has to hold."""

    in_time: float = 0.99
    """Least share of chunks that are there when due."""
    wait_p95_s: float = 2.0
    """Most seconds that 95 of 100 starts and resumes wait."""
    left_out: float = 0.0
    """Largest share of the arrivals that do not come to compute."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one number of sessions with one seed."""

    sessions: int
    seed: int
    in_time: float
    """Share of the chunks that were there when due."""
    wait_p95_s: float
    """Of starts and resumes; those that wait at the end have waited until then."""
    left_out: float
    """Share of the arrivals that were turned away, left while they waited, or have waited at
    the end for longer than 95 of 100 may."""
    holds: bool


@dataclass(frozen=True, slots=True)
class Capacity:
    """What was found."""

    scenario: str
    gpus: int
    sessions: int
    """The most at which the targets hold; 0: not even one."""
    asked: Asked
    trials: tuple[Trial, ...]
    """In order of the search."""

    def document(self) -> dict[str, Any]:
        """Returns it for JSON."""
        kept = ("scenario", "gpus", "sessions")
        return {
            **{name: getattr(self, name) for name in kept},
            "asked": asdict(self.asked),
            "trials": [asdict(trial) for trial in self.trials],
        }


def capacity(scenario: Scenario, observe: Callable[[Trial], None] = lambda _: None) -> Capacity:
    """Predicts the most sessions.

    Args:
        scenario: Pool, behaviour of the sessions, targets; its arrivals do not count.
        observe: Told of each trial.

    Raises:
        ConfigurationError: It has no pool, or any number of sessions holds.
    """
    asked = asked_of(scenario.targets)
    pool = _all_up(scenario)
    trials: list[Trial] = []

    def holds(sessions: int) -> bool:
        held = 0
        for repeat in range(REPEATS):
            trial = _try(pool, sessions, scenario.seed + repeat, asked)
            trials.append(trial)
            observe(trial)
            held += trial.holds
            if max(held, repeat + 1 - held) > REPEATS // 2:
                break  # the others change nothing
        return held > REPEATS // 2

    found = largest(holds, scenario.spec.gpus * scenario.spec.compute_slots, MOST)
    return Capacity(scenario.name, scenario.spec.gpus, found, asked, tuple(trials))


def largest(holds: Callable[[int], bool], guess: int, most: int) -> int:
    """Returns the largest number for which something holds, 0 if there is none.

    Args:
        holds: Says whether it does; where it does not, it does for nothing larger.
        guess: Where to begin, at least 1.
        most: Where to give up.

    Raises:
        ConfigurationError: It holds for more than that.
    """
    held, failed = 0, guess
    while holds(failed):
        held, failed = failed, 2 * failed
        if failed > most:
            raise ConfigurationError(f"the targets hold for {held} sessions, and no end to it")
    while failed - held > 1:
        middle = (held + failed) // 2
        if holds(middle):
            held = middle
        else:
            failed = middle
    return held


def asked_of(targets: Targets) -> Asked:
    """Returns what has to hold: what is asked, and the defaults for the rest."""
    usual = Asked()
    return Asked(
        in_time=usual.in_time if targets.in_time is None else targets.in_time,
        wait_p95_s=usual.wait_p95_s if targets.wait_p95_s is None else targets.wait_p95_s,
        left_out=usual.left_out if targets.rejected is None else targets.rejected,
    )


def _all_up(scenario: Scenario) -> Scenario:
    """Returns a scenario whose GPUs are all up and stay."""
    spec = scenario.spec
    scaling = spec.scaling.model_copy(update={"spare_gpus": spec.gpus})
    changes = {"gpus_at_start": spec.gpus, "scaling": scaling, "disturbances": ()}
    return scenario.model_copy(update={"pool": spec.model_copy(update=changes)})


def _try(scenario: Scenario, sessions: int, seed: int, asked: Asked) -> Trial:
    sized = at_level(scenario.model_copy(update={"seed": seed}), sessions)
    return _judged(World(sized, exact=True).run(), sessions, seed, asked)


def _judged(run: Run, sessions: int, seed: int, asked: Asked) -> Trial:
    counts, in_time = run.counts, share_in_time(run)
    wait_p95_s = percentile(sorted(chain(counts.waits, run.waiting_s)), 0.95)
    starving = sum(waited > asked.wait_p95_s for waited in run.waiting_s)
    left_out = (counts.turned_away + counts.impatient + starving) / max(1, counts.comes)
    return Trial(
        sessions=sessions,
        seed=seed,
        in_time=in_time,
        wait_p95_s=wait_p95_s,
        left_out=left_out,
        holds=in_time >= asked.in_time
        and wait_p95_s <= asked.wait_p95_s
        and left_out <= asked.left_out,
    )
