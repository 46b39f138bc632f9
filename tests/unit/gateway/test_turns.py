"""Turns: so many a second for all together, and whom there is no turn for."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.limits.buckets import Rate
from gateway.limits.turns import Turns, turn

pytestmark = pytest.mark.unit


def test_so_many_go_on_at_once_and_the_others_one_after_the_other() -> None:
    turns = Turns(Rate(10.0, 2), most_waiting=9)
    assert [turns.wait_s(5.0) for _ in range(4)] == pytest.approx([0.0, 0.0, 0.1, 0.2])


def test_who_comes_when_too_many_wait_gets_none_and_costs_the_others_nothing() -> None:
    turns = Turns(Rate(10.0, 1), most_waiting=2)
    waits = [turns.wait_s(0.0) for _ in range(5)]
    assert waits[:3] == pytest.approx([0.0, 0.1, 0.2])
    assert waits[3:] == [None, None]
    assert turns.wait_s(0.1) == pytest.approx(0.2)


def test_a_pause_gives_the_burst_back_and_no_more() -> None:
    turns = Turns(Rate(10.0, 2), most_waiting=9)
    for _ in range(4):
        turns.wait_s(0.0)
    assert [turns.wait_s(100.0) for _ in range(3)] == pytest.approx([0.0, 0.0, 0.1])


async def test_a_turn_is_waited_for() -> None:
    turns, began = Turns(Rate(50.0, 1), most_waiting=1), time.monotonic()
    assert await asyncio.gather(*(turn(turns) for _ in range(3))) == [True, True, False]
    assert time.monotonic() - began >= 0.02
