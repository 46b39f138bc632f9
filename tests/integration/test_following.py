"""Who follows a session's trace has every process tell of it, over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import grpc.aio
import pytest

from gateway.placement import PlacementClient
from model_actor.enrolment import Enrolment
from sana_gateway.v1 import event_pb2
from sana_gateway_internal.v1 import placement_pb2 as pb
from sana_gateway_internal.v1 import placement_pb2_grpc
from scheduler.backends.inprocess import LocalScheduler
from scheduler.core.errors import BadArgumentError
from scheduler.placement_status import error_of
from scheduler.process.followed_spans import FollowedSpans, SpanReports
from scheduler.process.span_recording import FollowingProvider
from scheduler.runtime import SchedulerSettings
from tests.fakes.scripted_actor import Actor, placed

pytestmark = pytest.mark.integration

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[LocalScheduler]:
    address = f"unix:{tmp_path}/scheduler"
    scheduler = LocalScheduler(SchedulerSettings(address, SECRET, settle_time=0.0))
    scheduler.start()
    yield scheduler
    scheduler.stop()


@pytest.fixture
async def stub(scheduler: LocalScheduler) -> AsyncIterator[Any]:
    async with asyncio.timeout(60), grpc.aio.insecure_channel(scheduler.address) as channel:
        yield placement_pb2_grpc.PlacementStub(channel)


class Gateway:
    """A gateway's standing report."""

    def __init__(self, stub: Any) -> None:
        self._said: asyncio.Queue[pb.PresenceRequest] = asyncio.Queue()
        self.say()
        self.call = stub.Presence(self._requests())

    async def _requests(self) -> AsyncIterator[pb.PresenceRequest]:
        while True:
            yield await self._said.get()

    def say(self, **words: Any) -> None:
        self._said.put_nowait(pb.PresenceRequest(gateway_id="g", **words))

    async def followed(self) -> list[str]:
        """Returns what it is asked to follow next."""
        while not (news := await self.call.read()).HasField("follow_traces"):
            pass
        return list(news.follow_traces.session_ids)


async def followed(actor: Actor) -> list[str]:
    while not (order := await actor.order()).HasField("follow_traces"):
        pass
    return list(order.follow_traces.session_ids)


def spans(name: str) -> pb.RecordedSpans:
    told = event_pb2.TraceSpans(session_id="s", spans=[event_pb2.TraceSpan(name=name)])
    return pb.RecordedSpans(sessions=[told])


def follow(stub: Any, **words: Any) -> Any:
    watch = event_pb2.WatchEventsRequest(trace=True, **words)
    return stub.WatchEvents(pb.WatchEventsRequest(watch=watch))


async def told(reader: Any, *names: str) -> None:
    """Returns once spans of these names were told."""
    missing = set(names)
    while missing:
        missing -= {each.name for each in (await reader.read()).word.spans.spans}


async def test_all_that_take_part_are_asked_while_somebody_follows(stub: Any) -> None:
    actor, gateway = await Actor(stub).registered(), Gateway(stub)
    await placed(stub, actor, "s")
    reader = follow(stub, session_id="s")
    assert (await reader.read()).word.HasField("started")
    assert await followed(actor) == await gateway.followed() == ["s"]
    actor.say(pb.EnrollRequest(heartbeat=pb.Heartbeat(spans=spans("actor.chunk"))))
    gateway.say(spans=spans("gateway.command"))
    await told(reader, "actor.chunk", "gateway.command")
    # Who comes later, or comes again, is asked at once.
    late = await Actor(stub, name="b").registered()
    again = Gateway(stub)
    assert await followed(late) == await again.followed() == ["s"]
    reader.cancel()
    assert await followed(actor) == await followed(late) == await again.followed() == []
    for each in (actor, late):
        await each.close()


async def test_a_trace_of_no_session_is_refused(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await anext(aiter(follow(stub)))
    assert isinstance(error_of(refusal.value), BadArgumentError)


def idle_actor() -> Any:
    """Returns an actor that is there, and no more."""
    told = {"actor_id": "a1", "models": ["m"], "address": "unix:/a"}
    actor = AsyncMock()
    actor.register = lambda: pb.Register(resident_slots=1, period_ms=1e3, **told)
    actor.heartbeat = pb.Heartbeat
    return actor


@asynccontextmanager
async def running(*parts: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


async def test_gateways_and_actors_record_what_they_are_asked_for(
    scheduler: LocalScheduler, stub: Any
) -> None:
    gateway = PlacementClient(scheduler.address, "g1")
    enrolment = Enrolment(scheduler.address, idle_actor())
    spans = [FollowedSpans(), FollowedSpans()]
    gateway._spans = SpanReports("gateway", "g1", spans[0])
    enrolment._spans = SpanReports("actor", "", spans[1])
    reader = follow(stub, session_id="s")
    try:
        async with running(gateway.run_presence(dict, Mock()), enrolment.run()):
            for role, own in zip(("gateway", "actor"), spans, strict=True):
                await until(lambda own=own: own.sessions == {"s"})  # type: ignore[misc]
                tracer = FollowingProvider(own).get_tracer("sana_gateway")
                tracer.start_span(f"{role}.work", attributes={"session.id": "s"}).end()
            processes: dict[str, str] = {}
            while len(processes) < 2:
                told = (await reader.read()).word.spans.spans
                processes |= {each.name: each.process for each in told}
            assert processes == {"gateway.work": "gateway g1", "actor.work": "actor a1"}
            await asyncio.to_thread(scheduler.stop)
            await until(lambda: not any(own.sessions for own in spans))
    finally:
        reader.cancel()
        await gateway.close()
        await enrolment.close()
