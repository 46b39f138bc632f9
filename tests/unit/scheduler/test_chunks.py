"""Which window runs next."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.chunks import Candidate, Decision, choose, released_at

pytestmark = pytest.mark.unit

NOW = 50.0
FILE = Candidate("file", ready_at=0.0, deadline=NOW + 1.0, live=False, cost_s=0.4, ahead=24)
LIVE = Candidate("live", ready_at=NOW, deadline=NOW + 1.0, live=True, cost_s=0.4, ahead=0)


def times(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


candidates = st.lists(
    st.builds(
        Candidate,
        key=st.text("abcdefgh", min_size=1, max_size=3),
        ready_at=times(0, 100) | st.just(math.inf),
        deadline=times(0, 100) | st.sampled_from([-math.inf, math.inf]),
        live=st.booleans(),
        cost_s=times(0, 3),
        ahead=st.integers(0, 80),
    ),
    unique_by=lambda each: each.key,
    max_size=6,
)


def test_nothing_to_run_means_nothing_to_wake_for() -> None:
    assert choose([], NOW) == Decision(key=None, wake_at=None)


def test_a_file_waits_until_its_frames_are_needed() -> None:
    decision = choose([FILE], NOW)
    assert decision.key is None
    assert decision.wake_at == pytest.approx(NOW + 1.0 - 0.4 - 0.1)
    assert choose([FILE], NOW + 0.5).key == "file"


def test_the_margin_begins_a_file_earlier() -> None:
    assert choose([FILE], NOW, margin_s=0.6).key == "file"


def test_the_first_window_of_a_run_starts_at_once() -> None:
    assert choose([replace(FILE, deadline=-math.inf, ahead=0)], NOW).key == "file"
    assert choose([replace(FILE, deadline=NOW, ahead=0)], NOW).key == "file"


def test_a_first_window_waits_for_its_source_all_the_same() -> None:
    waiting = replace(FILE, deadline=-math.inf, ready_at=NOW + 2.0, ahead=0)
    assert choose([waiting], NOW) == Decision(key=None, wake_at=NOW + 2.0)


def test_a_camera_is_edited_as_soon_as_its_frames_are_there() -> None:
    assert choose([replace(LIVE, ready_at=NOW + 0.2)], NOW) == Decision(None, NOW + 0.2)
    assert choose([replace(LIVE, deadline=NOW + 30.0)], NOW).key == "live"


def test_a_source_that_nobody_knows_of_wakes_nobody() -> None:
    assert choose([replace(LIVE, ready_at=math.inf)], NOW) == Decision(None, None)


def test_a_slow_file_gets_no_more_than_one_chunk_ahead() -> None:
    slow = replace(FILE, deadline=NOW + 2.0, cost_s=5.0, ahead=48)
    assert choose([slow], NOW) == Decision(key=None, wake_at=NOW + 1.0)
    assert choose([replace(slow, ahead=24)], NOW + 1.0).key == "file"


def test_an_overdue_file_is_not_held_back() -> None:
    assert choose([replace(FILE, deadline=NOW - 0.1, ahead=48)], NOW).key == "file"


def test_a_file_whose_clock_stands_still_waits() -> None:
    assert choose([replace(FILE, deadline=math.inf, ahead=48)], NOW) == Decision(None, None)


def test_the_earliest_deadline_goes_first_and_ties_go_by_key() -> None:
    late = replace(LIVE, key="a", deadline=NOW + 3.0)
    early, equal = replace(LIVE, key="c"), replace(LIVE, key="b")
    assert choose([late, early], NOW).key == "c"
    assert choose([late, early, equal], NOW).key == "b"


def test_an_unreleased_earlier_deadline_does_not_hold_the_thread() -> None:
    coming = replace(LIVE, key="a", ready_at=NOW + 0.1, deadline=NOW + 0.2)
    assert choose([coming, LIVE], NOW) == Decision(key="live", wake_at=NOW + 0.1)


@given(candidates, times(0, 100))
def test_what_is_chosen_is_the_released_one_with_the_earliest_deadline(
    found: list[Candidate], now: float
) -> None:
    released = [each for each in found if released_at(each, now, 0.1) <= now]
    decision = choose(found, now)
    if not released:
        assert decision.key is None
    else:
        (chosen,) = (each for each in released if each.key == decision.key)
        assert all((chosen.deadline, chosen.key) <= (each.deadline, each.key) for each in released)


@given(candidates, times(0, 100))
def test_nothing_is_released_before_its_source_is_there(found: list[Candidate], now: float) -> None:
    assert all(released_at(each, now, 0.1) >= each.ready_at for each in found)


@given(candidates, times(0, 100))
def test_the_wake_up_is_in_the_future_and_misses_no_release(
    found: list[Candidate], now: float
) -> None:
    wake_at = choose(found, now).wake_at
    releases = [released_at(each, now, 0.1) for each in found]
    if wake_at is None:
        assert all(at <= now or at == math.inf for at in releases)
    else:
        assert wake_at > now
        assert not any(now < at < wake_at for at in releases)


@given(candidates, times(0, 100))
def test_the_order_of_the_candidates_does_not_matter(found: list[Candidate], now: float) -> None:
    assert choose(found, now) == choose(found[::-1], now)
