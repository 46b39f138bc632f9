"""Fair turns: shares by weight, priorities that age, nobody put off for ever."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.fair_queue import FairQueue
from scheduler.core.tenants import TenantRules

pytestmark = pytest.mark.unit

AGEING = 30.0
RULES = {
    "triple": TenantRules(weight=3.0),
    "weak": TenantRules(weight=0.25),
    "low": TenantRules(priority=-1),
    "high": TenantRules(priority=1),
}


@dataclass(frozen=True)
class Waiter:
    tenant: str
    since: float
    number: int

    @property
    def turn(self) -> tuple[float, int]:
        return self.since, self.number


class Line:
    """A queue and its numbers."""

    def __init__(self) -> None:
        self.queue = FairQueue[Waiter](lambda name: RULES.get(name, TenantRules()), AGEING)
        self.number = 0

    def add(self, tenant: str, since: float = 0.0, count: int = 1) -> None:
        for _ in range(count):
            self.number += 1
            self.queue.add(Waiter(tenant, since, self.number))

    def serve(self) -> Waiter:
        waiter = self.queue.order()[0]
        self.queue.serve(waiter)
        return waiter


@pytest.fixture
def line() -> Line:
    return Line()


def test_one_tenant_is_served_first_come_first_served(line: Line) -> None:
    line.add("x", since=5.0)
    line.add("x", since=3.0)
    line.add("x", since=3.0)
    assert [waiter.number for waiter in line.queue.order()] == [2, 3, 1]


def test_equal_tenants_take_turns_whatever_they_send_in(line: Line) -> None:
    line.add("x", count=50)
    line.add("y", count=5)
    assert Counter(line.serve().tenant for _ in range(10)) == {"x": 5, "y": 5}


def test_turns_are_in_proportion_to_the_weights(line: Line) -> None:
    line.add("triple", count=40)
    line.add("x", count=40)
    assert Counter(line.serve().tenant for _ in range(40)) == {"triple": 30, "x": 10}


def test_the_order_told_is_the_order_served(line: Line) -> None:
    for tenant, count in (("x", 5), ("triple", 9), ("weak", 2), ("high", 3), ("low", 4)):
        line.add(tenant, count=count, since=float(count))
    told = list(line.queue.order())
    assert [line.serve() for _ in told] == told
    assert len(line.queue) == 0


def test_whoever_waited_for_nothing_has_saved_up_nothing(line: Line) -> None:
    line.add("x", count=20)
    for _ in range(10):
        line.serve()
    line.add("late", count=20)
    assert Counter(line.serve().tenant for _ in range(10)) == {"x": 5, "late": 5}


def test_higher_priorities_go_first(line: Line) -> None:
    line.add("x", count=2)
    line.add("high", count=2, since=20.0)
    assert [line.serve().tenant for _ in range(4)] == ["high", "high", "x", "x"]


def test_waiting_outweighs_priority_in_time(line: Line) -> None:
    line.add("x", since=0.0)
    line.add("high", since=31.0)
    line.add("low", since=0.0)
    assert [line.serve().tenant for _ in range(3)] == ["x", "high", "low"]


def test_an_old_wait_of_a_weak_tenant_does_not_lift_its_neighbours(line: Line) -> None:
    line.add("weak", since=0.0)
    line.add("x", since=99.0, count=5)
    line.add("high", since=100.0)
    assert [line.serve().tenant for _ in range(3)] == ["weak", "high", "x"]


def test_giving_up_moves_the_others_up(line: Line) -> None:
    line.add("x", count=3)
    first, second, third = line.queue.order()
    line.queue.remove(second)
    assert line.queue.order() == [first, third]
    assert line.queue.size("x") == 2
    assert line.queue.size("nobody") == 0


def test_tenants_that_come_and_go_are_forgotten(line: Line) -> None:
    for number in range(2000):
        line.add(f"t{number}")
        line.serve()
    assert len(line.queue._lanes) < 600


OTHERS = st.lists(
    st.tuples(st.sampled_from(["x", "triple", "high", "new"]), st.integers(1, 4)), max_size=400
)


@given(arrivals=OTHERS, weak=st.sampled_from(["weak", "low"]))
def test_the_weakest_is_served_in_bounded_time(arrivals: list[tuple[str, int]], weak: str) -> None:
    """One place becomes free each second, and many more sessions than that arrive. A priority
    counts as `ageing` seconds of waiting, so at most what arrives while it outweighs the wait
    can pass; among equals the weakest, of weight 1/4, is passed at most 12 times by weight 3
    and 4 times by each of weight 1 before its turn.
    """
    line = Line()
    line.add(weak, since=0.0)
    served = 0
    now = 0.0
    names = 0
    for tenant, count in arrivals:
        now += 1.0
        # Tenants that nobody has seen before get no more than those that wait.
        names += tenant == "new"
        line.add(f"new{names}" if tenant == "new" else tenant, since=now, count=count)
        served += 1
        if line.serve().tenant == weak:
            break
    else:
        return
    assert served <= 2 * AGEING + 12 + 4 * (names + 3)


@given(st.lists(st.sampled_from(["x", "y", "triple", "weak", "high", "low"]), max_size=60))
def test_everybody_is_in_the_order_once(tenants: list[str]) -> None:
    line = Line()
    for position, tenant in enumerate(tenants):
        line.add(tenant, since=float(position * 7 % 100))
    order = line.queue.order()
    assert sorted(waiter.number for waiter in order) == list(range(1, len(tenants) + 1))
    for tenant in set(tenants):
        turns = [waiter.turn for waiter in order if waiter.tenant == tenant]
        assert turns == sorted(turns)
