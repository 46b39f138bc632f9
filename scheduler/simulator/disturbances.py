"""What goes wrong with the GPUs, as the scenario has it."""

from __future__ import annotations

import math
from random import Random

from scheduler.scenario.pool import Reclaim, Storm, Wear
from scheduler.scenario.scenario import Scenario
from scheduler.scenario.visits import stream
from scheduler.simulator.fleet import Fleet, Gpu
from scheduler.simulator.scaling import Autoscaler
from scheduler.simulator.timeline import Timeline


class Disturbances:
    """Storms, reclaims and wear.

    Args:
        scenario: Says which.
        timeline: Virtual time.
        fleet: What they hit.
        scaler: Told when GPUs are taken away.
    """

    def __init__(
        self, scenario: Scenario, timeline: Timeline, fleet: Fleet, scaler: Autoscaler
    ) -> None:
        self._scenario = scenario
        self._timeline = timeline
        self._fleet = fleet
        self._scaler = scaler

    def schedule(self) -> None:
        """Puts all of them on the timeline."""
        for number, each in enumerate(self._scenario.spec.disturbances):
            random = stream(self._scenario.seed, f"disturbance {number}")
            if isinstance(each, Wear):
                self._timeline.after(0.0, self._wear, each, random)
            elif isinstance(each, Storm):
                self._timeline.at(each.at, self._storm, each, random)
            else:
                self._timeline.at(each.at, self._reclaim, each, random)

    def _hit(self, share: float, random: Random) -> list[Gpu]:
        """Returns some of the GPUs that are up."""
        up = [gpu for gpu in self._fleet.gpus.values() if gpu.up]
        return random.sample(up, math.ceil(share * len(up)))

    def _storm(self, storm: Storm, random: Random) -> None:
        for gpu in self._hit(storm.share, random):
            self._timeline.after(random.random() * storm.over, self._fleet.kill, gpu)

    def _reclaim(self, reclaim: Reclaim, random: Random) -> None:
        for gpu in self._hit(reclaim.share, random):
            self._timeline.after(reclaim.notice, self._fleet.kill, gpu)
            self._fleet.reclaim(gpu, reclaim.notice)
        self._scaler.look()

    def _wear(self, wear: Wear, random: Random) -> None:
        """One of the GPUs dies, and the next death is drawn."""
        gpus = list(self._fleet.gpus.values())
        rate = max(1, len(gpus)) / wear.mean
        self._timeline.after(random.expovariate(rate), self._wear_out, wear, random)

    def _wear_out(self, wear: Wear, random: Random) -> None:
        up = [gpu for gpu in self._fleet.gpus.values() if gpu.up]
        if up:
            self._fleet.kill(random.choice(up))
        self._wear(wear, random)
