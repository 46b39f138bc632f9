"""Fair turns among tenants that wait for the same thing.

Tenants of one priority are served by self-clocked fair queueing (Golestani, "A self-clocked
fair queueing scheme for broadband applications", 1994): serving a tenant moves its tag on by
1 / weight, the lowest tag is next, and a tenant that begins to wait starts at the tag served
last. So a tenant gets its share of the turns whatever the others send in, and none is put
off for ever, not even by a stream of tenants that are new.

A higher priority goes first, but waiting counts too: whoever has waited `ageing` seconds per
step of priority longer than the longest wait there is served before it. Within a tenant
the order is first come, first served.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from scheduler.core.tenants import TenantRules

_PRUNE_AT = 256
"""Idle tenants beyond which those whose tag no longer matters are forgotten."""


class Waiter(Protocol):
    """Something that waits in a tenant's name."""

    @property
    def tenant(self) -> str:
        """In whose name."""

    @property
    def turn(self) -> tuple[float, int]:
        """Since when, and the order of arrival."""


_WaiterT = TypeVar("_WaiterT", bound=Waiter)


class _Lane(Generic[_WaiterT]):
    """What waits in one tenant's name."""

    __slots__ = ("priority", "stride", "tag", "waiting")

    def __init__(self, rules: TenantRules, tag: float) -> None:
        self.stride = 1.0 / rules.weight
        self.priority = rules.priority
        self.tag = tag
        """Where its next turn starts."""
        self.waiting: list[_WaiterT] = []


class FairQueue(Generic[_WaiterT]):
    """Waiters in the order in which they are to be served.

    Args:
        rules: Returns what a tenant is entitled to.
        ageing: Seconds of waiting that outweigh one step of priority.
    """

    def __init__(self, rules: Callable[[str], TenantRules], ageing: float) -> None:
        self._rules = rules
        self._ageing = ageing
        self._lanes: dict[str, _Lane[_WaiterT]] = {}
        self._served: dict[int, float] = {}
        """Tag that was served last, of each priority."""
        self._order: list[_WaiterT] | None = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def size(self, tenant: str) -> int:
        """Returns how many wait in a tenant's name."""
        lane = self._lanes.get(tenant)
        return len(lane.waiting) if lane else 0

    def lanes(self) -> Iterator[tuple[str, Sequence[_WaiterT]]]:
        """Yields each tenant in whose name somebody waits, and its waiters in their order."""
        for tenant, lane in self._lanes.items():
            if lane.waiting:
                yield tenant, lane.waiting

    def add(self, waiter: _WaiterT) -> None:
        """Adds a waiter at its turn."""
        lane = self._lanes.get(waiter.tenant)
        if lane is None:
            lane = self._lanes[waiter.tenant] = _Lane(self._rules(waiter.tenant), 0.0)
        if not lane.waiting:
            lane.tag = max(lane.tag, self._served.get(lane.priority, 0.0))
        bisect.insort(lane.waiting, waiter, key=_turn)
        self._count += 1
        self._order = None

    def remove(self, waiter: _WaiterT) -> None:
        """Removes a waiter that gives up."""
        lane = self._lanes[waiter.tenant]
        lane.waiting.remove(waiter)
        self._count -= 1
        self._order = None
        if not self._count:
            self._order = []
        if not lane.waiting and len(self._lanes) > _PRUNE_AT:
            self._prune()

    def serve(self, waiter: _WaiterT) -> None:
        """Removes a waiter that is served now: its tenant's turn moves on."""
        lane = self._lanes[waiter.tenant]
        lane.tag += lane.stride
        self._served[lane.priority] = max(self._served.get(lane.priority, 0.0), lane.tag)
        self.remove(waiter)

    def order(self) -> list[_WaiterT]:
        """Returns all waiters, the next one first, as if all were served one by one."""
        if self._order is None:
            self._order = list(self.in_turn())
        return self._order

    def in_turn(self) -> Iterator[_WaiterT]:
        """Yields what `order` returns, one by one: whoever needs only the first few finds
        them without sorting the rest. The queue must not change meanwhile.
        """
        lanes = [lane for lane in self._lanes.values() if lane.waiting]
        if len(lanes) == 1:
            yield from lanes[0].waiting
            return
        nexts = [0] * len(lanes)
        by_tag: dict[int, list[tuple[float, tuple[float, int], int]]] = {}
        by_age: list[tuple[float, int, int, int, int]] = []

        def offer(which: int) -> None:
            lane, k = lanes[which], nexts[which]
            if k < len(lane.waiting):
                since, number = lane.waiting[k].turn
                # Sums of the same strides in another order are to be equal.
                tag = round(lane.tag + (k + 1) * lane.stride, 6)
                heapq.heappush(by_tag[lane.priority], (tag, (since, number), which))
                age = since - lane.priority * self._ageing
                heapq.heappush(by_age, (age, -lane.priority, number, which, k))

        for which, lane in enumerate(lanes):
            by_tag.setdefault(lane.priority, [])
            offer(which)
        levels = sorted(by_tag, reverse=True)
        while by_age:
            _, _, _, oldest, k = by_age[0]
            if k < nexts[oldest]:
                heapq.heappop(by_age)
                continue
            top = next(level for level in levels if _drop_served(by_tag[level], lanes, nexts))
            which = oldest if lanes[oldest].priority < top else by_tag[top][0][2]
            yield lanes[which].waiting[nexts[which]]
            nexts[which] += 1
            offer(which)

    def _prune(self) -> None:
        """Forgets tenants that wait for nothing and are behind the tag served last."""
        self._lanes = {
            tenant: lane
            for tenant, lane in self._lanes.items()
            if lane.waiting or lane.tag > self._served.get(lane.priority, 0.0)
        }


def _turn(waiter: Waiter) -> tuple[float, int]:
    return waiter.turn


def _drop_served(
    heap: list[tuple[float, tuple[float, int], int]],
    lanes: list[_Lane[_WaiterT]],
    nexts: list[int],
) -> bool:
    """Drops heads that were served by age; tells whether anybody is left."""
    while heap:
        _, turn, which = heap[0]
        k = nexts[which]
        if k < len(lanes[which].waiting) and lanes[which].waiting[k].turn == turn:
            return True
        heapq.heappop(heap)
    return False
