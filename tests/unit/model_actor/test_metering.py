"""The meter of a session: chunks at their commit point, what windows cost, and what is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest

from model_actor.engine import compute
from model_actor.engine.metering import Meter
from model_actor.engine.tracing import WindowTiming
from scheduler.core.effects import Send
from scheduler.core.geometry import Geometry
from scheduler.core.messages import ChunkComplete, GenerationReset, Message
from scheduler.core.metering import Shown
from scheduler.core.run import Run, WindowPlan
from scheduler.metering.wire import tally_in
from tests.unit.model_actor.session_bench import Inverter

pytestmark = pytest.mark.unit

RATE = 24.0
S = 1_000_000


def plans(count: int, *, number: int = 1) -> list[WindowPlan]:
    """Returns the windows that a run begins with."""
    run = Run(number, Geometry(), 7, None)
    planned = []
    for _ in range(count):
        plan = run.plan("a prompt")
        run.dispatch(plan)
        run.finish(plan.index)
        planned.append(plan)
    return planned


def complete(chunk: int, frames: int) -> Send:
    return Send(Message(1, ChunkComplete(chunk, frames, "a prompt")))


def make(meter: Meter, plan: WindowPlan, seconds: float, *, off_path: float = 0.0) -> None:
    """The model makes a window."""
    timing = WindowTiming(0.0, 0.0)
    meter.began(timing)
    timing.compute_s = timing.spent_s = seconds
    meter.made(plan)
    timing.compute_s = timing.spent_s = seconds + off_path
    meter.made(plan)
    meter.settled()


def shown(meter: Meter) -> Shown:
    return tally_in(meter.take()).total


def test_a_chunk_counts_when_it_was_shown_to_its_end() -> None:
    meter = Meter(3, RATE)
    first, second = plans(2)
    make(meter, first, 0.66)
    make(meter, second, 0.5)
    assert (shown(meter).chunks, meter.spent_us) == (0, 1_160_000)
    meter.told(1, complete(0, 9))
    meter.told(1, complete(1, 24))
    assert shown(meter) == Shown(2, 33, 33 * S // 24, 660_000)
    meter.told(1, complete(2, 24))
    assert shown(meter) == Shown(3, 57, 57 * S // 24, 1_160_000)
    assert tally_in(meter.take()).origin == 3


def test_what_ends_after_a_chunk_was_shown_is_added_to_it() -> None:
    meter = Meter(1, RATE)
    (plan,) = plans(1)
    timing = WindowTiming(0.0, 0.0)
    meter.began(timing)
    timing.compute_s = timing.spent_s = 0.3
    meter.made(plan)
    meter.told(1, complete(0, 9))
    meter.told(1, complete(1, 24))
    timing.compute_s = timing.spent_s = 0.4
    meter.made(plan)
    meter.made(plan)
    meter.settled()
    assert (shown(meter).compute_us, meter.spent_us) == (400_000, 400_000)


def test_only_words_of_chunks_count() -> None:
    meter = Meter(1, RATE)
    meter.told(1, Send(Message(1, GenerationReset("why"))))
    assert shown(meter) == Shown()


def test_the_next_actor_counts_on_and_a_chunk_made_again_costs_once() -> None:
    here = Meter(1, RATE)
    first, second = plans(2)
    make(here, first, 0.66)
    make(here, second, 0.5)
    here.told(1, complete(0, 9))
    there = Meter(9, RATE, here.snapshot())
    # Of chunk 1 all was shown, though nobody had said so; chunk 2 is made again from its frame 5.
    there.told(1, complete(1, 24))
    make(there, replace(second, skip=5), 0.8)
    there.told(1, complete(2, 24))
    assert shown(there) == Shown(3, 57, 57 * S // 24, 660_000 + 800_000)
    assert there.spent_us == 800_000
    assert tally_in(there.take()).origin == 1


def test_a_window_that_was_all_shown_costs_nothing_when_it_is_made_again() -> None:
    here = Meter(1, RATE)
    (first,) = plans(1)
    make(here, first, 0.66)
    for chunk, frames in ((0, 9), (1, 24)):
        here.told(1, complete(chunk, frames))
    there = Meter(2, RATE, here.snapshot())
    make(there, replace(first, skip=33), 0.7)
    assert (shown(there).compute_us, there.spent_us) == (660_000, 700_000)


def test_of_a_window_that_was_shown_in_part_the_rest_costs_all_that_making_it_again_took() -> None:
    meter = Meter(2, RATE)
    (first,) = plans(1)
    make(meter, replace(first, skip=9), 0.66)
    meter.told(1, complete(1, 24))
    assert shown(meter).compute_us == 660_000


def test_what_an_abandoned_run_has_made_is_spent_and_never_shown() -> None:
    meter = Meter(1, RATE)
    (first,) = plans(1)
    timing = WindowTiming(0.0, 0.0)
    meter.began(timing)
    meter.abandon(2)
    timing.compute_s = timing.spent_s = 0.5
    meter.made(first)
    meter.settled()
    assert not meter.snapshot().costs
    (again,) = plans(1, number=2)
    make(meter, again, 0.6)
    meter.told(2, complete(0, 9))
    meter.told(2, complete(1, 24))
    assert (shown(meter).compute_us, meter.spent_us) == (600_000, 1_100_000)


async def test_windows_of_one_call_share_its_time_also_where_it_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticks = iter((10.0, 13.0, 20.0, 21.0))
    monkeypatch.setattr(compute.time, "perf_counter", lambda: next(ticks))
    model = Mock(info=Inverter.info)
    computing = compute.Compute(model)
    windows: Any = [Mock(timing=WindowTiming(0.0, 0.0)) for _ in range(2)]
    tasks = dict.fromkeys(windows)
    computing._measured("generate", tasks)
    model.stage.side_effect = ValueError("failed")
    with pytest.raises(ValueError, match="failed"):
        computing._measured("generate", tasks)
    for each in windows:
        timing = each.timing
        assert (timing.compute_s, timing.spent_s, timing.batch) == (2.0, 2.0, 2)
    await computing.close()


def test_a_window_that_is_tried_again_costs_its_last_try_and_all_of_them_are_spent() -> None:
    session = Mock(begin_window=lambda: (plans(1)[0], Mock(), WindowTiming(0.0, 0.0), Mock()))
    window = compute._Window(session)
    window.task()
    window.timing.compute_s = window.timing.spent_s = 2.0
    window.task()
    assert (window.timing.compute_s, window.timing.spent_s) == (0.0, 2.0)


def test_it_says_whether_there_is_more_to_tell() -> None:
    meter = Meter(1, RATE)
    assert meter.changed  # that the session is there
    meter.take()
    assert not meter.changed
    make(meter, plans(1)[0], 0.1)
    assert meter.changed
