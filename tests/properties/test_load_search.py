"""The search for a capacity against services that behave alike every time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdk_adapters.harness.search import Found, Rules, step, tallied

pytestmark = pytest.mark.properties

MOST = 5000


@given(
    true=st.integers(0, MOST - 1),
    guess=st.integers(1, MOST),
    needed=st.sampled_from([(1, 1), (3, 2), (5, 3), (5, 5)]),
)
def test_the_answer_is_exact_and_takes_few_trials(
    true: int, guess: int, needed: tuple[int, int]
) -> None:
    rules = Rules(guess=guess, most=MOST, repeats=needed[0], needed=needed[1], runs=10_000)
    trials: list[tuple[int, bool]] = []
    while not isinstance(found := step(tallied(trials), rules), Found):
        assert 1 <= found <= MOST
        trials.append((found, found <= true))
    assert found.sessions == true
    assert found.confirmed
    levels = len({sessions for sessions, _ in trials})
    # Up in doubling steps, or down from the guess in at most so many; then by halves.
    assert levels <= 2 * math.log2(MOST) + 6
    assert len(trials) <= levels + 2 * rules.repeats


@given(trials=st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=60))
def test_whatever_came_out_the_search_ends(trials: list[tuple[int, bool]]) -> None:
    rules = Rules(guess=4, most=30, runs=200)
    tallies: list[tuple[int, bool]] = []
    said = iter(trials)
    while not isinstance(found := step(tallied(tallies), rules), Found):
        _, held = next(said, (0, False))
        tallies.append((found, held))
        assert len(tallies) <= 3 * rules.most
    assert found.failing is None or found.sessions < found.failing
