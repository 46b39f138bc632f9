"""Token buckets: whatever comes, nobody gets more than the rate and the burst, nor less."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.buckets import Buckets, Rate
from scheduler.core.quotas import MINUTE_S, Rates

pytestmark = pytest.mark.properties

RATES = st.builds(Rate, st.floats(0.01, 1000), st.integers(1, 50))
PAUSES = st.lists(st.just(0.0) | st.floats(0, 20), min_size=1, max_size=60)


@given(RATES, PAUSES)
def test_no_window_has_more_than_its_rate_and_the_burst(rate: Rate, pauses: list[float]) -> None:
    buckets, now, taken = Buckets(rate), 1000.0, []
    for pause in pauses:
        now += pause
        if buckets.take("a", now) == 0:
            taken.append(now)
    for first, began in enumerate(taken):
        for last in range(first, len(taken)):
            span = taken[last] - began
            assert last - first + 1 <= rate.burst + rate.per_second * (span + 1e-6) + 1e-6


@given(RATES)
def test_at_once_there_is_the_burst_and_nothing_more(rate: Rate) -> None:
    buckets = Buckets(rate)
    assert [buckets.take("a", 1000.0) for _ in range(rate.burst)] == [0.0] * rate.burst
    assert buckets.take("a", 1000.0) > 0


@given(RATES, PAUSES)
def test_who_waits_as_long_as_told_is_let_in_and_not_before(
    rate: Rate, pauses: list[float]
) -> None:
    buckets, now = Buckets(rate), 1000.0
    for pause in pauses:
        now += pause
        wait_s = buckets.take("a", now)
        if wait_s > 1e-3:
            assert buckets.wait_s("a", now + wait_s * 0.99) > 0
            assert buckets.wait_s("a", now + wait_s + 1e-6) == 0


@given(RATES, st.lists(st.sampled_from("abcdefgh"), max_size=80), st.integers(1, 4))
def test_so_many_buckets_are_remembered_and_no_more(rate: Rate, keys: list[str], most: int) -> None:
    buckets = Buckets(rate, most)
    for step, key in enumerate(keys):
        buckets.take(key, 1000.0 + step / 100)
        assert len(buckets) <= most


@given(st.lists(st.tuples(st.floats(0, 30), st.sampled_from("ab")), max_size=80), st.integers(1, 9))
def test_no_minute_has_more_sessions_than_its_quota(
    steps: list[tuple[float, str]], most: int
) -> None:
    rates, now, made = Rates(), 1000.0, list[tuple[float, str]]()
    for pause, subject in steps:
        now += pause
        within = [at for at, whose in made if whose == subject and at > now - MINUTE_S]
        wait_s = rates.wait_s(subject, most, now)
        assert (wait_s > 0) == (len(within) >= most)
        if wait_s:
            assert wait_s == pytest.approx(within[-most] + MINUTE_S - now)
        else:
            rates.add(subject, now)
            made.append((now, subject))
        assert len(rates) <= 2
