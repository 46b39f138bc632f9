"""Whatever a camera's clock does, the model never gets more frames than its rate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_actor.media.resample import GAP_US, Resampler

pytestmark = pytest.mark.properties

RATE = 24
PERIOD = 1_000_000 / RATE


@given(st.lists(st.integers(0, GAP_US), min_size=1, max_size=200), st.integers(0, 1 << 48))
def test_slots_rise_evenly_and_never_exceed_the_rate(steps: list[int], start: int) -> None:
    resampler, now, out = Resampler(RATE), start, []
    for step in [0, *steps]:
        now += step
        due = resampler.push(now)
        out += [*due.repeats, *([] if due.fresh is None else [due.fresh])]
        assert out[-1] <= now + PERIOD / 2 + 1, "never ahead of the source"
        assert out[-1] >= now - 2 * PERIOD - 1, "never far behind it"
    assert out[0] == start
    assert all(abs(slot - start - index * PERIOD) <= 1 for index, slot in enumerate(out))


@given(st.lists(st.integers(-(1 << 40), 1 << 40), max_size=100))
def test_any_clock_at_all_is_survived(times: list[int]) -> None:
    resampler = Resampler(RATE)
    for time in times:
        due = resampler.push(time)
        assert len(due.repeats) <= GAP_US / PERIOD
