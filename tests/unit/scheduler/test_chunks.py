"""Which window runs next."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.chunks import Batching, Candidate, ChunkOrder, Decision, choose

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
    assert choose([], NOW) == Decision()


def test_a_file_waits_until_its_frames_are_needed() -> None:
    decision = choose([FILE], NOW)
    assert decision.keys == ()
    assert decision.wake_at == pytest.approx(NOW + 1.0 - 0.4 - 0.1)
    assert choose([FILE], NOW + 0.5).keys == ("file",)


def test_a_file_goes_before_a_camera_it_could_not_wait_for() -> None:
    camera = replace(LIVE, deadline=NOW + 3.0)
    assert choose([replace(FILE, deadline=NOW + 1.0), camera], NOW).keys == ("live",)
    soon = replace(FILE, deadline=NOW + 0.89)
    assert choose([soon, camera], NOW).keys == ("file",)
    assert choose([replace(soon, ready_at=NOW + 0.1), camera], NOW).keys == ("live",)
    assert choose([replace(soon, ahead=48), camera], NOW).keys == ("live",), "it is far ahead"


def test_the_margin_begins_a_file_earlier() -> None:
    assert choose([FILE], NOW, margin_s=0.6).keys == ("file",)


def test_the_first_window_of_a_run_starts_at_once() -> None:
    assert choose([replace(FILE, deadline=-math.inf, ahead=0)], NOW).keys == ("file",)
    assert choose([replace(FILE, deadline=NOW, ahead=0)], NOW).keys == ("file",)


def test_a_first_window_waits_for_its_source_all_the_same() -> None:
    waiting = replace(FILE, deadline=-math.inf, ready_at=NOW + 2.0, ahead=0)
    assert choose([waiting], NOW) == Decision(wake_at=NOW + 2.0)


def test_a_camera_is_edited_as_soon_as_its_frames_are_there() -> None:
    assert choose([replace(LIVE, ready_at=NOW + 0.2)], NOW) == Decision(wake_at=NOW + 0.2)
    assert choose([replace(LIVE, deadline=NOW + 30.0)], NOW).keys == ("live",)


def test_a_source_that_nobody_knows_of_wakes_nobody() -> None:
    assert choose([replace(LIVE, ready_at=math.inf)], NOW) == Decision()


def test_a_slow_file_gets_no_more_than_one_chunk_ahead() -> None:
    slow = replace(FILE, deadline=NOW + 2.0, cost_s=5.0, ahead=48)
    assert choose([slow], NOW) == Decision(wake_at=NOW + 1.0)
    assert choose([replace(slow, ahead=24)], NOW + 1.0).keys == ("file",)


def test_an_overdue_file_is_not_held_back() -> None:
    assert choose([replace(FILE, deadline=NOW - 0.1, ahead=48)], NOW).keys == ("file",)


def test_a_file_whose_clock_stands_still_waits() -> None:
    assert choose([replace(FILE, deadline=math.inf, ahead=48)], NOW) == Decision()


def test_the_earliest_deadline_goes_first_and_ties_go_by_key() -> None:
    late = replace(LIVE, key="a", deadline=NOW + 3.0)
    early, equal = replace(LIVE, key="c"), replace(LIVE, key="b")
    assert choose([late, early], NOW).keys == ("c",)
    assert choose([late, early, equal], NOW).keys == ("b",)


def test_an_unreleased_earlier_deadline_does_not_hold_the_thread() -> None:
    coming = replace(LIVE, key="a", ready_at=NOW + 0.1, deadline=NOW + 0.2)
    assert choose([coming, LIVE], NOW) == Decision(keys=("live",), wake_at=NOW + 0.1)


def test_files_that_would_collide_are_released_earlier() -> None:
    other = replace(FILE, key="other", deadline=NOW + 1.1)
    decision = choose([FILE, other], NOW)
    assert decision.keys == ()
    assert decision.wake_at == pytest.approx(NOW + 1.1 - 2 * 0.4 - 0.1)
    far = replace(FILE, key="other", deadline=NOW + 1.5)
    assert choose([FILE, far], NOW).wake_at == pytest.approx(NOW + 1.0 - 0.4 - 0.1)


START = Candidate("start", ready_at=NOW, deadline=-math.inf, live=True, cost_s=0.5, ahead=0)


def test_a_start_goes_first_where_all_deadlines_are_kept_after_it() -> None:
    assert choose([replace(LIVE, deadline=NOW + 0.84), START], NOW).keys == ("start",)
    assert choose([replace(LIVE, deadline=NOW + 0.82), START], NOW).keys == ("live",)
    second = replace(LIVE, key="second", deadline=NOW + 1.2)
    assert choose([LIVE, second, START], NOW).keys == ("live",), "the two together are too many"


def test_a_start_waits_for_a_running_window_whose_frames_are_still_coming() -> None:
    coming = replace(LIVE, ready_at=NOW + 0.2, deadline=NOW + 0.65)
    assert choose([coming, START], NOW) == Decision(wake_at=NOW + 0.2)
    assert choose([replace(coming, deadline=NOW + 0.95), START], NOW).keys == ("start",)


def test_a_start_waits_no_longer_than_a_window() -> None:
    late = replace(LIVE, deadline=NOW - 1.0)
    waited = replace(START, ready_at=NOW - 0.4)
    assert choose([late, waited], NOW).keys == ("live",)
    assert choose([late, replace(waited, ready_at=NOW - 0.5)], NOW).keys == ("start",)
    coming = replace(LIVE, ready_at=NOW + 0.3, deadline=NOW + 0.4)
    decision = choose([coming, waited], NOW)
    assert decision.keys == ()
    assert decision.wake_at == pytest.approx(NOW + 0.1)


def test_two_starts_in_a_row_hurt_nobody() -> None:
    tight = replace(LIVE, deadline=NOW + 0.5)
    waited = replace(START, ready_at=NOW - 3.0)
    assert choose([tight, waited], NOW, after_start=True).keys == ("live",)
    assert choose([waited], NOW, after_start=True).keys == ("start",)
    assert choose([replace(tight, ready_at=NOW + 0.1), waited], NOW, after_start=True).keys == (
        "start",
    )


def test_a_start_may_be_told_when_to_begin() -> None:
    begins = {"start": NOW + 0.3}
    assert choose([START], NOW, begins=begins) == Decision(wake_at=NOW + 0.3)
    assert choose([START], NOW + 0.3, begins=begins).keys == ("start",)


A, B, C = (replace(LIVE, key=key, deadline=NOW + 2.0) for key in "abc")
GOOD = Batching({2: 1.6, 3: 1.8})


def test_windows_are_batched_where_it_is_worth_it() -> None:
    assert choose([A, B], NOW).keys == ("a",)
    assert choose([A, B], NOW, batching=GOOD).keys == ("a", "b")
    assert choose([A, B, C], NOW, batching=GOOD).keys == ("a", "b", "c")
    assert choose([A, B], NOW, batching=Batching({2: 1.24})).keys == ("a",)
    assert choose([A, B, C], NOW, batching=Batching({2: 1.3, 3: 1.2})).keys == ("a", "b")


def test_windows_are_not_batched_where_somebody_would_be_late_for_it() -> None:
    tight = replace(A, deadline=NOW + 0.4)
    assert choose([tight, B], NOW, batching=GOOD).keys == ("a",)
    elsewhere = replace(C, first=True, deadline=NOW + 2.0, cost_s=1.2)
    assert choose([A, B, elsewhere], NOW, batching=GOOD).keys == ("a", "b")


def test_a_batch_may_save_those_who_come_after_it() -> None:
    after = replace(C, deadline=NOW + 2.1, first=True, cost_s=1.5)
    assert choose([A, B, after], NOW, batching=GOOD).keys == ("a", "b")


def test_where_all_are_late_a_batch_makes_the_latest_less_late() -> None:
    late = [replace(each, deadline=NOW - 1.0) for each in (A, B)]
    assert choose(late, NOW, batching=GOOD).keys == ("a", "b")
    uneven = [replace(A, deadline=NOW - 9.0), B]
    assert choose(uneven, NOW, batching=GOOD).keys == ("a",)


def test_a_file_that_would_follow_at_once_joins_a_batch() -> None:
    lead, next_ = replace(FILE, key="a"), replace(FILE, key="b", deadline=NOW + 1.3)
    at = NOW + 1.0 - 0.4 - 0.1
    assert choose([lead, next_], at, batching=GOOD).keys == ("a", "b")
    assert choose([lead, next_], at).keys == ("a",)
    later = replace(next_, deadline=NOW + 1.5)
    assert choose([lead, later], at, batching=GOOD).keys == ("a",), "its prompt may yet change"
    ahead = replace(next_, ahead=48)
    assert choose([lead, ahead], at, batching=GOOD).keys == ("a",), "it is far ahead"


def test_files_are_tried_as_a_batch_early_enough_to_be_late_for_nothing() -> None:
    lead, other = replace(FILE, key="a"), replace(FILE, key="b", deadline=NOW + 1.9)
    trial = Batching(trial=2)
    early = NOW + 1.0 - 0.4 - 0.1 - 2 * 0.4
    assert choose([lead, other], early - 0.1, batching=trial).wake_at == pytest.approx(early)
    assert choose([lead, other], early + 1e-6, batching=trial).keys == ("a", "b")
    coming = replace(other, ready_at=NOW + 1.0)
    assert choose([lead, coming], early + 1e-6, batching=trial).keys == ()


def test_first_windows_are_batched_with_first_windows_only() -> None:
    first = replace(START, first=True)
    other = replace(first, key="tart")
    assert choose([first, A], NOW, batching=GOOD).keys == ("start",)
    assert choose([first, other, A], NOW, batching=GOOD).keys == ("start", "tart")


def test_a_size_is_tried_where_even_no_gain_makes_nobody_late() -> None:
    trial = Batching(trial=2)
    assert choose([A, B], NOW, batching=trial).keys == ("a", "b")
    assert choose([replace(A, deadline=NOW + 0.7), B], NOW, batching=trial).keys == ("a",)
    assert choose([A, B, replace(C, deadline=NOW + 1.1)], NOW, batching=trial).keys == ("c", "a")
    late = replace(C, deadline=NOW + 0.3)
    assert choose([A, B, late], NOW, batching=trial).keys == ("c",), "somebody is late already"
    assert choose([A, B, START], NOW, batching=trial).keys == ("start",)


def test_a_live_session_that_starts_is_put_beside_the_others() -> None:
    order = ChunkOrder()
    running = replace(LIVE, ready_at=NOW - 0.3, deadline=NOW + 9.0)
    assert order.decide([running], NOW - 0.3).keys == ("live",)
    # Its windows would be ready 0.3 s after those of the other, which take 0.4 s.
    start = replace(START, cost_s=0.4)
    decision = order.decide([start], NOW)
    assert decision.keys == ()
    assert decision.wake_at == pytest.approx(NOW + 0.1)
    assert order.decide([start], NOW + 0.05).keys == (), "its turn stays the same"
    assert order.decide([start], NOW + 0.1001).keys == ("start",)


def test_phases_are_a_matter_of_steady_windows() -> None:
    order = ChunkOrder()
    order.decide([replace(LIVE, ready_at=NOW - 0.3, deadline=NOW + 9.0, cost_s=0.2)], NOW - 0.3)
    start = replace(START, cost_s=0.5, first=True, ready_at=NOW - 0.05)
    assert order.decide([start], NOW - 0.05).keys == ("start",), "the other's take 0.2 s only"


def test_sessions_that_start_one_after_the_other_keep_apart() -> None:
    order = ChunkOrder()
    assert order.decide([replace(START, cost_s=0.3)], NOW).keys == ("start",)
    second = replace(START, key="second", cost_s=0.3, ready_at=NOW + 1.1)
    assert order.decide([second], NOW + 1.1).wake_at == pytest.approx(NOW + 1.3)


def test_a_file_or_a_session_alone_starts_at_once() -> None:
    order = ChunkOrder()
    order.decide([replace(LIVE, ready_at=NOW - 0.3, deadline=NOW + 9.0)], NOW - 0.3)
    assert order.decide([replace(START, live=False)], NOW).keys == ("start",)
    order.forget("live")
    order.forget("start")
    assert order.decide([START], NOW).keys == ("start",)


def test_sessions_that_were_not_heard_of_for_long_take_no_room() -> None:
    order = ChunkOrder()
    order.decide([replace(LIVE, ready_at=NOW - 3.3, deadline=NOW + 9.0)], NOW - 3.3)
    assert order.decide([START], NOW).keys == ("start",)


def test_a_start_that_was_given_up_gets_a_new_phase() -> None:
    order = ChunkOrder()
    order.decide([replace(LIVE, ready_at=NOW - 0.3, deadline=NOW + 9.0)], NOW - 0.3)
    start = replace(START, cost_s=0.4)
    assert order.decide([start], NOW).keys == ()
    assert order.decide([], NOW + 0.02).keys == ()
    assert order.decide([start], NOW + 0.04).wake_at == pytest.approx(NOW + 0.1)


@given(candidates, times(0, 100))
def test_what_is_chosen_was_there_and_of_its_class_the_most_urgent(
    found: list[Candidate], now: float
) -> None:
    by_key = {each.key: each for each in found}
    for key in choose(found, now).keys:
        chosen = by_key[key]
        assert chosen.ready_at <= now
        rivals = [each for each in found if each.starts is chosen.starts and each.ready_at <= now]
        if chosen.starts:
            assert chosen.ready_at == min(each.ready_at for each in rivals)
        else:
            live = [each for each in rivals if each.live]
            assert all((chosen.deadline, key) <= (each.deadline, each.key) for each in live)


@given(candidates, times(0, 100))
def test_with_something_released_the_thread_is_used(found: list[Candidate], now: float) -> None:
    running = [each for each in found if not each.starts and each.ready_at <= now]
    if any(each.live or each.deadline <= now for each in running):
        assert choose(found, now).keys


@given(candidates, times(0, 100))
def test_the_wake_up_is_in_the_future_and_early_enough(found: list[Candidate], now: float) -> None:
    decision = choose(found, now)
    live = [each.ready_at for each in found if each.live and now < each.ready_at < math.inf]
    if decision.wake_at is not None:
        assert decision.wake_at > now
        assert not live or decision.wake_at <= min(live)
    else:
        assert not live
        assert decision.keys or not any(each.starts and each.ready_at <= now for each in found)


@given(candidates, times(0, 100))
def test_the_order_of_the_candidates_does_not_matter(found: list[Candidate], now: float) -> None:
    assert choose(found, now) == choose(found[::-1], now)
