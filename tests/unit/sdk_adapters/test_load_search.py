"""The search for a capacity: which number of sessions comes next, and when it is over."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import pytest

from sdk_adapters.harness.search import Found, Rules, bounds, step, tallied

pytestmark = pytest.mark.unit

Oracle = Callable[[int], bool]


def searched(oracle: Oracle, rules: Rules) -> tuple[Found, list[tuple[int, bool]]]:
    """Searches to the end; returns the answer and the trials."""
    trials: list[tuple[int, bool]] = []
    while True:
        wanted = step(tallied(trials), rules)
        if isinstance(wanted, Found):
            return wanted, trials
        trials.append((wanted, oracle(wanted)))


def test_from_a_right_guess_four_trials_settle_the_limit() -> None:
    found, trials = searched(lambda sessions: sessions <= 7, Rules(guess=7))
    assert found.interval == (7, 8)
    assert found.confirmed
    assert sorted(trials) == [(7, True), (7, True), (8, False), (8, False)]


def test_it_goes_up_in_growing_steps_until_a_number_fails() -> None:
    _, trials = searched(lambda sessions: sessions <= 90, Rules(guess=8))
    up = [sessions for sessions, _ in trials[:6]]
    assert up == [8, 10, 14, 22, 38, 70]


def test_a_service_that_serves_nobody_has_no_capacity() -> None:
    found, _ = searched(lambda _: False, Rules(guess=5))
    assert found.interval == (0, 1)
    assert found.confirmed


def test_what_holds_at_the_most_that_is_tried_is_a_lower_bound() -> None:
    found, _ = searched(lambda _: True, Rules(guess=1, most=100))
    assert found.interval == (100, None)
    assert not found.confirmed


def test_one_false_failure_on_the_way_is_found_out() -> None:
    false = iter([False])
    found, _ = searched(
        lambda sessions: next(false, True) if sessions == 12 else sessions <= 20, Rules(guess=12)
    )
    assert found.interval == (20, 21)


def test_one_false_success_beyond_the_limit_is_found_out() -> None:
    lucky = iter([True])
    found, _ = searched(
        lambda sessions: next(lucky, False) if sessions == 11 else sessions <= 10, Rules(guess=9)
    )
    assert found.interval == (10, 11)
    assert found.tallies[11].held == 1
    assert found.tallies[11].failed == 2


def test_a_number_is_never_tried_more_often_than_the_repeats() -> None:
    random = Random(4)
    for _ in range(200):
        found, _ = searched(lambda _: random.random() < 0.5, Rules(guess=10, most=40, runs=1000))
        assert max(tally.runs for tally in found.tallies.values()) <= 3


def test_a_search_without_end_is_ended_and_tells_what_it_knows() -> None:
    found, trials = searched(lambda sessions: sessions <= 500, Rules(guess=1, runs=5))
    assert len(trials) == 5
    assert not found.confirmed
    assert found.interval == (16, None)


def test_a_search_goes_on_from_trials_that_were_made_before() -> None:
    rules = Rules(guess=6)
    _, trials = searched(lambda sessions: sessions <= 9, rules)
    for cut in range(len(trials)):
        wanted = step(tallied(trials[:cut]), rules)
        assert wanted == trials[cut][0]


def test_most_answers_are_right_by_one_although_every_trial_may_be_wrong_near_the_limit() -> None:
    random, near = Random(1), 0
    for _ in range(300):
        true = random.randint(1, 60)

        def oracle(sessions: int, true: int = true) -> bool:
            return random.random() < 1 / (1 + math.exp((sessions - true - 0.5) / 0.4))

        guess = max(1, true + random.randint(-3, 3))
        found, _ = searched(oracle, Rules(guess=guess, most=100))
        near += abs(found.sessions - true) <= 1
    assert near >= 295


def test_the_fewest_that_fail_bound_the_most_that_hold() -> None:
    tallies = tallied([(4, True), (8, False), (10, True)])
    assert bounds(tallies, Rules()) == (4, 8)


@pytest.mark.parametrize(("repeats", "needed"), [(4, 2), (3, 4), (1, 0)])
def test_a_number_has_to_hold_in_a_majority_of_repeats(repeats: int, needed: int) -> None:
    with pytest.raises(ValueError, match="more than half"):
        Rules(repeats=repeats, needed=needed)


def test_the_guess_lies_within_what_is_tried() -> None:
    with pytest.raises(ValueError, match="guess"):
        Rules(guess=11, most=10)
