"""Any source rate becomes the model's, by timestamp."""

from __future__ import annotations

from itertools import pairwise

import pytest

from model_actor.media.resample import GAP_US, Emission, Resampler

pytestmark = pytest.mark.unit

RATE = 24
PERIOD = 1_000_000 / RATE


def slots(times: list[int]) -> list[tuple[int, int]]:
    """Returns (slot time, source time) of every frame that leaves."""
    resampler, out, before = Resampler(RATE), [], 0
    for time in times:
        due = resampler.push(time)
        out += [(slot, before) for slot in due.repeats]
        if due.fresh is not None:
            out.append((due.fresh, time))
            before = time
    return out


def source(rate: float, seconds: float, start: int = 1_000) -> list[int]:
    return [start + round(n * 1_000_000 / rate) for n in range(round(rate * seconds))]


def test_the_same_rate_passes_through_one_for_one() -> None:
    times = source(24, 10)
    assert [used for _, used in slots(times)] == times


@pytest.mark.parametrize("rate", [10, 12, 15, 23.976, 25, 29.97, 30, 48, 50, 60])
def test_each_second_of_source_gives_a_second_of_frames(rate: float) -> None:
    out = slots(source(rate, 20))
    assert len(out) == pytest.approx(20 * RATE, abs=4)
    gaps = [b - a for (a, _), (b, _) in pairwise(out)]
    assert max(gaps) - min(gaps) <= 1, "slots are evenly spaced"
    assert all(abs(slot - used) <= max(PERIOD, 1_000_000 / rate) + 1 for slot, used in out)


def test_a_close_rate_drops_or_repeats_seldom_in_spite_of_jitter() -> None:
    jitter = (0, 4000, -3000, 5000, -5000, 2000)
    times = [t + jitter[n % 6] for n, t in enumerate(source(23.976, 120))]
    out = slots(times)
    repeated = len(out) - len({used for _, used in out})
    dropped = len(set(times)) - len({used for _, used in out})
    assert repeated + dropped <= 4, "one for every 42 s of drift, no fluttering"


def test_the_rate_changes_between_two_slots() -> None:
    resampler, out = Resampler(16), []
    times = source(24, 4)
    for number, time in enumerate(times):
        if number == 48:
            resampler.pace(24)
        due = resampler.push(time)
        out += [*due.repeats, *([] if due.fresh is None else [due.fresh])]
    gaps = [b - a for a, b in pairwise(out)]
    assert gaps[:30] == pytest.approx([62_500] * 30, abs=1)
    assert gaps[-40:] == pytest.approx([PERIOD] * 40, abs=1)
    assert len(out) == pytest.approx(2 * 16 + 2 * 24, abs=2)


def test_a_gap_moves_the_origin_and_is_not_filled() -> None:
    resampler = Resampler(RATE)
    resampler.push(0)
    assert resampler.push(GAP_US + 1) == Emission(fresh=GAP_US + 1)


def test_a_shorter_silence_is_filled_with_the_frame_before() -> None:
    resampler = Resampler(RATE)
    resampler.push(0)
    due = resampler.push(GAP_US)
    assert [*due.repeats, due.fresh] == [round(slot * PERIOD) for slot in range(1, 12)]


def test_a_clock_that_jumps_back_far_begins_anew() -> None:
    resampler = Resampler(RATE)
    resampler.push(90_000_000)
    assert resampler.push(1_000) == Emission(fresh=1_000)


def test_frames_out_of_order_are_not_needed() -> None:
    resampler = Resampler(RATE)
    resampler.push(0)
    resampler.push(42_000)
    assert resampler.push(41_000) == Emission()
    assert resampler.push(42_000) == Emission()
