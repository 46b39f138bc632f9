"""Virtual time, and the pool on it."""

from __future__ import annotations

import pytest

from scheduler.simulator.timeline import Timeline

pytestmark = pytest.mark.unit


def play(timeline: Timeline, end: float) -> None:
    while (happening := timeline.next(end)) is not None:
        action, arguments = happening
        action(*arguments)


def test_things_happen_in_order_and_equal_times_in_the_order_of_planning() -> None:
    timeline, seen = Timeline(0.0), list[tuple[float, str]]()

    def note(name: str) -> None:
        seen.append((timeline.now, name))

    timeline.at(2.0, note, "second")
    timeline.at(1.0, note, "first")
    timeline.at(2.0, note, "third")
    play(timeline, 5.0)
    assert seen == [(1.0, "first"), (2.0, "second"), (2.0, "third")]
    assert timeline.now == 5.0


def test_what_lies_after_the_end_does_not_happen() -> None:
    timeline, seen = Timeline(0.0), list[int]()
    timeline.after(6.0, seen.append, 1)
    play(timeline, 5.0)
    assert seen == []


def test_the_past_is_now() -> None:
    timeline, seen = Timeline(3.0), list[float]()
    timeline.at(1.0, lambda: seen.append(timeline.now))
    play(timeline, 5.0)
    assert seen == [3.0]
