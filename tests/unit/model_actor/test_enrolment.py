"""What the scheduler says of a session is carried out in its order."""

from __future__ import annotations

import asyncio

import pytest

from model_actor.engine.live_session import Placement
from model_actor.enrolment import Enrolment
from sana_gateway_internal.v1 import placement_pb2

pytestmark = pytest.mark.unit


class Actor:
    """Admits as slowly as it is told, and remembers what it did."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.opening = asyncio.Event()
        self.may_open = asyncio.Event()

    async def admit(self, placement: Placement) -> str:
        self.opening.set()
        await self.may_open.wait()
        self.log.append(f"admit {placement.session_id} {placement.epoch}")
        return ""

    async def evict(self, session_id: str, epoch: int, reason: str) -> None:
        self.log.append(f"evict {session_id} {epoch}")


async def test_an_eviction_waits_for_the_admission_before_it() -> None:
    actor = Actor()
    enrolment = Enrolment(
        "unix:/nowhere", placement_pb2.Register, lambda: 0.0, actor.admit, actor.evict
    )
    outgoing: asyncio.Queue[placement_pb2.EnrollRequest] = asyncio.Queue(8)
    admit = placement_pb2.Admit(session_id="s", epoch=1)
    enrolment._order("s", enrolment._answer(admit, outgoing))
    await actor.opening.wait()
    enrolment._order("s", actor.evict("s", 1, "gone"))
    enrolment._order("other", actor.evict("other", 1, "gone"))
    orders = list(enrolment._orders.values())
    await asyncio.wait([enrolment._orders["other"]])
    assert actor.log == ["evict other 1"], "another session waits for nobody"
    actor.may_open.set()
    await asyncio.wait(orders)
    assert actor.log == ["evict other 1", "admit s 1", "evict s 1"]
    assert not enrolment._orders
    await enrolment.close()


async def test_an_order_that_fails_does_not_hold_up_the_next() -> None:
    actor = Actor()
    enrolment = Enrolment(
        "unix:/nowhere", placement_pb2.Register, lambda: 0.0, actor.admit, actor.evict
    )

    async def fail() -> None:
        raise ValueError("whatever")

    enrolment._order("s", fail())
    enrolment._order("s", actor.evict("s", 2, "gone"))
    await asyncio.wait(list(enrolment._orders.values()))
    assert actor.log == ["evict s 2"]
    await enrolment.close()
