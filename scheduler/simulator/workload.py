"""Who comes when, drawn from a seed.

Every purpose has a random stream of its own, and every session one for what it does, so
that a change of one distribution leaves all else as it was.
"""

from __future__ import annotations

import csv
import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

from scheduler.core.errors import ConfigurationError
from scheduler.simulator.distributions import Sampler
from scheduler.simulator.scenario import ArrivalTrace, Crowd, Diurnal, Scenario, Steady, Workload

_DAY_S = 86_400.0
_GATHERING_S = 120.0
"""Time within which the first sessions of a run come."""
_EARLIER = 8
"""Mean session lengths before the run in which sessions may have begun that are still there."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One session, as its user has it in mind. Times in seconds."""

    number: int
    """Order of arrival, from 0."""
    at: float
    """When it connects, on the clock of the run: 0 is where the measured time begins."""
    length: float
    """From connecting to leaving."""
    live: bool
    think: float
    """From connecting to the first start."""
    spells: Spells
    """How long it plays and pauses, in turn."""


class Spells:
    """Draws the plays and pauses of one session.

    Args:
        workload: The distributions.
        seed: The session's own.
    """

    __slots__ = ("pause", "play")

    def __init__(self, workload: Workload, seed: int) -> None:
        minute = 60.0
        play = workload.play_minutes.sampler(_seeded(seed))
        pause = workload.pause_minutes.sampler(_seeded(seed + 1))
        self.play: Sampler = lambda: minute * play()
        self.pause: Sampler = lambda: minute * pause()


def stream(seed: int, purpose: str) -> Random:
    """Returns the random stream of a purpose."""
    return _seeded(f"{seed}/{purpose}")


def _seeded(seed: int | str) -> Random:
    return Random(seed)  # noqa: S311 - repeatable on purpose


def visits(scenario: Scenario) -> Iterator[Visit]:
    """Yields the sessions in order of arrival, until the end of the measured time."""
    seed, workload = scenario.seed, scenario.workload
    length = workload.session_minutes.sampler(stream(seed, "lengths"))
    think = workload.think_seconds.sampler(stream(seed, "thinking"))
    modes, spells = stream(seed, "modes"), stream(seed, "spells").getrandbits(60)
    numbers = count()
    for at, known_length, known_mode in _arrivals(scenario):
        number = next(numbers)
        drawn, live = 60.0 * length(), modes.random() < workload.live_share
        yield Visit(
            number=number,
            at=at,
            length=drawn if known_length is None else known_length,
            live=live if known_mode is None else known_mode,
            think=think(),
            spells=Spells(workload, spells + 2 * number),
        )


_Arrival = tuple[float, float | None, bool | None]
"""When, and where known how long and whether live."""


def _arrivals(scenario: Scenario) -> Iterator[_Arrival]:
    workload, begin, end = scenario.workload, -60.0 * scenario.warm_up_minutes, _end(scenario)
    sources: list[Iterator[_Arrival]] = [
        _crowd(each, stream(scenario.seed, f"crowd {index}"))
        for index, each in enumerate(workload.crowds)
    ]
    if isinstance(workload.arrivals, ArrivalTrace):
        sources.append(iter(_observed(workload.arrivals)))
    else:
        level = connected(workload.arrivals)
        mean_s = 60.0 * workload.session_minutes.average()
        sources.append(_already_there(scenario, level(begin) / mean_s, begin))
        random = stream(scenario.seed, "arrivals")
        peak = workload.arrivals.connected / mean_s
        sources.append(_poisson(random, lambda t: level(t) / mean_s, peak, begin, end))
    for arrival in heapq.merge(*sources, key=lambda arrival: arrival[0]):
        if arrival[0] >= end:
            return
        yield arrival


def connected(arrivals: Steady | Diurnal) -> Callable[[float], float]:
    """Returns the sessions that are connected on average, as a function of the time."""
    if isinstance(arrivals, Steady):
        return lambda _: arrivals.connected
    middle = arrivals.connected * (1 + arrivals.trough) / 2
    swing = arrivals.connected * (1 - arrivals.trough) / 2
    turn, peak_s = 2 * math.pi / _DAY_S, 3600.0 * arrivals.peak_hour
    return lambda t: middle + swing * math.cos(turn * (t - peak_s))


def _poisson(
    random: Random, rate: Callable[[float], float], most: float, begin: float, end: float
) -> Iterator[_Arrival]:
    """Yields arrivals at a varying rate, by thinning those at the highest one."""
    at = begin
    while (at := at + random.expovariate(most)) < end:
        if random.random() * most < rate(at):
            yield at, None, None


def _already_there(scenario: Scenario, rate: float, begin: float) -> Iterator[_Arrival]:
    """Yields the sessions that began before the run and are still there.

    They come within moments, for what is left of their time: the warm-up is there for that.
    """
    random = stream(scenario.seed, "earlier")
    length = scenario.workload.session_minutes.sampler(random)
    span = _EARLIER * 60.0 * scenario.workload.session_minutes.average()
    found = []
    elapsed = 0.0
    while (elapsed := elapsed + random.expovariate(rate)) < span:
        left = 60.0 * length() - elapsed
        at = begin + random.random() * min(_GATHERING_S, -begin / 2)
        if left > 0:
            found.append((at, left, None))
    yield from sorted(found)


def _crowd(crowd: Crowd, random: Random) -> Iterator[_Arrival]:
    begin = 60.0 * crowd.at_minutes
    for moment in sorted(random.random() for _ in range(crowd.sessions)):
        yield begin + moment * crowd.over_seconds, None, None


def _observed(trace: ArrivalTrace) -> list[_Arrival]:
    try:
        with trace.path.open(newline="") as lines:
            return sorted(
                (
                    float(row["arrive_s"]),
                    float(row["length_s"]) if row.get("length_s") else None,
                    row["mode"] == "live" if row.get("mode") else None,
                )
                for row in csv.DictReader(lines)
            )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(f"{trace.path} is no trace: {type(error).__name__}") from None


def _end(scenario: Scenario) -> float:
    return 3600.0 * scenario.hours
