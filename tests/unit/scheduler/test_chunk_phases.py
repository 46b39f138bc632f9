"""When in a second which session has its turn."""

from __future__ import annotations

import pytest

from scheduler.core.chunk_phases import phase_delay, staggered, worst_wait

pytestmark = pytest.mark.unit


def test_sessions_that_do_not_collide_do_not_wait() -> None:
    assert worst_wait([], 0.3, 1.0) == 0
    assert worst_wait([0.2], 0.3, 1.0) == 0
    assert worst_wait([0.0, 0.3, 0.6], 0.3, 1.0) == pytest.approx(0)


def test_of_those_that_collide_the_last_waits_longest() -> None:
    assert worst_wait([0.0, 0.1], 0.3, 1.0) == pytest.approx(0.2)
    assert worst_wait([5.0, 7.1, 0.2], 0.3, 1.0) == pytest.approx(0.4)


def test_a_wait_goes_on_over_the_end_of_a_period() -> None:
    assert worst_wait([0.9, 0.0], 0.3, 1.0) == pytest.approx(0.2)
    assert worst_wait([0.8, 0.9, 0.25], 0.3, 1.0) == pytest.approx(0.2)
    assert worst_wait([0.7, 0.7, 0.1, 0.1], 0.25, 1.0) == pytest.approx(0.35)


def test_the_first_session_and_one_with_room_begin_at_once() -> None:
    assert phase_delay([], 0.4, 0.3, 1.0) == 0
    assert phase_delay([0.0], 0.4, 0.3, 1.0) == 0


def test_one_that_collides_goes_behind_those_that_run() -> None:
    assert phase_delay([0.0], 0.1, 0.3, 1.0) == pytest.approx(0.2)
    assert phase_delay([0.0, 0.3], 0.55, 0.3, 1.0) == pytest.approx(0.05)
    assert phase_delay([10.0, 7.3], 3.55, 0.3, 1.0) == pytest.approx(0.05), "modulo the period"


def test_one_that_would_be_in_the_way_a_moment_later_goes_behind() -> None:
    assert phase_delay([0.2], 0.1, 0.15, 1.0) == pytest.approx(0.0)
    assert phase_delay([0.2], 0.15, 0.2, 1.0) == pytest.approx(0.2)


def test_the_delay_is_never_longer_than_a_window() -> None:
    # The next free moment is 0.4 away.
    delay = phase_delay([0.0, 0.25], 0.1, 0.25, 1.0)
    assert delay == pytest.approx(0.25)
    assert worst_wait([0.0, 0.25, 0.1 + delay], 0.25, 1.0) == pytest.approx(0.15)
    assert phase_delay([0.0, 0.25], 0.0, 0.25, 1.0) == 0, "all of it would not help"


def test_where_there_is_no_room_nothing_is_waited_for() -> None:
    assert phase_delay([0.0, 0.3, 0.6], 0.1, 0.3, 1.0) == 0


def test_even_phases() -> None:
    assert staggered(0, 1.0) == ()
    assert staggered(4, 1.0) == (0.0, 0.25, 0.5, 0.75)
