"""Laws of the order of chunks: nothing is late that need not be, and nobody starves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.chunk_phases import phase_delay, worst_wait
from scheduler.core.chunks import GRACE_S, WORTHWHILE, Batching, Candidate, ChunkOrder, choose

pytestmark = pytest.mark.properties

TICK = 1 / 64
"""Times are multiples of it, which floats add exactly."""


def ticks(low: int, high: int) -> st.SearchStrategy[float]:
    return st.integers(low, high).map(lambda count: count * TICK)


def windows(*, live: bool | None = None, most: int = 5) -> st.SearchStrategy[list[Candidate]]:
    one = st.builds(
        Candidate,
        key=st.sampled_from("abcdefgh"),
        ready_at=st.just(0.0),
        deadline=ticks(1, 200),
        live=st.booleans() if live is None else st.just(live),
        cost_s=ticks(1, 40),
        ahead=st.just(0),
    )
    return st.lists(one, min_size=1, max_size=most, unique_by=lambda each: each.key)


def played(found: Sequence[Candidate], margin_s: float = 0.0) -> Iterator[tuple[Candidate, float]]:
    """Runs windows one by one as `choose` says; yields each with its end."""
    waiting = {each.key: each for each in found}
    now = 0.0
    while waiting:
        decision = choose(list(waiting.values()), now, margin_s=margin_s)
        if decision.keys:
            (key,) = decision.keys
            now += waiting[key].cost_s
            yield waiting.pop(key), now
        else:
            assert decision.wake_at is not None
            now = decision.wake_at


def feasible(found: Sequence[Candidate]) -> bool:
    """Tells whether any order keeps all deadlines, by trying them all."""

    def keeps(order: Sequence[Candidate]) -> bool:
        ends = itertools.accumulate(each.cost_s for each in order)
        return all(end <= each.deadline for each, end in zip(order, ends, strict=True))

    return any(keeps(order) for order in itertools.permutations(found))


@given(windows(live=True))
def test_what_some_order_keeps_is_kept(found: list[Candidate]) -> None:
    assert all(end <= each.deadline for each, end in played(found)) == feasible(found)


@given(windows(), ticks(0, 20))
def test_waiting_for_prompts_costs_no_deadline(found: list[Candidate], margin_s: float) -> None:
    """Files are held back, alone and beside live windows, and yet all are kept that can be."""
    if feasible(found):
        assert all(end <= each.deadline for each, end in played(found, margin_s))


@given(windows(live=False))
def test_files_finish_within_the_margin_unless_others_need_the_time(
    found: list[Candidate],
) -> None:
    for each, end in played(found[:1], margin_s=4 * TICK):
        assert end == max(each.cost_s, each.deadline - 4 * TICK)


@given(
    windows(live=True, most=6),
    st.dictionaries(st.integers(2, 6), st.floats(1, 3), min_size=1),
)
def test_a_batch_is_worth_it_and_makes_nobody_late(
    found: list[Candidate], gains: dict[int, float]
) -> None:
    keys = choose(found, 0.0, batching=Batching(gains)).keys
    if len(keys) == 1:
        return
    gain = gains[len(keys)]
    assert gain >= WORTHWHILE
    before = {each.key: end for each, end in played(found)}
    batch_end = sum(each.cost_s for each in found if each.key in keys) / gain
    rest = [each for each in found if each.key not in keys]
    after = dict.fromkeys(keys, batch_end)
    after |= {each.key: batch_end + end for each, end in played(rest)}
    for each in found:
        due = each.deadline + GRACE_S
        assert after[each.key] <= due or before[each.key] > due
    late_before = max(before[each.key] - each.deadline - GRACE_S for each in found)
    late_after = max(after[each.key] - each.deadline - GRACE_S for each in found)
    assert late_after <= max(0.0, late_before)


@given(windows(live=True, most=6), st.integers(2, 6))
def test_a_trial_harms_nobody_even_if_it_gains_nothing(found: list[Candidate], size: int) -> None:
    keys = choose(found, 0.0, batching=Batching(trial=size)).keys
    if len(keys) > 1:
        end = sum(each.cost_s for each in found if each.key in keys)
        rest = [each for each in found if each.key not in keys]
        assert all(each.deadline >= end for each in found if each.key in keys)
        assert all(end + after <= each.deadline for each, after in played(rest))


@dataclass
class Begun:
    key: str
    at: float
    starts: bool


COST = 8 * TICK


def thread(running: int, starts: Sequence[float], *, late: bool, until: float) -> list[Begun]:
    """Plays a thread with live sessions that have a window ready always, and starts.

    Args:
        running: How many sessions run.
        starts: When sources of start-up windows are there.
        late: Whether the running ones are always overdue.
        until: How long.
    """
    order, now, begun = ChunkOrder(), 0.0, list[Begun]()
    slack = -1.0 if late else 2 * COST * (running + 1)
    live = {
        f"r{number}": Candidate(f"r{number}", 0.0, slack, live=True, cost_s=COST, ahead=0)
        for number in range(running)
    }
    fresh = {
        f"s{number}": Candidate(
            f"s{number}", at, -math.inf, live=True, cost_s=COST, ahead=0, first=True
        )
        for number, at in enumerate(starts)
    }
    while now < until:
        decision = order.decide([*live.values(), *fresh.values()], now)
        if not decision.keys:
            if decision.wake_at is None:
                break
            now = decision.wake_at
            continue
        (key,) = decision.keys
        begun.append(Begun(key, now, key in fresh))
        now += COST
        fresh.pop(key, None)
        if key in live:
            live[key] = replace(live[key], ready_at=now, deadline=now + slack)
    return begun


@given(st.integers(1, 4), st.lists(ticks(0, 200), max_size=6).map(sorted), st.booleans())
def test_every_start_begins_soon_even_where_all_others_are_late(
    running: int, starts: list[float], late: bool
) -> None:
    begun = {each.key: each.at for each in thread(running, starts, late=late, until=20.0)}
    for number, at in enumerate(starts):
        # Of those whose source was there no later, some may still wait, each with a turn of
        # a running window; before that the window under way, its phase and its patience.
        assert begun[f"s{number}"] <= at + COST * (3 + 2 * (number + 1))


@given(st.integers(1, 4), st.lists(ticks(0, 64), min_size=1, max_size=20), st.booleans())
def test_starts_never_take_two_turns_in_a_row_from_those_that_are_late(
    running: int, starts: list[float], late: bool
) -> None:
    begun = thread(running, starts, late=late, until=20.0)
    if late:
        for one, next_one in itertools.pairwise(begun):
            assert not (one.starts and next_one.starts)


@given(st.integers(2, 4))
def test_sessions_that_run_take_turns(running: int) -> None:
    turns = [each.key for each in thread(running, [], late=True, until=10.0)]
    for at in range(len(turns) - running):
        assert len(set(turns[at : at + running])) == running


@st.composite
def turns(draw: st.DrawFn) -> tuple[list[float], float, float]:
    """Phases of those that run, that of one more, and a cost that all together have room for."""
    phases = draw(st.lists(ticks(0, 63), max_size=6))
    cost_s = draw(ticks(1, 64 // (len(phases) + 1)))
    return phases, draw(ticks(0, 63)), cost_s


@given(turns())
def test_no_other_phase_within_a_slot_lets_the_longest_wait_be_shorter(
    found: tuple[list[float], float, float],
) -> None:
    phases, own, cost_s = found
    delay = phase_delay(phases, own, cost_s, 1.0)
    assert 0 <= delay <= cost_s
    chosen = worst_wait([*phases, own + delay], cost_s, 1.0)
    grid = [number * cost_s / 64 for number in range(65)]
    best = min(worst_wait([*phases, own + each], cost_s, 1.0) for each in grid)
    assert chosen <= best + 1e-3


@given(turns())
def test_no_shorter_delay_does_as_well(found: tuple[list[float], float, float]) -> None:
    phases, own, cost_s = found
    delay = phase_delay(phases, own, cost_s, 1.0)
    chosen = worst_wait([*phases, own + delay], cost_s, 1.0)
    for number in range(64):
        shorter = number * delay / 64
        if shorter < delay - 1e-3:
            assert worst_wait([*phases, own + shorter], cost_s, 1.0) > chosen - 1e-6


@given(turns(), ticks(0, 63))
def test_only_the_distance_of_phases_counts(
    found: tuple[list[float], float, float], turned: float
) -> None:
    phases, own, cost_s = found
    one = phase_delay(phases, own, cost_s, 1.0)
    other = phase_delay([phase + turned for phase in phases], own + turned, cost_s, 1.0)
    wait = worst_wait([*phases, own + one], cost_s, 1.0)
    assert worst_wait([*phases, own + other], cost_s, 1.0) == pytest.approx(wait, abs=1e-3)
