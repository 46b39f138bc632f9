"""An output that is recorded; see `gateway.fanout`."""

from __future__ import annotations

import pytest

from gateway.rungs import BITRATES, MAIN
from tests.unit.gateway.test_fanout import Bench, Demand, Watcher

pytestmark = pytest.mark.unit


def test_a_recorder_is_given_frames_from_a_keyframe_on_and_the_actor_hears_of_it() -> None:
    bench, watcher, recorder = Bench(), Watcher(), Watcher()
    bench.output.join(watcher)
    bench.show(0, 1, key=0)
    bench.demands.clear()
    bench.output.record(recorder)
    assert bench.demands == [Demand(MAIN, wanted=True, keyframe=True, recorded=True)]
    bench.show(2, 3, key=3)
    assert (watcher.numbers, recorder.numbers) == ([0, 1, 2, 3], [3])
    bench.demands.clear()
    bench.output.leave(recorder)
    assert bench.demands == [Demand(MAIN, wanted=True)]
    bench.show(4)
    assert recorder.numbers == [3]


def test_a_recorder_alone_makes_the_output_wanted() -> None:
    bench, recorder = Bench(), Watcher()
    bench.output.record(recorder)
    assert bench.output.wanted == ((MAIN, 0, True),)
    bench.show(0, 1, key=0)
    assert recorder.numbers == [0, 1]
    bench.demands.clear()
    bench.output.leave(recorder)
    assert bench.demands == [Demand(MAIN, wanted=False)]


def test_a_refresh_takes_the_picture_from_nobody_and_is_not_repeated_at_once() -> None:
    bench, recorder = Bench(), Watcher()
    bench.output.record(recorder)
    bench.show(0, key=0)
    bench.asked()
    bench.output.refresh()
    bench.output.refresh()
    assert bench.asked() == [MAIN]
    bench.show(1, 2, key=2)
    assert recorder.numbers == [0, 1, 2]
    bench.output.refresh()
    assert bench.asked() == [MAIN], "the one before has come"


def test_a_recorder_is_no_network_that_rates_follow() -> None:
    bench, watcher, recorder = Bench(), Watcher(), Watcher()
    bench.output.record(recorder)
    bench.output.join(watcher)
    bench.show(0, key=0)
    bench.demands.clear()
    bench.output.estimate(watcher, BITRATES[MAIN][0])
    assert [each.bitrate for each in bench.demands] == [BITRATES[MAIN][0]]


def test_a_new_actor_hears_that_the_output_is_recorded() -> None:
    bench, recorder = Bench(), Watcher()
    bench.output.record(recorder)
    bench.show(0, key=0)
    bench.demands.clear()
    bench.output.demand_again()
    assert [each.recorded for each in bench.demands] == [True]
