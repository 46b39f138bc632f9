"""Who comes when, drawn from a seed.

Every purpose has a random stream of its own, and every session one for what it does, so
that a change of one distribution leaves all else as it was.
"""

from __future__ import annotations

import csv
import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

from scheduler.core.errors import ConfigurationError
from scheduler.scenario.distributions import Sampler
from scheduler.scenario.scenario import Scenario
from scheduler.scenario.workload import (
    Arrivals,
    ArrivalTrace,
    Constant,
    Crowd,
    Diurnal,
    Level,
    Poisson,
    Ramp,
    Steady,
    Workload,
    connected,
    rate,
)

_GATHERING_S = 120.0
"""Time within which the first sessions of a run come."""
_EARLIER = 8
"""Mean session lengths before the run in which sessions may have begun that are still there."""
_SHORTEST_S = 0.1
"""Of a session that is followed by the next at once, so that time goes on."""


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
    """Draws the plays and pauses of one session, in seconds.

    Args:
        workload: The distributions.
        seed: The session's own.
    """

    __slots__ = ("pause", "play")

    def __init__(self, workload: Workload, seed: int) -> None:
        self.play: Sampler = workload.play.sampler(_seeded(seed))
        self.pause: Sampler = workload.pause.sampler(_seeded(seed + 1))


def stream(seed: int, purpose: str) -> Random:
    """Returns the random stream of a purpose."""
    return _seeded(f"{seed}/{purpose}")


def _seeded(seed: int | str) -> Random:
    return Random(seed)  # noqa: S311 - repeatable on purpose


def visits(scenario: Scenario) -> Iterator[Visit]:
    """Yields the sessions in order of arrival, until the end of the measured time.

    Raises:
        ConfigurationError: A trace that it names cannot be read.
    """
    seed, workload = scenario.seed, scenario.workload
    length = workload.session.sampler(stream(seed, "lengths"))
    think = workload.think.sampler(stream(seed, "thinking"))
    modes, spells = stream(seed, "modes"), stream(seed, "spells").getrandbits(60)
    numbers = count()
    for at, known_length, known_mode in _all_arrivals(scenario):
        number = next(numbers)
        drawn, live = length(), modes.random() < workload.live_share
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


def _all_arrivals(scenario: Scenario) -> Iterator[_Arrival]:
    workload = scenario.workload
    sources = [
        _crowd(each, stream(scenario.seed, f"crowd {index}"))
        for index, each in enumerate(workload.crowds)
    ]
    if workload.arrivals is not None:
        sources.extend(_arrivals(scenario, workload.arrivals))
    for arrival in heapq.merge(*sources, key=lambda arrival: arrival[0]):
        if arrival[0] >= scenario.duration:
            return
        yield arrival


def _arrivals(scenario: Scenario, arrivals: Arrivals) -> Iterator[Iterator[_Arrival]]:
    """Yields what the arrivals consist of, each in order."""
    begin, end, random = -scenario.warm_up, scenario.duration, stream(scenario.seed, "arrivals")
    match arrivals:
        case ArrivalTrace():
            yield iter(_observed(arrivals))
        case Steady() | Diurnal():
            level, mean_s = connected(arrivals), scenario.workload.session.average()
            yield _already_there(scenario, level(begin) / mean_s, begin)
            peak = arrivals.connected / mean_s
            yield _poisson(random, lambda t: level(t) / mean_s, peak, begin, end)
        case Level():
            yield _in_turn(scenario, arrivals, begin, end)
        case Constant(per_minute=often):
            yield _evenly(60.0 / often, begin, end)
        case Poisson(per_minute=often):
            yield _poisson(random, rate(arrivals), often / 60.0, begin, end)
        case Ramp():
            most = max(arrivals.from_per_minute, arrivals.to_per_minute) / 60.0
            yield _poisson(random, rate(arrivals), most, begin, end)


def _poisson(
    random: Random, rate: Callable[[float], float], most: float, begin: float, end: float
) -> Iterator[_Arrival]:
    """Yields arrivals at a varying rate, by thinning those at the highest one."""
    at = begin
    while (at := at + random.expovariate(most)) < end:
        if random.random() * most < rate(at):
            yield at, None, None


def _evenly(period_s: float, begin: float, end: float) -> Iterator[_Arrival]:
    """Yields arrivals that are equally far apart, the first after half of that."""
    for number in count():
        at = begin + (number + 0.5) * period_s
        if at >= end:
            return
        yield at, None, None


def _in_turn(scenario: Scenario, level: Level, begin: float, end: float) -> Iterator[_Arrival]:
    """Yields so many arrivals, and one more whenever one leaves."""
    length = scenario.workload.session.sampler(stream(scenario.seed, "in turn"))
    free = [begin + level.over * place / level.connected for place in range(level.connected)]
    while free[0] < end:
        at, lasts = free[0], max(_SHORTEST_S, length())
        yield at, lasts, None
        heapq.heapreplace(free, at + lasts)


def _already_there(scenario: Scenario, rate: float, begin: float) -> Iterator[_Arrival]:
    """Yields the sessions that began before the run and are still there.

    They come within moments, for what is left of their time: the warm-up is there for that.
    """
    random = stream(scenario.seed, "earlier")
    length = scenario.workload.session.sampler(random)
    span = _EARLIER * scenario.workload.session.average()
    found = []
    elapsed = 0.0
    while (elapsed := elapsed + random.expovariate(rate)) < span:
        left = length() - elapsed
        at = begin + random.random() * min(_GATHERING_S, -begin / 2)
        if left > 0:
            found.append((at, left, None))
    yield from sorted(found)


def _crowd(crowd: Crowd, random: Random) -> Iterator[_Arrival]:
    for moment in sorted(random.random() for _ in range(crowd.sessions)):
        yield crowd.at + moment * crowd.over, None, None


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
