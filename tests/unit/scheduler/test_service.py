"""The driver: effects reach who waits for them, and leaving takes back what was asked."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest

from sana_gateway.v1 import session_pb2
from scheduler import links
from scheduler.core import pool_events as ev
from scheduler.core.errors import (
    AskedElsewhereError,
    NoCapacityError,
    NotReadyError,
    SessionClosedError,
    UnknownModelError,
    UnknownSessionError,
)
from scheduler.core.ids import ActorId, Epoch, GatewayId, Principal, SessionId
from scheduler.core.placement import Pack
from scheduler.core.pool import Pool
from scheduler.links import Enrollment, Grant, Order
from scheduler.process.tokens import LeaseTokens
from scheduler.service import SchedulerService, SettlingError
from tests.fakes.crew import FakeCrew

pytestmark = pytest.mark.unit

TOKENS = LeaseTokens("0123456789abcdef0123456789abcdef")
RULES = ev.PoolRules(queue_limit=2)
CAPABILITIES = session_pb2.Capabilities(frame_rate=24.0)
PRINCIPAL = Principal("tenant", frozenset())
GATEWAY = GatewayId("gateway")


@pytest.fixture
async def service() -> AsyncIterator[SchedulerService]:
    service = make(RULES)
    yield service
    service.close()


def make(rules: ev.PoolRules, *, settle_time: float = 0.0) -> SchedulerService:
    return SchedulerService(Pool(rules, Pack()), TOKENS, settle_time=settle_time)


class Actor:
    """A scripted actor on its link."""

    def __init__(
        self,
        service: SchedulerService,
        name: str = "a",
        slots: int = 1,
        held: tuple[ev.Held, ...] = (),
    ) -> None:
        self._service = service
        self.link: Enrollment = service.enroll(
            ev.ActorRegistered(
                ActorId(name), ("model",), f"unix:/{name}", slots, 600.0, 1000.0, held
            ),
            CAPABILITIES,
        )
        self._orders = aiter(self.link.orders)

    async def order(self) -> Order:
        return await anext(self._orders)

    async def admit(self) -> Order:
        order = await self.order()
        assert isinstance(order.word, ev.Admit)
        self._service.hear(
            self.link, ev.AdmitAnswered(order.word.actor, order.word.session, order.word.epoch)
        )
        return order


def asked(session: str, model: str = "model", waited: float = 0.0) -> ev.PlaceAsked:
    return ev.PlaceAsked(SessionId(session), model, PRINCIPAL, GATEWAY, waited)


async def place(service: SchedulerService, actor: Actor, session: str) -> Grant:
    places = service.place(asked(session))
    first = asyncio.ensure_future(anext(places))
    await actor.admit()
    grant = await first
    assert isinstance(grant, Grant)
    assert [news async for news in places] == []
    return grant


async def test_a_place_is_granted_with_a_token_for_the_gateway(service: SchedulerService) -> None:
    grant = await place(service, Actor(service), "s")
    assert (grant.session, grant.actor, grant.address) == ("s", "a", "unix:/a")
    assert grant.capabilities == CAPABILITIES
    claims = TOKENS.verify(grant.token)
    assert (claims.session, claims.epoch, claims.gateway) == ("s", grant.epoch, GATEWAY)


async def test_the_trace_of_a_placement_goes_to_the_actor(service: SchedulerService) -> None:
    actor = Actor(service)
    places = service.place(asked("s"), "00-trace-01")
    first = asyncio.ensure_future(anext(places))
    order = await actor.admit()
    assert order.traceparent == "00-trace-01"
    await first


async def test_the_queue_is_told_until_the_place_is_there(service: SchedulerService) -> None:
    actor = Actor(service)
    await place(service, actor, "s")
    places = service.place(asked("x"))
    assert await anext(places) == ev.Waiting(SessionId("x"), 1, 0.0)
    service.release(SessionId("s"), "closed")
    assert isinstance((await actor.order()).word, ev.Evict)
    await actor.admit()
    assert isinstance(await anext(places), Grant)


async def test_only_the_latest_position_is_kept_for_a_slow_reader(
    service: SchedulerService,
) -> None:
    actor = Actor(service)
    await place(service, actor, "s")
    first, second = service.place(asked("x")), service.place(asked("y"))
    await anext(first)
    assert await anext(second) == ev.Waiting(SessionId("y"), 2, 0.0)
    service.release(SessionId("x"), "closed")
    service.release(SessionId("s"), "closed")
    await actor.order()
    await actor.admit()
    assert isinstance(await anext(second), Grant)
    with pytest.raises(SessionClosedError):
        await anext(first)


async def test_leaving_the_queue_gives_the_turn_up_after_the_grace() -> None:
    service = make(ev.PoolRules(ticket_grace=0.01))
    await place(service, Actor(service), "s")
    leaving, staying = service.place(asked("x")), service.place(asked("y"))
    await anext(leaving)
    await anext(staying)
    await leaving.aclose()  # type: ignore[attr-defined]
    async with asyncio.timeout(30):
        assert await anext(staying) == ev.Waiting(SessionId("y"), 1, 0.0)
    with pytest.raises(UnknownSessionError):
        service.find(SessionId("x"), GATEWAY)
    service.close()


async def test_a_queued_session_outlives_a_call_that_broke(service: SchedulerService) -> None:
    await place(service, Actor(service), "s")
    first, second = service.place(asked("x")), service.place(asked("y"))
    await anext(first)
    await anext(second)
    waiting = asyncio.ensure_future(anext(first))
    await asyncio.sleep(0)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    again = service.place(asked("x", waited=1.0))
    assert await anext(again) == ev.Waiting(SessionId("x"), 1, 0.0)


async def test_a_session_placed_while_the_call_was_broken_is_found_and_granted_again(
    service: SchedulerService,
) -> None:
    actor = Actor(service)
    first = asyncio.ensure_future(anext(service.place(asked("s"))))
    order = await actor.order()
    first.cancel()
    with suppress(asyncio.CancelledError):
        await first
    assert isinstance(order.word, ev.Admit)
    service.hear(actor.link, ev.AdmitAnswered(ActorId("a"), SessionId("s"), order.word.epoch))
    assert service.find(SessionId("s"), GATEWAY).epoch == order.word.epoch
    grant = await anext(service.place(asked("s", waited=1.0)))
    assert isinstance(grant, Grant)
    assert grant.epoch == order.word.epoch


async def test_leaving_before_the_grant_was_taken_leaves_the_session_to_presence(
    service: SchedulerService,
) -> None:
    actor = Actor(service)
    places = service.place(asked("s"))
    first = asyncio.ensure_future(anext(places))
    await actor.admit()
    await first
    await places.aclose()  # type: ignore[attr-defined]
    [view] = service.describe().sessions
    assert view.detached


async def test_a_session_given_up_by_release_has_ended(service: SchedulerService) -> None:
    await place(service, Actor(service), "s")
    places = service.place(asked("x"))
    await anext(places)
    await places.aclose()  # type: ignore[attr-defined]
    service.release(SessionId("x"), "closed")
    with pytest.raises(SessionClosedError):
        await anext(service.place(asked("x", waited=1.0)))


async def test_refusals_reach_the_caller_and_leave_nothing(service: SchedulerService) -> None:
    with pytest.raises(UnknownModelError):
        await anext(service.place(asked("s")))
    await place(service, Actor(service), "s")
    waiting = [service.place(asked(session)) for session in ("x", "y")]
    for places in waiting:
        await anext(places)
    with pytest.raises(NoCapacityError):
        await anext(service.place(asked("z")))
    with pytest.raises(UnknownSessionError):
        service.find(SessionId("z"), GATEWAY)


async def test_asking_again_takes_over_the_wait(service: SchedulerService) -> None:
    await place(service, Actor(service), "s")
    earlier = service.place(asked("x"))
    await anext(earlier)
    later = service.place(asked("x"))
    assert await anext(later) == ev.Waiting(SessionId("x"), 1, 0.0)
    with pytest.raises(AskedElsewhereError):
        await anext(earlier)
    with pytest.raises(NotReadyError):
        service.find(SessionId("x"), GATEWAY)


async def test_another_tenant_is_not_told_of_a_session_and_disturbs_nobody(
    service: SchedulerService,
) -> None:
    await place(service, Actor(service), "s")
    waiting = service.place(asked("x"))
    await anext(waiting)
    service.release(SessionId("s"), "closed")
    thief = Principal("thief", frozenset())
    for session in ("s", "x"):
        foreign = dataclasses.replace(asked(session), principal=thief, restore=True)
        with pytest.raises(UnknownSessionError):
            await anext(service.place(foreign))
    asking = asyncio.ensure_future(anext(waiting))
    await asyncio.sleep(0)
    assert not asking.done(), "it still waits"
    asking.cancel()


async def test_who_asked_for_another_tenants_session_before_its_actor_came_gets_nothing(
    service: SchedulerService,
) -> None:
    thief = Principal("thief", frozenset())
    places = service.place(dataclasses.replace(asked("s"), principal=thief, restore=True))
    await anext(places)
    own = ev.Held(SessionId("s"), Epoch(3), computing=False, principal=PRINCIPAL, model="model")
    Actor(service, held=(own,))
    with pytest.raises(UnknownSessionError):
        await anext(places)


async def test_another_tenants_session_is_as_unknown_as_none_whatever_became_of_it(
    service: SchedulerService,
) -> None:
    await place(service, Actor(service), "placed")
    await anext(service.place(asked("waiting")))
    await anext(service.place(asked("over")))
    service.release(SessionId("over"), "closed")
    seen = set()
    for session in ("placed", "waiting", "over", "never was"):
        with pytest.raises(UnknownSessionError) as refused:
            service.find(SessionId(session), GATEWAY, "rival")
        seen.add(str(refused.value))
    assert len(seen) == 1
    assert service.find(SessionId("placed"), GATEWAY, PRINCIPAL.tenant).session == "placed"
    with pytest.raises(NotReadyError):
        service.find(SessionId("waiting"), GATEWAY, PRINCIPAL.tenant)
    with pytest.raises(SessionClosedError):
        service.find(SessionId("over"), GATEWAY, PRINCIPAL.tenant)


async def test_a_found_session_gets_a_token_of_the_finder(service: SchedulerService) -> None:
    granted = await place(service, Actor(service), "s")
    found = service.find(SessionId("s"), GatewayId("other"))
    assert found.epoch == granted.epoch
    assert TOKENS.verify(found.token).gateway == "other"


async def test_all_gateways_that_know_a_session_hear_of_its_end(
    service: SchedulerService,
) -> None:
    await place(service, Actor(service), "s")
    named, granted, stranger = (
        service.link_gateway(GatewayId(name)) for name in ("g1", "g2", "g3")
    )
    service.report(named, {SessionId("s"): 0}, complete=True)
    service.find(SessionId("s"), GatewayId("g2"))
    service.release(SessionId("s"), "done")
    for link in (named, granted):
        assert await anext(aiter(link.news)) == ev.Ended(SessionId("s"), "done")
    stranger.news.close()
    assert [news async for news in stranger.news] == []


async def test_a_gateway_that_loses_all_its_sessions_at_once_keeps_its_link(
    service: SchedulerService,
) -> None:
    sessions = [SessionId(f"s{number:04}") for number in range(2000)]
    held = tuple(
        ev.Held(session, Epoch(1), computing=False, principal=PRINCIPAL, model="model")
        for session in sessions
    )
    actor = Actor(service, slots=2000, held=held)
    link = service.link_gateway(GATEWAY)
    service.report(link, dict.fromkeys(sessions, 1), complete=True)
    service.actor_died(actor.link.actor)
    news = aiter(link.news)
    told = [await anext(news) for _ in sessions]
    assert sorted(each.session for each in told if isinstance(each, ev.ParkedTold)) == sessions
    service.release(SessionId("s0000"), "done")
    assert await anext(news) == ev.Ended(SessionId("s0000"), "done")


async def test_a_newer_link_of_a_gateway_replaces_the_older(service: SchedulerService) -> None:
    await place(service, Actor(service), "s")
    older = service.link_gateway(GATEWAY)
    newer = service.link_gateway(GATEWAY)
    service.report(newer, {SessionId("s"): 1}, complete=True)
    service.report(older, {SessionId("s"): 0}, complete=False)
    service.unlink_gateway(older)
    assert [news async for news in older.news] == []
    assert not service.describe().sessions[0].detached
    service.unlink_gateway(newer)
    assert service.describe().sessions[0].detached


async def test_a_gateway_that_does_not_read_loses_its_link(
    service: SchedulerService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "OUTBOX_LIMIT", 8)
    link = service.link_gateway(GATEWAY)
    service.report(link, {SessionId(f"s{number}"): 1 for number in range(20)}, complete=True)
    for number in range(20):
        service.release(SessionId(f"s{number}"), "closed")
    told = [news.session async for news in link.news if isinstance(news, ev.Ended)]
    assert told == [f"s{number}" for number in range(8)]


async def test_a_newer_link_of_an_actor_replaces_the_older(service: SchedulerService) -> None:
    older = Actor(service)
    Actor(service)
    with pytest.raises(StopAsyncIteration):
        await older.order()
    service.unlink_actor(older.link)
    assert service.describe().actors[0].healthy


async def test_compute_is_booked_in_turn(service: SchedulerService) -> None:
    actor = Actor(service, slots=2)
    first = await place(service, actor, "s1")
    assert (await service.book(first.session, first.epoch)).booked
    places = service.place(asked("s2"))
    assert isinstance(await anext(places), ev.Waiting)
    service.unbook(first.session, first.epoch)
    await actor.admit()
    second = await anext(places)
    assert isinstance(second, Grant)
    waiting = asyncio.create_task(service.book(first.session, first.epoch))
    await asyncio.sleep(0)
    assert not waiting.done()
    service.unbook(second.session, second.epoch)
    assert (await waiting).booked


async def test_leaving_withdraws_a_request_for_compute(service: SchedulerService) -> None:
    actor = Actor(service, slots=2)
    first = await place(service, actor, "s1")
    service.unbook(first.session, first.epoch)
    second = await place(service, actor, "s2")
    for end in ("before", "after"):
        waiting = asyncio.create_task(service.book(first.session, first.epoch))
        await asyncio.sleep(0)
        if end == "after":
            # Granted in the very step in which the caller leaves.
            service.unbook(second.session, second.epoch)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        booked = [view.computing for view in service.describe().sessions]
        assert booked == [False, False]


async def test_booking_with_a_void_lease_is_refused(service: SchedulerService) -> None:
    grant = await place(service, Actor(service), "s")
    with pytest.raises(SessionClosedError):
        await service.book(grant.session, Epoch(grant.epoch - 1))
    with pytest.raises(UnknownSessionError):
        await service.book(SessionId("other"), grant.epoch)


async def test_a_session_not_told_of_yet_is_not_unknown_while_settling() -> None:
    service = make(RULES, settle_time=60.0)
    session = SessionId("s")
    with pytest.raises(SettlingError):
        service.find(session, GATEWAY)
    with pytest.raises(SettlingError):
        await service.book(session, Epoch(7))
    held = ev.Held(session, Epoch(7), computing=False, principal=PRINCIPAL, model="model")
    Actor(service, held=(held,))
    assert service.find(session, GATEWAY).epoch == 7
    assert (await service.book(session, Epoch(7))).booked
    service.release(session, "closed")
    with pytest.raises(SessionClosedError):
        service.find(session, GATEWAY)
    service.close()


async def test_settling_holds_up_neither_places_nor_refusals() -> None:
    service = make(RULES, settle_time=60.0)
    with pytest.raises(UnknownModelError):
        await anext(service.place(asked("s")))
    await place(service, Actor(service), "s")
    service.close()


async def test_a_scheduler_that_has_settled_knows_what_is_unknown() -> None:
    service = make(RULES, settle_time=0.01)
    settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.05, settled.set_result, None)
    await settled
    with pytest.raises(UnknownSessionError):
        service.find(SessionId("s"), GATEWAY)
    with pytest.raises(UnknownSessionError):
        await service.book(SessionId("s"), Epoch(1))
    service.close()


async def test_deadlines_come_by_themselves() -> None:
    service = make(ev.PoolRules(reconnect_window=0.05))
    actor = Actor(service)
    link = service.link_gateway(GATEWAY)
    await place(service, actor, "s")
    # What it was given the place of concerns it.
    async with asyncio.timeout(30):
        ended = await anext(aiter(link.news))
    assert ended == ev.Ended(SessionId("s"), "no client for 0.05 s")
    service.close()


async def test_the_crew_hears_of_actors_that_come_and_go() -> None:
    service, crew = make(ev.PoolRules(actor_timeout=0.05)), FakeCrew()
    service.supervise(crew)
    actor = Actor(service)
    assert await crew.told.get() == ("enrolled", "a")
    async with asyncio.timeout(30):
        assert await crew.told.get() == ("replace", "a")
    with pytest.raises(StopAsyncIteration):
        await actor.order()
    service.close()


async def test_a_death_that_is_known_is_not_waited_for(service: SchedulerService) -> None:
    link = service.link_gateway(GATEWAY)
    grant = await place(service, Actor(service), "s")
    service.actor_died(grant.actor)
    told = await anext(aiter(link.news))
    assert isinstance(told, ev.ParkedTold)
    assert (told.session, told.epoch, told.restoring) == ("s", grant.epoch, True)


async def test_closing_ends_links_and_leaves_sessions_alone(service: SchedulerService) -> None:
    actor = Actor(service)
    await place(service, actor, "s")
    places = service.place(asked("x"))
    await anext(places)
    link = service.link_gateway(GATEWAY)
    service.close()
    await places.aclose()  # type: ignore[attr-defined]
    assert [ended async for ended in link.news] == []
    with pytest.raises(StopAsyncIteration):
        await actor.order()
    assert [view.session for view in service.describe().sessions] == ["x", "s"]


class SlowLoop:
    """The event loop's time, as a test sets it, and its one timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.now = 1000.0
        self.timers: list[tuple[float, Callable[[], object]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        self.timers.append((when, callback))
        return asyncio.TimerHandle(when, callback, (), self._loop)

    def create_future(self) -> asyncio.Future[object]:
        return self._loop.create_future()


@pytest.fixture
async def slow(monkeypatch: pytest.MonkeyPatch) -> tuple[SchedulerService, SlowLoop]:
    loop = SlowLoop(asyncio.get_running_loop())
    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "get_running_loop", lambda: loop)
        return make(ev.PoolRules()), loop


async def test_a_driver_that_did_not_run_for_a_while_blames_no_actor(
    slow: tuple[SchedulerService, SlowLoop],
) -> None:
    service, loop = slow
    crew = FakeCrew()
    service.supervise(crew)
    actors = [Actor(service, name) for name in "ab"]
    # It was stopped; the words that came meanwhile are read one by one.
    loop.now += 60.0
    for actor in actors:
        service.hear(actor.link, ev.ActorBeat(actor.link.actor))
    assert [crew.told.get_nowait() for _ in actors] == [("enrolled", "a"), ("enrolled", "b")]
    assert crew.told.empty()


async def test_a_timer_for_what_is_past_already_is_no_oversleeping(
    slow: tuple[SchedulerService, SlowLoop],
) -> None:
    service, loop = slow
    crew = FakeCrew()
    service.supervise(crew)
    a, b = (Actor(service, name) for name in "ab")
    for _ in range(6):
        loop.now += 0.5
        # The last call of so short a drain would have been a while ago.
        service.hear(a.link, ev.ActorBeat(a.link.actor, ends_in=5.0))
    del b
    told = [crew.told.get_nowait() for _ in range(crew.told.qsize())]
    assert ("replace", "b") in told
    assert ("replace", "a") not in told
