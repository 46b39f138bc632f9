"""What simpler services would make of the same arrivals.

* One session per GPU: a GPU is taken from connecting to leaving, as hosted services do it.
* Random: every session goes to any GPU and stays there.
* Least loaded: it goes to one that had the fewest computing sessions when last looked at,
  which was up to ten seconds ago, and stays there.

The last two have all GPUs of the pool up all the time, admit everybody and move nobody;
their chunks are played with evenly spread phases, which flatters them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from scheduler.core.chunk_phases import staggered
from scheduler.core.chunk_play import Lane, Member, Rhythm
from scheduler.scenario.scenario import Scenario
from scheduler.scenario.visits import Visit, stream, visits
from scheduler.simulator.lanes import rhythm_of
from scheduler.simulator.timeline import Timeline

SAMPLED_EVERY_S = 10.0
"""How old a load may be by which `least-loaded` goes."""
_PLAYED_PERIODS = 12


@dataclass(frozen=True, slots=True)
class Baseline:
    """What came of one of them, within the measured time."""

    name: str
    gpu_hours: float
    in_time: float | None
    """Share of chunks in time; None where every session has a GPU to itself."""
    rejected: float
    """Share of arrivals turned away, with the GPUs that the pool has."""


class AnyGpu:
    """Sessions on GPUs that take everybody; counts late chunks.

    Args:
        gpus: How many there are.
        late_per_s: By how many sessions compute on a GPU.
        end: When the measured time ends; it begins at 0.
        random: Where it draws from.
    """

    def __init__(self, gpus: int, late_per_s: Sequence[float], end: float, random: Random) -> None:
        self.late = 0.0
        """Until the end, if nothing changes any more."""
        self._late_per_s = late_per_s
        self._computing = [0] * gpus
        self._end = end
        self._random = random

    def choose(self) -> int:
        """Returns the GPU of a session that arrives."""
        return self._random.randrange(len(self._computing))

    def change(self, gpu: int, by: int, now: float) -> None:
        """One more session computes on a GPU, or one less."""
        before = self._computing[gpu]
        self._computing[gpu] = after = before + by
        more = self._of(after) - self._of(before)
        if more:
            self.late += more * (self._end - max(now, 0.0))

    def sample(self) -> None:
        """It is time to look at the load."""

    def _of(self, computing: int) -> float:
        known = self._late_per_s
        if computing < len(known):
            return known[computing]
        # As overloaded as the last one known, nothing is in time.
        return known[-1] + computing - len(known) + 1


class LeastLoaded(AnyGpu):
    """The same; each session goes where the fewest computed when the load was sampled."""

    def __init__(self, gpus: int, late_per_s: Sequence[float], end: float, random: Random) -> None:
        super().__init__(gpus, late_per_s, end, random)
        self._candidates: Sequence[int] = range(gpus)

    def choose(self) -> int:
        """As above."""
        return self._random.choice(self._candidates)

    def sample(self) -> None:
        """As above."""
        least = min(self._computing)
        self._candidates = [gpu for gpu, n in enumerate(self._computing) if n == least]


def late_by_load(rhythm: Rhythm, live_share: float, most: int) -> list[float]:
    """Returns the late chunks per second of a GPU, by how many sessions compute on it.

    A chunk that an overloaded GPU does not come to make is late too.

    Args:
        rhythm: The windows of the model.
        live_share: Share of the sessions that are live.
        most: Up to how many sessions.
    """
    rates = [0.0]
    seconds = _PLAYED_PERIODS * rhythm.period_s
    for sessions in range(1, most + 1):
        lane = Lane(rhythm)
        for number, phase in enumerate(staggered(sessions, rhythm.period_s)):
            member = Member(number < round(live_share * sessions), phase)
            lane.join(str(number), -seconds, member)
        lane.run(0.0)
        tally = lane.run(seconds)
        wanted = sessions / rhythm.period_s
        in_time = (tally.chunks - tally.late) / seconds
        rates.append(max(0.0, wanted - in_time) if tally.late else 0.0)
    return rates


class Rivals:
    """Walks through the arrivals once, for all of them.

    Args:
        scenario: What to run.
    """

    def __init__(self, scenario: Scenario) -> None:
        spec = scenario.spec
        rhythm = rhythm_of(spec.model)
        rates = late_by_load(rhythm, scenario.workload.live_share, 2 * spec.compute_slots + 2)
        self._scenario, self._gpus = scenario, spec.gpus
        self._period_s = rhythm.period_s
        self._end = scenario.duration
        self._timeline = Timeline(-scenario.warm_up)
        draws = (stream(scenario.seed, f"placing {name}") for name in ("at random", "by load"))
        self._placing: dict[str, AnyGpu] = {
            "random": AnyGpu(spec.gpus, rates, self._end, next(draws)),
            "least loaded, 10 s old": LeastLoaded(spec.gpus, rates, self._end, next(draws)),
        }
        self._played_s = self._connected_s = 0.0
        self._taken: list[float] = []
        """When the GPUs are free again that one session each has."""
        self._arrivals = self._rejected = 0

    def run(self) -> tuple[Baseline, ...]:
        """Returns what came of each."""
        coming = visits(self._scenario)
        self._expect(coming)
        self._look()
        while (happening := self._timeline.next(self._end)) is not None:
            action, arguments = happening
            action(*arguments)
        chunks = self._played_s / self._period_s
        hours = self._gpus * self._end / 3600.0
        return (
            Baseline(
                "one session per GPU",
                self._connected_s / 3600.0,
                None,
                self._rejected / max(1, self._arrivals),
            ),
            *(
                Baseline(name, hours, 1 - placing.late / max(1.0, chunks), 0.0)
                for name, placing in self._placing.items()
            ),
        )

    def _expect(self, coming: Iterator[Visit]) -> None:
        visit = next(coming, None)
        if visit is not None:
            self._timeline.at(visit.at, self._arrive, visit, coming)

    def _look(self) -> None:
        for placing in self._placing.values():
            placing.sample()
        self._timeline.after(SAMPLED_EVERY_S, self._look)

    def _arrive(self, visit: Visit, coming: Iterator[Visit]) -> None:
        self._expect(coming)
        ends_at = visit.at + visit.length
        self._connected_s += self._measured(visit.at, ends_at)
        self._take(visit.at, ends_at)
        homes = [placing.choose() for placing in self._placing.values()]
        self._timeline.after(visit.think, self._play, visit, ends_at, homes)

    def _take(self, at: float, ends_at: float) -> None:
        """A GPU is taken for one session, if there is one."""
        while self._taken and self._taken[0] <= at:
            heapq.heappop(self._taken)
        self._arrivals += at >= 0
        if len(self._taken) < self._gpus:
            heapq.heappush(self._taken, ends_at)
        else:
            self._rejected += at >= 0

    def _play(self, visit: Visit, ends_at: float, homes: list[int]) -> None:
        now = self._timeline.now
        until = min(ends_at, now + visit.spells.play())
        if until <= now:
            return
        self._played_s += self._measured(now, until)
        self._change(homes, 1)
        self._timeline.at(until, self._pause, visit, ends_at, homes)

    def _pause(self, visit: Visit, ends_at: float, homes: list[int]) -> None:
        self._change(homes, -1)
        self._timeline.after(visit.spells.pause(), self._play, visit, ends_at, homes)

    def _change(self, homes: list[int], by: int) -> None:
        now = self._timeline.now
        for placing, home in zip(self._placing.values(), homes, strict=True):
            placing.change(home, by, now)

    def _measured(self, begin: float, end: float) -> float:
        """Returns the part of a time that is measured."""
        return max(0.0, min(end, self._end) - max(begin, 0.0))
