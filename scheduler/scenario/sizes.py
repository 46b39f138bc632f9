"""The same scenario with more or fewer sessions."""

from __future__ import annotations

import math

from scheduler.core.errors import ConfigurationError
from scheduler.scenario.scenario import Scenario
from scheduler.scenario.workload import (
    MOST,
    Arrivals,
    ArrivalTrace,
    Constant,
    Diurnal,
    Level,
    Poisson,
    Ramp,
    Steady,
    Workload,
)


def scaled(scenario: Scenario, by: float) -> Scenario:
    """Returns a scenario with so many times the sessions; crowds keep at least one.

    Args:
        scenario: What to scale.
        by: Factor, above 0.

    Raises:
        ConfigurationError: Its arrivals are observed ones, the factor is not above 0, or there
            are too many sessions then.
    """
    if not 0 < by < math.inf:
        raise ConfigurationError("a scenario is scaled by a factor above 0")
    workload = scenario.workload
    return _with(
        scenario,
        arrivals=None if workload.arrivals is None else _arrivals(workload.arrivals, by),
        crowds=tuple(
            each.model_copy(update={"sessions": _whole(each.sessions, by)})
            for each in workload.crowds
        ),
    )


def at_level(scenario: Scenario, sessions: int) -> Scenario:
    """Returns a scenario in which exactly so many sessions are connected all the time.

    They come one after the other within the warm-up; what they do stays as it was.

    Args:
        scenario: What to take the sessions' behaviour from.
        sessions: How many, at least 1.
    """
    over = scenario.warm_up / 2
    return _with(scenario, arrivals=Level(kind="level", connected=sessions, over=over), crowds=())


def _with(scenario: Scenario, **changes: object) -> Scenario:
    workload: Workload = scenario.workload.model_copy(update=changes)
    if _largest(workload) > MOST:
        raise ConfigurationError(f"so large, the scenario has more than {MOST:,} sessions")
    return scenario.model_copy(update={"workload": workload})


def _largest(workload: Workload) -> float:
    """Returns the largest number of sessions, at once or a minute, that a workload names."""
    arrivals = workload.arrivals
    numbers = ("connected", "per_minute", "from_per_minute", "to_per_minute")
    named = [getattr(arrivals, number, 0.0) for number in numbers]
    return max(*named, *(each.sessions for each in workload.crowds))


def _whole(sessions: int, by: float) -> int:
    return max(1, math.floor(sessions * by + 0.5))


def _arrivals(arrivals: Arrivals, by: float) -> Arrivals:
    match arrivals:
        case ArrivalTrace():
            raise ConfigurationError("arrivals that were observed cannot be scaled")
        case Steady() | Diurnal():
            return arrivals.model_copy(update={"connected": arrivals.connected * by})
        case Level():
            return arrivals.model_copy(update={"connected": _whole(arrivals.connected, by)})
        case Constant() | Poisson():
            return arrivals.model_copy(update={"per_minute": arrivals.per_minute * by})
        case Ramp():
            ends = ("from_per_minute", "to_per_minute")
            return arrivals.model_copy(update={end: getattr(arrivals, end) * by for end in ends})
