"""What others would make of the same arrivals."""

from __future__ import annotations

from random import Random

import pytest

from scheduler.scenario.pool import ModelCosts
from scheduler.scenario.visits import visits
from scheduler.simulator.baselines import AnyGpu, LeastLoaded, Rivals, late_by_load
from scheduler.simulator.lanes import rhythm_of
from tests.unit.scenario.scenarios import small

pytestmark = pytest.mark.unit


def test_chunks_are_late_where_more_compute_than_there_is_time_for() -> None:
    rates = late_by_load(rhythm_of(ModelCosts(chunk_ms=280)), 1.0, 6)
    assert rates[:4] == [0.0, 0.0, 0.0, 0.0]
    assert rates[5] > 2
    assert rates[6] > rates[5]


def test_late_chunks_are_counted_within_the_measured_time() -> None:
    gpus = AnyGpu(1, [0.0, 0.0, 2.0], 10.0, Random(1))
    gpus.change(0, 1, -10.0)
    gpus.change(0, 1, -5.0)
    assert gpus.late == 20.0
    gpus.change(0, 1, 3.0)
    assert gpus.late == 27.0
    gpus.change(0, -2, 4.0)
    assert gpus.late == 9.0


def test_least_loaded_goes_by_what_it_last_saw() -> None:
    gpus = LeastLoaded(2, [0.0], 10.0, Random(1))
    gpus.change(0, 1, 0.0)
    gpus.sample()
    gpus.change(1, 1, 1.0)
    gpus.change(1, 1, 1.0)
    assert gpus.choose() == 1
    gpus.sample()
    assert gpus.choose() == 0


def test_one_session_per_gpu_takes_a_gpu_as_long_as_a_session_lasts() -> None:
    scenario = small(pool__gpus=1000)
    alone, *_ = Rivals(scenario).run()
    lasting = sum(max(0.0, min(v.at + v.length, 900.0) - max(v.at, 0.0)) for v in visits(scenario))
    assert alone.gpu_hours == pytest.approx(lasting / 3600)
    assert alone.rejected == 0


def test_one_session_per_gpu_turns_away_whom_it_has_no_gpu_for() -> None:
    alone, *_ = Rivals(small(pool__gpus=20)).run()
    assert 0.2 < alone.rejected < 0.9


def test_placing_at_random_is_late_more_often_than_by_load() -> None:
    _, random, least = Rivals(small(duration="1h")).run()
    assert random.in_time is not None
    assert least.in_time is not None
    assert random.in_time < least.in_time < 1
