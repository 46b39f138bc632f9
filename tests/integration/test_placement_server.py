"""Placement over real gRPC: a scheduler in this process, scripted gateways and actors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import structlog

from sana_gateway.v1 import event_pb2, pool_pb2
from sana_gateway_internal.v1 import placement_pb2 as pb
from sana_gateway_internal.v1 import placement_pb2_grpc
from scheduler.backends.inprocess import LocalScheduler
from scheduler.backends.launcher import ActorSpec, Found
from scheduler.core import errors
from scheduler.core.errors import ConfigurationError, PluginError
from scheduler.core.pool_events import PoolRules
from scheduler.placement_status import error_of
from scheduler.process.tokens import LeaseTokens
from scheduler.runtime import SchedulerRuntime, SchedulerSettings
from scheduler.supervision import SupervisionRules
from tests.fakes.launcher import BrokenShell, EnrollingShell, FakeActor, FakeLauncher
from tests.fakes.scripted_actor import Actor, place_request, placed

pytestmark = pytest.mark.integration

SECRET = "0123456789abcdef0123456789abcdef"
RULES = PoolRules(queue_limit=2, actor_timeout=1.0, start_wait=0.2)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FAKES = "tests.fakes.launcher"


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[LocalScheduler]:
    scheduler = LocalScheduler(settings(f"unix:{tmp_path}/scheduler"))
    scheduler.start()
    yield scheduler
    scheduler.stop()


@pytest.fixture
async def stub(scheduler: LocalScheduler) -> AsyncIterator[Any]:
    async with asyncio.timeout(30), grpc.aio.insecure_channel(scheduler.address) as channel:
        yield placement_pb2_grpc.PlacementStub(channel)


def settings(address: str, **changes: Any) -> SchedulerSettings:
    told = {"rules": RULES, "settle_time": 0.0, **changes}
    return SchedulerSettings(address=address, lease_secret=SECRET, **told)


async def test_a_session_is_placed_found_and_released(stub: Any) -> None:
    actor = await Actor(stub).registered()
    lease = await placed(stub, actor, "s")
    assert (lease.session_id, lease.actor_id, lease.address) == ("s", "a", "unix:/actor")
    assert lease.principal == pb.Principal(tenant="tenant", scopes=["session"])
    assert lease.model == "model"
    assert lease.capabilities.frame_rate == 24.0
    assert LeaseTokens(SECRET).verify(lease.token).epoch == lease.epoch

    found = (await stub.Find(pb.FindRequest(session_id="s", gateway_id="other"))).lease
    assert found.epoch == lease.epoch
    assert LeaseTokens(SECRET).verify(found.token).gateway == "other"

    await stub.Release(pb.ReleaseRequest(session_id="s", reason="done"))
    assert (await actor.order()).evict == pb.Evict(session_id="s", epoch=lease.epoch, reason="done")
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stub.Find(pb.FindRequest(session_id="s", gateway_id="gateway"))
    assert isinstance(error_of(refusal.value), errors.SessionClosedError)
    await actor.close()


async def test_the_queue_is_told_and_served(stub: Any) -> None:
    actor = await Actor(stub).registered()
    await placed(stub, actor, "s")
    calls = [stub.Place(place_request("x"))]
    assert (await calls[0].read()).queued.position == 1
    calls.append(stub.Place(place_request("y")))
    assert (await calls[1].read()).queued.position == 2
    calls[0].cancel()
    await stub.Release(pb.ReleaseRequest(session_id="x"))
    assert (await calls[1].read()).queued.position == 1
    await stub.Release(pb.ReleaseRequest(session_id="s"))
    assert (await actor.order()).HasField("evict")
    assert (await actor.admit()).session_id == "y"
    assert (await calls[1].read()).lease.session_id == "y"
    await actor.close()


async def test_a_queued_session_outlives_a_connection_that_breaks(
    stub: Any, scheduler: LocalScheduler
) -> None:
    actor = await Actor(stub).registered()
    await placed(stub, actor, "s")
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.insecure_channel(scheduler.address, options=options) as channel:
        passing: Any = placement_pb2_grpc.PlacementStub(channel)
        breaking = passing.Place(place_request("x"))
        assert (await breaking.read()).queued.position == 1
    other = stub.Place(place_request("y"))
    assert (await other.read()).queued.position == 2
    again = stub.Place(place_request("x", waited_us=1_000_000))
    assert (await again.read()).queued.position == 1
    await stub.Release(pb.ReleaseRequest(session_id="s"))
    assert (await actor.order()).HasField("evict")
    assert (await actor.admit()).session_id == "x"
    assert (await again.read()).lease.session_id == "x"
    other.cancel()
    await actor.close()


async def test_a_refusing_actor_leaves_the_session_waiting(stub: Any) -> None:
    actor = await Actor(stub).registered()
    call = stub.Place(place_request("s"))
    await actor.admit(refusal="no memory")
    assert (await call.read()).queued.position == 1
    call.cancel()
    await actor.close()


async def test_uploads_are_counted_and_refused_by_the_name_of_the_quota(stub: Any) -> None:
    actor = await Actor(stub).registered()
    request = place_request("s")
    request.principal.holders.add(name="key:web").quotas.stored = 100
    call = stub.Place(request)
    await actor.admit()
    assert [response async for response in call][-1].HasField("lease")
    asked = pb.ReserveUploadRequest(session_id="s", upload_id="u", size=100)
    for _ in range(2):
        await stub.ReserveUpload(asked)
    more = pb.ReserveUploadRequest(session_id="s", upload_id="v", size=1)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stub.ReserveUpload(more)
    error = error_of(refusal.value)
    assert isinstance(error, errors.LimitError)
    assert (error.quota, error.retry_after_s) == ("stored", None)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stub.ReserveUpload(pb.ReserveUploadRequest(session_id="nobody", upload_id="u"))
    assert isinstance(error_of(refusal.value), errors.UnknownSessionError)
    await actor.close()


async def test_errors_arrive_as_what_they_were(stub: Any) -> None:
    actor = await Actor(stub).registered()
    await placed(stub, actor, "s")
    waiting = [stub.Place(place_request(session)) for session in ("x", "y")]
    for call in waiting:
        await call.read()

    async def refused(call: Any) -> tuple[grpc.StatusCode, errors.RequestError]:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await call.read() if hasattr(call, "read") else await call
        error = error_of(refusal.value)
        assert error is not None
        return refusal.value.code(), error

    code, error = await refused(stub.Place(place_request("z")))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert isinstance(error, errors.NoCapacityError)
    assert error.retry_after_s == RULES.retry_after

    code, error = await refused(stub.Place(place_request("z", model="other")))
    assert code is grpc.StatusCode.NOT_FOUND
    assert isinstance(error, errors.UnknownModelError)
    assert error.served == ("model", "alias")

    code, error = await refused(stub.Place(place_request("")))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert isinstance(error, errors.BadArgumentError)

    code, error = await refused(stub.Find(pb.FindRequest(session_id="z", gateway_id="gateway")))
    assert code is grpc.StatusCode.NOT_FOUND
    assert isinstance(error, errors.UnknownSessionError)

    code, error = await refused(stub.Find(pb.FindRequest(session_id="x", gateway_id="gateway")))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert isinstance(error, errors.NotReadyError)

    code, error = await refused(stub.Book(pb.BookRequest(session_id="s", epoch=99)))
    assert isinstance(error, errors.SessionClosedError)
    for call in waiting:
        call.cancel()
    await actor.close()


@pytest.mark.parametrize(
    "change", [{"resident_slots": 0}, {"period_ms": 0.0}, {"address": ""}, {"actor_id": ""}]
)
async def test_a_senseless_registration_is_refused(stub: Any, change: dict[str, Any]) -> None:
    actor = Actor(stub)
    for name, value in change.items():
        setattr(actor.register, name, value)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await actor.call.read()
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await actor.close()


async def test_compute_is_booked_refused_and_given_back(stub: Any) -> None:
    actor = await Actor(stub, slots=2).registered()
    first = await placed(stub, actor, "s1")
    unbook = pb.UnbookRequest(session_id="s1", epoch=first.epoch)
    await stub.Unbook(unbook)
    second = await placed(stub, actor, "s2")
    await stub.Book(pb.BookRequest(session_id="s2", epoch=second.epoch))
    refused = await stub.Book(pb.BookRequest(session_id="s1", epoch=first.epoch))
    assert not refused.booked
    assert refused.retry_after_us == RULES.retry_after * 1e6
    waiting = stub.Book(pb.BookRequest(session_id="s1", epoch=first.epoch))
    await stub.Unbook(pb.UnbookRequest(session_id="s2", epoch=second.epoch))
    assert (await waiting).booked
    await actor.close()


async def test_presence_keeps_a_session_and_hears_of_its_end(stub: Any) -> None:
    actor = await Actor(stub).registered()
    await placed(stub, actor, "s")
    reports: asyncio.Queue[pb.PresenceRequest] = asyncio.Queue()

    async def requests() -> AsyncIterator[pb.PresenceRequest]:
        while True:
            yield await reports.get()

    async def state_becomes(wanted: int) -> None:
        while True:
            pool = (await stub.DescribePool(pb.DescribePoolRequest())).pool
            if pool.sessions[0].state == wanted:
                return

    presence = stub.Presence(requests())
    connected = pb.Connections(session_id="s", count=1)
    reports.put_nowait(pb.PresenceRequest(gateway_id="gateway", connections=[connected]))
    await state_becomes(pool_pb2.LEASE_STATE_ACTIVE)
    gone = pb.Connections(session_id="s", count=0)
    reports.put_nowait(pb.PresenceRequest(gateway_id="gateway", connections=[gone]))
    await state_becomes(pool_pb2.LEASE_STATE_DETACHED)
    reports.put_nowait(pb.PresenceRequest(gateway_id="gateway", connections=[connected]))
    await state_becomes(pool_pb2.LEASE_STATE_ACTIVE)
    await stub.Release(pb.ReleaseRequest(session_id="s", reason="done"))
    over = pb.SessionOver(session_id="s", reason="done")
    assert await presence.read() == pb.PresenceResponse(ended=over)
    presence.cancel()
    await actor.close()


async def test_a_gateway_whose_report_breaks_has_no_connections(stub: Any) -> None:
    actor = await Actor(stub).registered()
    await placed(stub, actor, "s")

    async def report() -> AsyncIterator[pb.PresenceRequest]:
        connected = pb.Connections(session_id="s", count=1)
        yield pb.PresenceRequest(gateway_id="gateway", connections=[connected])
        await asyncio.Event().wait()

    presence = stub.Presence(report())
    await presence.initial_metadata()
    states = set()
    pool = (await stub.DescribePool(pb.DescribePoolRequest())).pool
    states.add(pool.sessions[0].state)
    presence.cancel()
    while pool_pb2.LEASE_STATE_DETACHED not in states:
        pool = (await stub.DescribePool(pb.DescribePoolRequest())).pool
        states.add(pool.sessions[0].state)
    assert states == {pool_pb2.LEASE_STATE_ACTIVE, pool_pb2.LEASE_STATE_DETACHED}
    await actor.close()


async def test_the_pool_is_described(stub: Any) -> None:
    actor = await Actor(stub).registered()
    lease = await placed(stub, actor, "s")
    call = stub.Place(place_request("x"))
    await call.read()
    await stub.Book(pb.BookRequest(session_id="s", epoch=lease.epoch))
    pool = (await stub.DescribePool(pb.DescribePoolRequest())).pool
    [entry] = pool.actors
    assert (entry.actor_id, entry.model, list(entry.names)) == ("a", "model", ["model", "alias"])
    assert (entry.healthy, entry.sessions, entry.resident_slots, entry.computing) == (True, 1, 1, 1)
    assert entry.booked_ms_per_s == pytest.approx(600.0)
    assert entry.ceiling_ms_per_s == 850.0
    waiting, running = pool.sessions
    assert (waiting.session_id, waiting.actor_id) == ("x", "")
    assert (running.session_id, running.computing, running.tenant) == ("s", True, "tenant")
    assert running.age.ToNanoseconds() > 0
    brief = (await stub.DescribePool(pb.DescribePoolRequest(without_sessions=True))).pool
    assert (len(brief.actors), len(brief.sessions)) == (1, 0)
    line = (await stub.DescribePool(pb.DescribePoolRequest(only_waiting=True))).pool
    assert [each.session_id for each in line.sessions] == ["x"]
    assert (line.sessions[0].queue_position, running.queue_position) == (1, 0)
    assert entry.gpus == "3"
    for each in (pool, brief, line):
        counts = {count.state: count.count for count in each.session_counts}
        # Nobody has connected to the one that was placed.
        assert counts == {
            pool_pb2.LEASE_STATE_QUEUED: 1,
            running.state: 1,
        }
    call.cancel()
    await actor.close()


async def test_what_an_actor_says_of_itself_goes_with_its_link(stub: Any) -> None:
    first = await Actor(stub).registered()
    again = await Actor(stub).registered()
    with suppress(grpc.aio.AioRpcError):
        while await first.call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
            pass

    async def gpus() -> str:
        return str((await stub.DescribePool(pb.DescribePoolRequest())).pool.actors[0].gpus)

    assert await gpus() == "3", "the end of its old link takes nothing away"
    await again.close()
    while await gpus():
        pass
    await first.close()


async def test_the_trace_of_the_caller_reaches_the_actor(stub: Any) -> None:
    actor = await Actor(stub).registered()
    call = stub.Place(place_request("s"), metadata=(("traceparent", TRACEPARENT),))
    admit = await actor.admit()
    assert admit.traceparent.split("-")[1] == TRACEPARENT.split("-")[1]
    await call.read()
    await actor.close()


async def test_a_restarted_scheduler_learns_from_the_actors(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/scheduler"
    held = pb.HeldSession(
        session_id="s", epoch=7, computing=True, principal=pb.Principal(tenant="t"), model="model"
    )
    for _ in range(2):
        scheduler = LocalScheduler(settings(address))
        await asyncio.to_thread(scheduler.start)
        async with asyncio.timeout(20), grpc.aio.insecure_channel(address) as channel:
            stub: Any = placement_pb2_grpc.PlacementStub(channel)
            actor = await Actor(stub, slots=2, held=(held,)).registered()
            lease = (await stub.Find(pb.FindRequest(session_id="s", gateway_id="g"))).lease
            assert (lease.epoch, lease.actor_id) == (7, "a")
            await actor.close()
        await asyncio.to_thread(scheduler.stop)


async def test_a_restarted_scheduler_does_not_disown_what_no_actor_told_of_yet(
    tmp_path: Path,
) -> None:
    address = f"unix:{tmp_path}/scheduler"
    scheduler = LocalScheduler(settings(address, settle_time=60.0))
    await asyncio.to_thread(scheduler.start)
    find = pb.FindRequest(session_id="s", gateway_id="g")
    book = pb.BookRequest(session_id="s", epoch=7)
    async with asyncio.timeout(20), grpc.aio.insecure_channel(address) as channel:
        stub: Any = placement_pb2_grpc.PlacementStub(channel)
        for call in (stub.Find(find), stub.Book(book)):
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await call
            assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
            trailing: Any = refusal.value.trailing_metadata()
            assert dict(trailing)["retry-after-ms"] == "250"
            assert error_of(refusal.value) is None
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stub.Place(place_request("new")).read()
        assert isinstance(error_of(refusal.value), errors.UnknownModelError)
        held = pb.HeldSession(session_id="s", epoch=7, model="model")
        actor = await Actor(stub, slots=2, held=(held,)).registered()
        assert (await stub.Find(find)).lease.epoch == 7
        assert (await stub.Book(book)).booked
        await actor.close()
    await asyncio.to_thread(scheduler.stop)


@pytest.mark.parametrize("broken", [True, False])
async def test_a_scheduler_whose_supervision_ends_dies_and_one_that_is_stopped_does_not(
    tmp_path: Path, broken: bool
) -> None:
    class Broken(FakeLauncher):
        async def adopt(self) -> Sequence[Found[FakeActor]]:
            nonsense: Any = (None,)
            return nonsense if broken else ()

    dead, launcher = asyncio.Event(), Broken()
    runtime = SchedulerRuntime(settings(f"unix:{tmp_path}/s"), launcher, die=dead.set)
    async with asyncio.timeout(20):
        with structlog.testing.capture_logs() as logs:
            await runtime.start()
            try:
                await (dead.wait() if broken else launcher.launched.get())
            finally:
                await runtime.stop(end_actors=False)
    fatal = [entry for entry in logs if entry["log_level"] == "critical"]
    assert dead.is_set() is broken
    assert [entry["error"] for entry in fatal] == (["AttributeError"] if broken else [])


async def test_a_local_scheduler_runs_its_own_actors(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/scheduler"
    spec = ActorSpec(
        model="model", placement_address=address, lease_secret=SECRET, listen="unix:/{actor_id}"
    )
    shell = f"{FAKES}:{EnrollingShell.__name__}"
    scheduler = LocalScheduler(settings(address), [spec], shell=shell, actors=2)
    await asyncio.to_thread(scheduler.start)
    try:
        async with asyncio.timeout(20), grpc.aio.insecure_channel(address) as channel:
            stub: Any = placement_pb2_grpc.PlacementStub(channel)
            pool = pool_pb2.DescribePoolResponse()
            while len(pool.actors) < 2:
                pool = (await stub.DescribePool(pb.DescribePoolRequest())).pool
            responses = [response async for response in stub.Place(place_request("s"))]
            actor = responses[-1].lease.actor_id
            assert responses[-1].lease.address == f"unix:/{actor}"
    finally:
        await asyncio.to_thread(scheduler.stop)


async def test_actors_that_cannot_start_are_tried_again(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/scheduler"
    spec = ActorSpec(model="m", placement_address=address, lease_secret=SECRET, listen="")
    rules = SupervisionRules(first_pause=0.001, longest_pause=0.01)
    shell = f"{FAKES}:{BrokenShell.__name__}"
    scheduler = LocalScheduler(settings(address, supervision=rules), [spec], shell=shell)
    await asyncio.to_thread(scheduler.start)
    try:
        async with asyncio.timeout(20), grpc.aio.insecure_channel(address) as channel:
            for _ in range(3):
                assert await asyncio.to_thread(BrokenShell.starts.acquire, timeout=20)
            stub: Any = placement_pb2_grpc.PlacementStub(channel)
            pool = (await stub.DescribePool(pb.DescribePoolRequest())).pool
            assert list(pool.actors) == []
    finally:
        await asyncio.to_thread(scheduler.stop)


def test_a_free_port_is_taken_and_told() -> None:
    scheduler = LocalScheduler(settings("127.0.0.1:0"))
    host, _, port = scheduler.start().rpartition(":")
    try:
        assert host == "127.0.0.1"
        assert int(port) > 0
        with pytest.raises(ConfigurationError):
            LocalScheduler(settings(scheduler.address)).start()
    finally:
        scheduler.stop()
    scheduler.stop()


def test_a_policy_that_is_not_installed_is_named() -> None:
    with pytest.raises(PluginError, match="nonsense"):
        LocalScheduler(settings("127.0.0.1:0", policy="nonsense")).start()


async def test_what_happens_is_told_as_it_happens(stub: Any) -> None:
    actor = await Actor(stub).registered()
    watch = event_pb2.WatchEventsRequest(after_sequence=0)
    words = stub.WatchEvents(pb.WatchEventsRequest(watch=watch))
    await placed(stub, actor, "s")
    refused = stub.Place(place_request("x", model="nonsense of a client"))
    with pytest.raises(grpc.aio.AioRpcError):
        await refused.read()
    await stub.Release(pb.ReleaseRequest(session_id="s", reason="done"))
    told = []
    while not told or told[-1].kind != event_pb2.EVENT_KIND_SESSION_RELEASED:
        word = (await words.read()).word
        told += [word.event] if word.HasField("event") else []
    assert [event_pb2.EventKind.Name(each.kind)[11:].lower() for each in told] == [
        "scheduler_started", "actor_enrolled", "session_assigned", "session_placed",
        "admission_rejected", "session_released",
    ]  # fmt: skip
    numbers = [each.sequence for each in told]
    assert numbers == list(range(numbers[0], numbers[0] + 6))
    rejected = told[-2]
    # What a client made up is in no event.
    assert (rejected.session_id, rejected.reason, rejected.model) == ("x", "UNKNOWN_MODEL", "")
    pool = (await stub.DescribePool(pb.DescribePoolRequest())).pool
    assert pool.event_sequence == numbers[-1]
    await actor.close()


async def test_a_session_is_described_with_what_became_of_it(stub: Any) -> None:
    actor = await Actor(stub).registered()
    await placed(stub, actor, "s")
    answer = await stub.DescribeSession(pb.DescribeSessionRequest(session_id="s"))
    described = answer.session
    assert (described.session.tenant, described.session.model) == ("tenant", "model")
    assert described.actor.actor_id == "a"
    assert [each.session_id for each in described.events] == ["s", "s"]
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stub.DescribeSession(pb.DescribeSessionRequest(session_id="x"))
    assert isinstance(error_of(refusal.value), errors.UnknownSessionError)
    await actor.close()


async def test_actors_tell_of_chunks_while_somebody_follows_them(stub: Any) -> None:
    actor = await Actor(stub).registered()
    watch = event_pb2.WatchEventsRequest(chunks=True)
    words = stub.WatchEvents(pb.WatchEventsRequest(watch=watch))
    assert (await words.read()).word.HasField("started")
    assert (await actor.order()).watch_chunks.watched
    # One that comes later is told so, too.
    later = await Actor(stub, name="b").registered()
    assert (await later.order()).watch_chunks.watched
    chunk = event_pb2.ChunkEvent(session_id="s", chunk=3, late=True)
    actor.say(pb.EnrollRequest(heartbeat=pb.Heartbeat(chunks=2, chunk_events=[chunk])))
    told: list[event_pb2.ChunkEvents] = []
    while not told:
        word = (await words.read()).word
        told += [word.chunks] if word.HasField("chunks") else []
    assert (told[0].actor_id, list(told[0].chunks), told[0].omitted) == ("a", [chunk], 1)
    words.cancel()
    assert not (await actor.order()).watch_chunks.watched
    await actor.close()
    await later.close()
