"""What the scheduler says of a session is carried out in its order."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from model_actor.engine.services import Placement
from model_actor.enrolment import Enrolment
from sana_gateway_internal.v1 import placement_pb2
from scheduler.core.quality import Quality

pytestmark = pytest.mark.unit


class Actor:
    """Admits as slowly as it is told, and remembers what it did."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.placements: list[Placement] = []
        self.opening = asyncio.Event()
        self.may_open = asyncio.Event()

    async def admit(self, placement: Placement) -> str:
        self.opening.set()
        await self.may_open.wait()
        self.placements.append(placement)
        self.log.append(f"admit {placement.session_id} {placement.epoch}")
        return ""

    def register(self) -> placement_pb2.Register:
        return placement_pb2.Register(actor_id="a1")

    def heartbeat(self) -> placement_pb2.Heartbeat:
        return placement_pb2.Heartbeat()

    async def park(self, session_id: str, epoch: int, *, store: bool) -> placement_pb2.Parked:
        self.log.append(f"park {session_id} {epoch} {store}")
        return placement_pb2.Parked(session_id=session_id, epoch=epoch, host="here")

    async def awaits_room(self, session_id: str, epoch: int, *, awaits: bool) -> None:
        self.log.append(f"awaits_room {session_id} {epoch} {awaits}")

    async def pace(self, session_id: str, epoch: int, quality: Quality) -> None:
        self.log.append(f"pace {session_id} {epoch} {quality.rate}")

    async def watch_chunks(self, *, watched: bool) -> None:
        self.log.append(f"watch_chunks {watched}")

    async def retire(self) -> None:
        self.log.append("retire")

    async def usage_kept(self, number: int) -> None:
        self.log.append(f"usage kept {number}")

    async def evict(
        self, session_id: str, epoch: int, reason: str, *, goes_on: bool = False
    ) -> None:
        self.log.append(f"evict {session_id} {epoch}{' goes on' if goes_on else ''}")


async def test_an_eviction_waits_for_the_admission_before_it() -> None:
    actor = Actor()
    enrolment = Enrolment("unix:/nowhere", actor)
    admit = placement_pb2.Admit(session_id="s", epoch=1)
    enrolment._order("s", enrolment._answer_admit(admit))
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


async def test_a_cancellation_is_not_lost_in_a_call_that_is_being_prepared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    enrolment = Enrolment("unix:/nowhere", Actor())
    calling = asyncio.Event()

    async def enrol() -> None:
        calling.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise grpc.aio.AioRpcError(
                grpc.StatusCode.CANCELLED, grpc.aio.Metadata(), grpc.aio.Metadata(), "", ""
            ) from None

    monkeypatch.setattr(enrolment, "_enrol", enrol)
    running = asyncio.create_task(enrolment.run())
    await calling.wait()
    running.cancel()
    await asyncio.wait({running}, timeout=10)
    assert running.cancelled()
    await enrolment.close()


async def test_what_the_scheduler_orders_is_done_and_answered() -> None:
    actor = Actor()
    actor.may_open.set()
    enrolment = Enrolment("unix:/nowhere", actor)
    enrolment._outgoing = asyncio.Queue()
    orders = [
        placement_pb2.EnrollResponse(
            admit=placement_pb2.Admit(session_id="s", epoch=1, restore=True, rate_share=0.5)
        ),
        placement_pb2.EnrollResponse(park=placement_pb2.Park(session_id="s", epoch=1, store=True)),
        placement_pb2.EnrollResponse(
            awaits_room=placement_pb2.AwaitsRoom(session_id="s", epoch=1, awaits=True)
        ),
        placement_pb2.EnrollResponse(
            pace=placement_pb2.Pace(session_id="s", epoch=1, rate_share=0.5)
        ),
        placement_pb2.EnrollResponse(evict=placement_pb2.Evict(session_id="s", epoch=1)),
        placement_pb2.EnrollResponse(
            evict=placement_pb2.Evict(session_id="s", epoch=2, goes_on=True)
        ),
        placement_pb2.EnrollResponse(watch_chunks=placement_pb2.WatchChunks(watched=True)),
        placement_pb2.EnrollResponse(retire=placement_pb2.Retire()),
    ]
    for order in orders:
        kind = str(order.WhichOneof("response"))
        session_id, work = Enrolment._ORDERS[kind](enrolment, order)
        enrolment._order(session_id, work)
        await enrolment._orders[session_id]
    assert actor.log == [
        "admit s 1", "park s 1 True", "awaits_room s 1 True", "pace s 1 0.5", "evict s 1",
        "evict s 2 goes on", "watch_chunks True", "retire",
    ]  # fmt: skip
    assert (actor.placements[0].restore, actor.placements[0].quality) == (True, Quality(0.5))
    told = [enrolment._outgoing.get_nowait().WhichOneof("request") for _ in range(2)]
    assert told == ["admitted", "parked"]
    enrolment.restored("s", 1)
    enrolment.departed("s", 1)
    told = [enrolment._outgoing.get_nowait().WhichOneof("request") for _ in range(2)]
    assert told == ["restored", "departed"]
    enrolment._outgoing = None
    enrolment.restored("s", 1)
    await enrolment.close()


async def test_an_order_that_fails_does_not_hold_up_the_next() -> None:
    actor = Actor()
    enrolment = Enrolment("unix:/nowhere", actor)

    async def fail() -> None:
        raise ValueError("whatever")

    enrolment._order("s", fail())
    enrolment._order("s", actor.evict("s", 2, "gone"))
    await asyncio.wait(list(enrolment._orders.values()))
    assert actor.log == ["evict s 2"]
    await enrolment.close()
