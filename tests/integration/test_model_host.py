"""An actor and its scheduler: what it registers, measures, takes in, parks, and gives up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest

from model_actor import host as host_module
from model_actor.engine.live_session import LiveSession
from model_actor.engine.shells import Shell
from model_actor.host import ModelHost
from model_actor.plugin import Model
from model_actor.warm_up import warm_up as window_of_black
from sana_gateway_internal.v1 import placement_pb2, placement_pb2_grpc, stream_pb2
from scheduler.process.storage import FilesystemStorage
from scheduler.process.vital_signs import FOLDER, ask, read
from tests.integration.model_hosts import Hosts

pytestmark = pytest.mark.integration


class Scheduler(placement_pb2_grpc.PlacementServicer):
    """Says what the test puts in, and keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[placement_pb2.EnrollRequest] = []
        self.say: asyncio.Queue[placement_pb2.EnrollResponse] = asyncio.Queue()
        self._changed = asyncio.Event()

    async def Enroll(  # noqa: N802 - the generated name
        self,
        request_iterator: AsyncIterator[placement_pb2.EnrollRequest],
        context: grpc.aio.ServicerContext[
            placement_pb2.EnrollRequest, placement_pb2.EnrollResponse
        ],
    ) -> AsyncIterator[placement_pb2.EnrollResponse]:
        async def read() -> None:
            async for request in request_iterator:
                self.told.append(request)
                self._changed.set()

        reading = asyncio.create_task(read())
        try:
            while True:
                yield await self.say.get()
        finally:
            reading.cancel()

    async def until(
        self, kind: str, which: Callable[[placement_pb2.EnrollRequest], bool] = bool
    ) -> placement_pb2.EnrollRequest:
        """Returns the first thing told of a kind."""
        async with asyncio.timeout(20):
            while True:
                for each in self.told:
                    if each.WhichOneof("request") == kind and which(each):
                        return each
                self._changed.clear()
                await self._changed.wait()

    def order(self, **fields: object) -> None:
        self.say.put_nowait(placement_pb2.EnrollResponse(**fields))  # type: ignore[arg-type]


class Gateway:
    """Takes part, and keeps what it is told."""

    gateway_id = "g1"

    def __init__(self) -> None:
        self.told: list[stream_pb2.ControlResponse] = []
        self._changed = asyncio.Event()

    def control(self, response: stream_pb2.ControlResponse) -> None:
        copy = stream_pb2.ControlResponse()
        copy.CopyFrom(response)
        self.told.append(copy)
        self._changed.set()

    def media(self, packet: stream_pb2.VideoPacket, due_at: float) -> bool:
        return True

    def kinds(self) -> list[str]:
        return [str(each.WhichOneof("response")) for each in self.told]

    async def until(
        self, which: Callable[[stream_pb2.ControlResponse], bool]
    ) -> stream_pb2.ControlResponse:
        async with asyncio.timeout(20):
            while (found := next(filter(which, self.told), None)) is None:
                self._changed.clear()
                await self._changed.wait()
        return found


@pytest.fixture
async def scheduler(tmp_path: Path) -> AsyncIterator[Scheduler]:
    scheduler = Scheduler()  # type: ignore[abstract] # the rest is not called
    server = grpc.aio.server()
    placement_pb2_grpc.add_PlacementServicer_to_server(scheduler, server)
    server.add_insecure_port(f"unix:{tmp_path}/placement")
    await server.start()
    yield scheduler
    await server.stop(0)


@pytest.fixture
async def host(tmp_path: Path, scheduler: Scheduler) -> AsyncIterator[ModelHost]:
    assert not scheduler.told
    hosts = Hosts(tmp_path, f"unix:{tmp_path}/placement")
    host, _ = await hosts.start()
    yield host
    await hosts.stop()


async def admitted(scheduler: Scheduler, host: ModelHost, epoch: int = 1) -> LiveSession:
    """Has a session admitted."""
    admit = placement_pb2.Admit(session_id="s1", epoch=epoch, model="simulated")
    scheduler.order(admit=admit)
    told = await scheduler.until("admitted", lambda each: each.admitted.epoch == epoch)
    assert told.admitted.refusal == ""
    session = host.get("s1")
    assert isinstance(session, LiveSession)
    return session


async def shell_of_parked(scheduler: Scheduler, host: ModelHost) -> Shell:
    """Has a session parked and admitted again, to go on."""
    assert not (await host.park("s1", 1, store=False)).failure
    admit = placement_pb2.Admit(session_id="s1", epoch=2, model="simulated", restore=True)
    scheduler.order(admit=admit)
    await scheduler.until("admitted", lambda each: each.admitted.epoch == 2)
    shell = host.get("s1")
    assert isinstance(shell, Shell)
    return shell


async def test_it_registers_what_the_ledgers_need_after_a_window_was_computed(
    scheduler: Scheduler, host: ModelHost
) -> None:
    register = (await scheduler.until("register")).register
    assert register.actor_id == host.register().actor_id
    assert (register.host, register.encode_capacity_ms) == ("here", 1000.0)
    assert register.encode_ms > 0
    assert not register.draining
    beat = (await scheduler.until("heartbeat")).heartbeat
    assert (beat.ends_in_us, beat.chunks) == (0, 0)


async def test_it_is_ready_after_its_warm_up_until_it_is_to_be_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vitals = tmp_path / "vitals"
    vitals.mkdir()
    monkeypatch.setenv(FOLDER, str(vitals))
    computing, warm = threading.Event(), threading.Event()

    def warm_up(model: Model) -> bool:
        computing.set()
        assert warm.wait(20)
        return window_of_black(model)

    monkeypatch.setattr(host_module, "warm_up", warm_up)

    async def why() -> str:
        (socket,) = vitals.iterdir()
        condition = read(await ask(socket, "condition"))
        assert condition is not None
        assert (condition.role, condition.name) == ("actor", "a0")
        return condition.why_not_ready

    hosts = Hosts(tmp_path)
    starting = asyncio.create_task(hosts.start())
    try:
        assert await asyncio.to_thread(computing.wait, 20)
        assert await why() == "it starts"
        warm.set()
        host, _ = await starting
        assert await why() == ""
        await host.told_to_drain(placement_pb2.Drain(draining=True))
        assert await why() == host_module.DRAINING
        await host.told_to_drain(placement_pb2.Drain())
        assert await why() == ""
        (socket,) = vitals.iterdir()
        told = (await ask(socket, "metrics")).decode()
        assert 'sana_gateway_actor_slots{actor="a0",model="simulated"}' in told
    finally:
        warm.set()
        await hosts.stop()
    assert list(vitals.iterdir()) == []


async def test_a_session_that_is_parked_goes_on_from_what_was_kept(
    scheduler: Scheduler, host: ModelHost
) -> None:
    session = await admitted(scheduler, host)
    gateway = Gateway()
    session.open(gateway)
    scheduler.order(park=placement_pb2.Park(session_id="s1", epoch=1))
    parked = (await scheduler.until("parked")).parked
    assert (parked.host, parked.failure) == ("here", "")
    assert host.get("s1") is None
    assert "closed" not in gateway.kinds()
    admit = placement_pb2.Admit(session_id="s1", epoch=2, model="simulated", restore=True)
    scheduler.order(admit=admit)
    await scheduler.until("admitted", lambda each: each.admitted.epoch == 2)
    shell = host.get("s1")
    assert isinstance(shell, Shell)
    late = Gateway()
    shell.open(late, stream_pb2.Open(session_id="s1"))
    restored = (await scheduler.until("restored")).restored
    assert (restored.session_id, restored.epoch) == ("s1", 2)
    assert (await late.until(lambda each: each.HasField("opened"))).opened.epoch == 2


async def test_a_session_on_no_actor_is_stored_by_one_of_its_host(
    scheduler: Scheduler, host: ModelHost, tmp_path: Path
) -> None:
    await admitted(scheduler, host)
    scheduler.order(park=placement_pb2.Park(session_id="s1", epoch=1))
    await scheduler.until("parked")
    assert len(list((tmp_path / "kept").iterdir())) == 1
    scheduler.order(park=placement_pb2.Park(session_id="s1", epoch=1, store=True))
    stored = await scheduler.until("parked", lambda each: each.parked.host == "")
    assert stored.parked.failure == ""
    assert list((tmp_path / "kept").iterdir()) == []
    scheduler.order(park=placement_pb2.Park(session_id="unknown", epoch=1, store=True))
    unknown = await scheduler.until("parked", lambda each: each.parked.session_id == "unknown")
    assert unknown.parked.failure


async def test_what_is_kept_of_a_session_goes_with_it(
    scheduler: Scheduler, host: ModelHost, tmp_path: Path
) -> None:
    session = await admitted(scheduler, host)
    gateway = Gateway()
    session.open(gateway)
    session.leave("g1")
    keeping = session._keeper._keeping
    assert keeping is not None, "it is kept when the last gateway has left"
    await keeping
    assert len(list((tmp_path / "kept").iterdir())) == 1
    await host.evict("s1", 1, "over")
    assert list((tmp_path / "kept").iterdir()) == []
    assert host.get("s1") is None


@pytest.mark.parametrize("store", [False, True], ids=["host", "storage"])
async def test_what_is_kept_of_a_session_on_no_actor_goes_with_it(
    scheduler: Scheduler, host: ModelHost, tmp_path: Path, store: bool
) -> None:
    await admitted(scheduler, host)
    assert not (await host.park("s1", 1, store=store)).failure
    left = [*(tmp_path / "kept").iterdir(), *(tmp_path / "storage").rglob("index")]
    assert len(left) == 1
    await host.evict("s1", 5, "moved", goes_on=True)
    assert left[0].exists(), "it goes on"
    await host.evict("s1", 5, "over")
    assert not left[0].exists()
    assert not (await host.park("s1", 1, store=False)).host, "nothing is left"


@pytest.mark.parametrize("here", [True, False], ids=["here", "nowhere"])
async def test_what_an_ended_session_uploaded_goes_with_it(
    scheduler: Scheduler, host: ModelHost, tmp_path: Path, here: bool
) -> None:
    if here:
        await admitted(scheduler, host)
    storage = FilesystemStorage(tmp_path / "storage")
    for key in ("s1/u1", "s2/u1"):
        await storage.create(key, 1)
        await storage.append(key, 0, b"x")
    if not here:
        await host.evict("s1", 5, "moved", goes_on=True)
        assert await storage.exists("s1/u1"), "it goes on"
    await host.evict("s1", 5, "over")
    assert not await storage.exists("s1/u1")
    assert await storage.exists("s2/u1")
    await storage.close()


async def test_it_tells_where_a_parked_session_is_kept(
    scheduler: Scheduler, host: ModelHost
) -> None:
    await admitted(scheduler, host)
    assert (await host.park("s1", 1, store=False)).host == "here"
    again = await host.park("s1", 1, store=False)
    assert (again.host, again.failure) == ("here", "")
    assert not (await host.park("s1", 1, store=True)).failure
    stored = await host.park("s1", 1, store=False)
    assert (stored.host, stored.failure) == ("", "")
    assert (await host.park("s2", 1, store=False)).failure


@pytest.mark.parametrize("waiting", [False, True], ids=["session", "shell"])
async def test_an_actor_that_ends_sends_its_gateways_elsewhere(
    scheduler: Scheduler, host: ModelHost, waiting: bool
) -> None:
    gateway = Gateway()
    session = await admitted(scheduler, host)
    if waiting:
        shell = await shell_of_parked(scheduler, host)
        shell.open(gateway, stream_pb2.Open(session_id="s1", standby=True))
    else:
        session.open(gateway)
    await host._close_all()
    last = gateway.told[-1]
    assert last.WhichOneof("response") == "refused"
    assert not last.refused.needs_snapshot
    assert "closed" not in gateway.kinds()


@pytest.mark.parametrize("restored", [False, True], ids=["session", "shell"])
async def test_what_is_kept_of_a_session_that_goes_on_elsewhere_stays(
    scheduler: Scheduler, host: ModelHost, tmp_path: Path, restored: bool
) -> None:
    session = await admitted(scheduler, host)
    assert not (await session.park(store=False))
    if restored:
        await shell_of_parked(scheduler, host)
    await host.evict("s1", 2, "the move was undone", goes_on=True)
    assert host.get("s1") is None
    assert list((tmp_path / "kept").iterdir())


async def test_what_is_kept_outlives_the_actor(
    scheduler: Scheduler, host: ModelHost, tmp_path: Path
) -> None:
    session = await admitted(scheduler, host)
    assert not (await session.park(store=False))
    await host._close_all()
    assert host.get("s1") is None
    assert list((tmp_path / "kept").iterdir())


@pytest.mark.parametrize("store", [False, True])
async def test_a_shell_that_is_parked_is_gone(
    scheduler: Scheduler, host: ModelHost, store: bool
) -> None:
    await admitted(scheduler, host)
    shell = await shell_of_parked(scheduler, host)
    gateway = Gateway()
    shell.open(gateway, stream_pb2.Open(session_id="s1", standby=True))
    parked = await host.park("s1", 2, store=store)
    assert not parked.failure
    assert host.get("s1") is None
    assert shell.closed
    assert "closed" not in gateway.kinds()


async def test_an_eviction_of_an_older_lease_touches_nothing(
    scheduler: Scheduler, host: ModelHost
) -> None:
    session = await admitted(scheduler, host, epoch=3)
    await host.evict("s1", 2, "an older one")
    assert host.get("s1") is session


async def test_a_session_that_was_placed_anew_ends_here_without_a_word(
    scheduler: Scheduler, host: ModelHost
) -> None:
    session = await admitted(scheduler, host)
    gateway = Gateway()
    session.open(gateway)
    await admitted(scheduler, host, epoch=2)
    assert session.closed
    assert "closed" not in gateway.kinds()


async def test_a_process_that_is_to_end_says_when_and_retires_once_it_is_empty(
    scheduler: Scheduler, host: ModelHost
) -> None:
    session = await admitted(scheduler, host)
    gateway = Gateway()
    session.open(gateway)
    host.begin_drain(30.0)
    beat = await scheduler.until("heartbeat", lambda each: each.heartbeat.ends_in_us > 0)
    assert beat.heartbeat.ends_in_us <= 30_000_000
    assert host.register().draining
    awaits = placement_pb2.AwaitsRoom(session_id="s1", epoch=1, awaits=True)
    scheduler.order(awaits_room=awaits)
    await gateway.until(lambda each: each.message.message.state.awaiting_room)
    scheduler.order(retire=placement_pb2.Retire())
    late = placement_pb2.Admit(session_id="s2", epoch=1, model="simulated")
    scheduler.order(admit=late)
    refused = await scheduler.until("admitted", lambda each: each.admitted.session_id == "s2")
    assert refused.admitted.refusal


async def test_an_actor_repeats_what_it_was_told_of_its_drain(
    scheduler: Scheduler, host: ModelHost
) -> None:
    session = await admitted(scheduler, host)
    gateway = Gateway()
    session.open(gateway)
    assert not host.register().HasField("drain")
    scheduler.order(drain=placement_pb2.Drain(draining=True, ends_in_us=60_000_000))
    scheduler.order(awaits_room=placement_pb2.AwaitsRoom(session_id="s1", epoch=1, awaits=True))
    await gateway.until(lambda each: each.message.message.state.awaiting_room)
    told = host.register()
    assert told.drain.draining
    assert 0 < told.drain.ends_in_us <= 60_000_000
    assert [held.awaits_room for held in told.sessions] == [True]
    assert not told.draining, "its process was not told to end"
    await host.told_to_drain(placement_pb2.Drain())
    await host.awaits_room("s1", 1, awaits=False)
    told = host.register()
    assert not told.HasField("drain")
    assert [held.awaits_room for held in told.sessions] == [False]


async def test_a_session_that_was_handed_over_is_not_registered_and_departs(
    scheduler: Scheduler, host: ModelHost
) -> None:
    session = await admitted(scheduler, host)
    gateway = Gateway()
    session.open(gateway)
    session.hand_over(stream_pb2.HandOver(session_id="s1", epoch=2))
    assert await gateway.until(lambda each: each.handed_over.HasField("snapshot"))
    assert not host.register().sessions
    session.leave("g1")
    departed = (await scheduler.until("departed")).departed
    assert (departed.session_id, departed.epoch) == ("s1", 1)
    assert "closed" not in gateway.kinds()
