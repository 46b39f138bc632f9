"""What a run is told as: figures, what the scenario asks of them, rivals, curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scheduler.scenario.pool import Targets
from scheduler.scenario.scenario import Scenario
from scheduler.simulator.baselines import Baseline
from scheduler.simulator.world import Point, Run

_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Spread:
    """Waits or gaps, in seconds."""

    p50: float
    p95: float
    p99: float
    longest: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Returns the percentiles of some values; zeros of none."""
        ordered = sorted(values)
        return cls(
            percentile(ordered, 0.50),
            percentile(ordered, 0.95),
            percentile(ordered, 0.99),
            percentile(ordered, 1.0),
            len(ordered),
        )


def percentile(ordered: Sequence[float], share: float) -> float:
    """Returns the least of the values that `share` of them do not exceed; 0 of none."""
    if not ordered:
        return 0.0
    return ordered[max(1, math.ceil(share * len(ordered) - 1e-9)) - 1]


@dataclass(frozen=True, slots=True)
class Check:
    """A target, and whether it is met."""

    name: str
    value: float
    limit: float
    at_least: bool

    @property
    def met(self) -> bool:
        """Whether it holds."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass(frozen=True, slots=True)
class Report:
    """One run. Shares are 0 to 1, times in seconds, all within the measured time."""

    scenario: Scenario
    exact: bool
    in_time: float
    """Share of the chunks that were there when due. What is never made, because its session
    is between two GPUs, is not in time."""
    chunks: float
    skipped: int
    wait: Spread
    """From a start or resume until the session has compute and its state is there."""
    first_chunk: Spread
    """From there on to the end of its first window; the gathering of frames is not counted.
    With every chunk played it is not known: then the same as `wait`."""
    rejected: float
    refused_starts: int
    arrivals: int
    lost: int
    gpu_hours: float
    bound_hours: float
    one_per_gpu_hours: float
    session_hours: float
    """In which sessions were connected."""
    idle: float
    """Share of that in which they did not compute."""
    moves: int
    parks: int
    restores: int
    boots: int
    deaths: int
    gap: Spread
    """Without a picture after the death of a GPU."""
    baselines: tuple[Baseline, ...]
    points: tuple[Point, ...]
    events: int
    wall_s: float

    @property
    def of_bound(self) -> float:
        """GPU-hours in multiples of the bound."""
        return self.gpu_hours / self.bound_hours if self.bound_hours else 0.0

    @property
    def of_one_per_gpu(self) -> float:
        """GPU-hours in multiples of what one session per GPU takes."""
        return self.gpu_hours / self.one_per_gpu_hours if self.one_per_gpu_hours else 0.0

    @property
    def checks(self) -> tuple[Check, ...]:
        """The targets of the scenario."""
        return tuple(_checks(self, self.scenario.targets))

    @property
    def met(self) -> bool:
        """Whether all of them hold."""
        return all(check.met for check in self.checks)

    def document(self) -> dict[str, Any]:
        """Returns it for JSON."""
        spreads = {"wait": self.wait, "first_chunk": self.first_chunk, "gap": self.gap}
        plain = (
            "exact",
            "in_time",
            "chunks",
            "skipped",
            "rejected",
            "refused_starts",
            "arrivals",
            "lost",
            "gpu_hours",
            "bound_hours",
            "one_per_gpu_hours",
            "of_bound",
            "of_one_per_gpu",
            "session_hours",
            "idle",
            "moves",
            "parks",
            "restores",
            "boots",
            "deaths",
            "events",
            "wall_s",
        )
        return {
            "scenario": self.scenario.model_dump(mode="json"),
            "met": self.met,
            "checks": [{**asdict(check), "met": check.met} for check in self.checks],
            "figures": {
                **{name: getattr(self, name) for name in plain},
                **{f"{name}_s": asdict(spread) for name, spread in spreads.items()},
            },
            "baselines": [asdict(each) for each in self.baselines],
            "points": [asdict(point) for point in self.points],
        }


def share_in_time(run: Run) -> float:
    """Returns the share of the chunks that were there when due; those never made were not."""
    chunks = run.chunks.made + run.counts.skipped
    return 1 - (run.chunks.late + run.counts.skipped) / chunks if chunks else 1.0


def report(scenario: Scenario, run: Run, baselines: Sequence[Baseline], *, exact: bool) -> Report:
    """Puts a run and its rivals together."""
    counts = run.counts
    chunks = run.chunks.made + counts.skipped
    return Report(
        scenario=scenario,
        exact=exact,
        in_time=share_in_time(run),
        chunks=chunks,
        skipped=counts.skipped,
        wait=Spread.of(counts.waits),
        first_chunk=Spread.of(counts.first_chunks),
        rejected=counts.rejects / counts.arrivals if counts.arrivals else 0.0,
        refused_starts=counts.refused_starts,
        arrivals=counts.arrivals,
        lost=counts.lost,
        gpu_hours=run.gpu_s / _HOUR,
        bound_hours=counts.bound_s / _HOUR,
        one_per_gpu_hours=next(
            (each.gpu_hours for each in baselines if each.in_time is None),
            run.connected_s / _HOUR,
        ),
        session_hours=run.connected_s / _HOUR,
        idle=1 - counts.playing_s / run.connected_s if run.connected_s else 0.0,
        moves=counts.moves,
        parks=counts.parks,
        restores=counts.restores,
        boots=run.boots,
        deaths=run.deaths,
        gap=Spread.of(counts.gaps),
        baselines=tuple(baselines),
        points=run.points,
        events=run.events,
        wall_s=run.wall_s,
    )


def _checks(report: Report, targets: Targets) -> Iterator[Check]:
    asked = (
        ("chunks in time", report.in_time, targets.in_time, True),
        ("start and resume wait, p95 s", report.wait.p95, targets.wait_p95_s, False),
        ("arrivals turned away", report.rejected, targets.rejected, False),
        ("GPU-hours / bound", report.of_bound, targets.of_bound, False),
        ("GPU-hours / one per GPU", report.of_one_per_gpu, targets.of_one_per_gpu, False),
        ("processor time, s", report.wall_s, targets.wall_s, False),
    )
    for name, value, limit, at_least in asked:
        if limit is not None:
            yield Check(name, value, limit, at_least)
