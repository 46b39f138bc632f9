"""What every session of a load test will do, and when: drawn from the scenario's seed.

Nothing here knows how the service answers: the load is open, so a slow service is met by as
many sessions and commands as a fast one. Every purpose has a random stream of its own; a
change of one share or distribution leaves all else as it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from random import Random
from typing import Final, TypeVar

from scheduler.scenario import ConfigurationError
from scheduler.scenario.load import LoadSpec
from scheduler.scenario.scenario import Scenario
from scheduler.scenario.visits import Visit, stream, visits

_DEALT: Final = {"wires": 2, "codecs": 3, "networks": 5, "decoding": 7}
"""What is dealt to the sessions in fixed shares, each with a prime number of its own."""
MOST_VISITS: Final = 200_000
"""Sessions of a run, one after the other: all are drawn before it begins."""
_SHORTEST_S: Final = 0.1
"""Of a play or a pause: somebody has to press a key."""


_Name = TypeVar("_Name", bound=str)


class Act(StrEnum):
    """What a user does."""

    START = "start"
    PROMPT = "prompt"
    """Asks for another picture while one plays."""
    PAUSE = "pause"
    RESUME = "resume"
    """Goes on; a clip that has ended meanwhile is started again."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a user does. Times are seconds since the beginning of the run."""

    at_s: float
    act: Act
    prompt: str = ""
    """What is asked for, by a start or a prompt."""


@dataclass(frozen=True, slots=True)
class PlannedVisit:
    """One session, from its arrival to its end."""

    number: int
    """Order of arrival, from 0."""
    process: int
    """Which process of the generator drives it."""
    arrival_s: float
    leave_s: float
    """When it leaves; may lie after the end of the run."""
    wire: str
    """`grpc`, `webrtc` or `chromium`."""
    codec: str
    """`h264` or `vp8`."""
    network: str
    """Name of its network profile."""
    decoded: bool
    """Whether its pictures are decoded and read."""
    live: bool
    """Whether it edits a camera; else a clip."""
    steps: tuple[Step, ...]
    """In order of time, all before it leaves and before the run ends."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run."""

    name: str
    seed: int
    warm_up_s: float
    duration_s: float
    """What is measured, after the warm-up."""
    processes: int
    load: LoadSpec
    """Model, clip, camera, networks and limits."""
    visits: tuple[PlannedVisit, ...]
    """In order of arrival."""

    @property
    def end_s(self) -> float:
        """When the run ends."""
        return self.warm_up_s + self.duration_s

    @property
    def measured_s(self) -> tuple[float, float]:
        """Beginning and end of the time that counts."""
        return self.warm_up_s, self.end_s

    def of(self, process: int) -> tuple[PlannedVisit, ...]:
        """Returns what one process of the generator is to drive."""
        return tuple(visit for visit in self.visits if visit.process == process)


def plan(scenario: Scenario, *, processes: int = 1) -> Plan:
    """Draws a run.

    Args:
        scenario: Who comes, and how they reach the service.
        processes: Over how many processes the sessions are spread, one after the other.

    Raises:
        ConfigurationError: A trace that the scenario names cannot be read, or there are too
            many sessions.
    """
    load, deals = scenario.load, Deals(scenario.seed)
    wires, codecs = _shares(load.wires), _shares(load.codecs)
    networks = _shares({network.name: network.share for network in load.networks})
    end_s = scenario.warm_up + scenario.duration
    planned: list[PlannedVisit] = []
    for visit in visits(scenario):
        if len(planned) == MOST_VISITS:
            raise ConfigurationError(
                f"{scenario.name} has more than {MOST_VISITS:,} sessions: shorten it, or --scale it"
            )
        dealt = deals.of(visit.number)
        arrival_s = max(0.0, scenario.warm_up + visit.at)
        leave_s = arrival_s + visit.length
        planned.append(
            PlannedVisit(
                number=visit.number,
                process=visit.number % processes,
                arrival_s=arrival_s,
                leave_s=leave_s,
                wire=_pick(wires, dealt["wires"]),
                codec=_pick(codecs, dealt["codecs"]),
                network=_pick(networks, dealt["networks"]),
                decoded=dealt["decoding"] < load.decode,
                live=visit.live,
                steps=tuple(_steps(scenario, visit, arrival_s, min(leave_s, end_s))),
            )
        )
    return Plan(
        name=scenario.name,
        seed=scenario.seed,
        warm_up_s=scenario.warm_up,
        duration_s=scenario.duration,
        processes=processes,
        load=load,
        visits=tuple(planned),
    )


class Deals:
    """Deals fixed shares: after any number of sessions each has what it should, by one or two.

    Drawn freely, eight sessions would often have no WebRTC among them. The numbers are
    multiples of the roots of prime numbers, modulo 1 (R. D. Richtmyer, 1951): together they
    fill the unit cube evenly, so that what is dealt for one purpose has nothing to do with
    what is dealt for another.

    Args:
        seed: Where each sequence begins, by purpose.
    """

    def __init__(self, seed: int) -> None:
        self._lines = {
            purpose: (stream(seed, purpose).random(), math.sqrt(prime))
            for purpose, prime in _DEALT.items()
        }

    def of(self, number: int) -> dict[str, float]:
        """Returns a number from 0 to 1 for each purpose."""
        return {
            purpose: (begin + number * step) % 1.0 for purpose, (begin, step) in self._lines.items()
        }


def _shares(weights: Mapping[_Name, float]) -> Sequence[tuple[str, float]]:
    """Returns names with the upper end of their part of 0 to 1."""
    ends, whole = accumulate(weights.values()), sum(weights.values())
    return [(name, end / whole) for name, end in zip(weights, ends, strict=True)]


def _pick(shares: Sequence[tuple[str, float]], at: float) -> str:
    return next((name for name, end in shares if at < end), shares[-1][0])


def _steps(scenario: Scenario, visit: Visit, arrival_s: float, until_s: float) -> Iterator[Step]:
    """Yields what a session does before a moment."""
    random = stream(scenario.seed, f"prompts {visit.number}")
    at, act = arrival_s + visit.think, Act.START
    while at < until_s:
        yield Step(at, act, random.choice(scenario.load.prompts) if act is Act.START else "")
        stop = at + max(_SHORTEST_S, visit.spells.play())
        yield from _prompts(scenario, random, at, min(stop, until_s))
        if stop >= until_s:
            return
        yield Step(stop, Act.PAUSE)
        at, act = stop + max(_SHORTEST_S, visit.spells.pause()), Act.RESUME


def _prompts(scenario: Scenario, random: Random, begin: float, end: float) -> Iterator[Step]:
    """Yields what it asks for while it plays, at random moments."""
    rate = scenario.workload.prompts_per_minute / 60.0
    if not rate:
        return
    at = begin
    while (at := at + random.expovariate(rate)) < end:
        yield Step(at, Act.PROMPT, random.choice(scenario.load.prompts))
