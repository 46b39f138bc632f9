"""How many GPUs are up: the scheduler's own policy (`scheduler.scaling`) on virtual time.

What is given back is emptied first, the least used one before the others.
"""

from __future__ import annotations

from scheduler.scaling import Scaler, ScalingRules, Stage, Standing, fit
from scheduler.scenario.pool import PoolSpec
from scheduler.simulator.driver import Driver
from scheduler.simulator.fleet import Fleet, Gpu
from scheduler.simulator.timeline import Timeline


class Autoscaler:
    """Follows `Signals.wanted_by_model`.

    Args:
        spec: What there is.
        timeline: Virtual time.
        driver: Asked for the signals.
        fleet: Told to grow and to shrink.
    """

    def __init__(self, spec: PoolSpec, timeline: Timeline, driver: Driver, fleet: Fleet) -> None:
        scaling = spec.scaling
        self._every = scaling.every
        self._model = spec.model.name
        self._rules = ScalingRules(
            least=0,
            most=spec.gpus,
            shrink_after=scaling.calm,
            spare_share=scaling.spare_share,
            spare=scaling.spare_gpus,
            start_at_once=scaling.surge,
        )
        self._scaler = Scaler(self._rules, self._model)
        self._timeline = timeline
        self._driver = driver
        self._fleet = fleet

    def start(self) -> None:
        """Begins to look, now and then. What is up already counts as needed until now."""
        self._scaler.begin({self._model: len(self._fleet.gpus)}, self._timeline.now)
        self._tick()

    def look(self) -> None:
        """Compares what there is with what is wanted."""
        now = self._timeline.now
        wanted = self._driver.pool.signals(now).wanted_by_model.get(self._model, 0)
        gpus = [gpu for gpu in self._fleet.gpus.values() if not gpu.doomed]
        running = sum(not gpu.draining for gpu in gpus)
        goals = self._scaler.goals({self._model: wanted}, {self._model: running}, now)
        if goals[self._model] == running:
            return
        standings = [_standing(gpu) for gpu in gpus]
        changes = fit(goals[self._model], standings, self._rules.start_at_once)
        for gpu in changes.keep:
            self._fleet.keep(gpu)
        for gpu in changes.drop:
            self._fleet.give_up(gpu)
        for gpu in changes.shed:
            self._fleet.drain(gpu)
        for _ in range(min(changes.start, self._fleet.idle_places)):
            self._fleet.boot()

    def _tick(self) -> None:
        self._timeline.after(self._every, self._tick)
        self.look()


def _standing(gpu: Gpu) -> Standing[Gpu]:
    in_service = Stage.SERVING if gpu.up else Stage.STARTING
    stage = Stage.SHED if gpu.draining else in_service
    return Standing(gpu, stage, (gpu.computing, len(gpu.sessions), -gpu.place))
