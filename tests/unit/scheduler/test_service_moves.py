"""The driver's part in moves, parking and drains: who is told what the pool decided."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sana_gateway.v1 import session_pb2
from scheduler.core import pool_events as ev
from scheduler.core.errors import BadArgumentError, NotReadyError
from scheduler.core.happenings import Listener
from scheduler.core.ids import ActorId, Epoch, GatewayId, Principal, SessionId
from scheduler.core.lease import Lease, LeaseState
from scheduler.core.pool import Pool
from scheduler.core.quality import Quality
from scheduler.links import Heard, Move, Order, PresenceLink
from scheduler.process.tokens import LeaseTokens
from scheduler.service import SchedulerService
from tests.fakes.crew import FakeCrew

pytestmark = pytest.mark.unit

TOKENS = LeaseTokens("0123456789abcdef0123456789abcdef")
A, B = ActorId("a"), ActorId("b")
S = SessionId("s")
OLD, NEW = Epoch(3), Epoch(4)


class Scripted(Pool):
    """A pool that decides what a test says."""

    def __init__(self) -> None:
        self.heard: list[ev.Event] = []
        self.coming: list[ev.Effect] = []
        self.moving: Lease | None = None

    def listen(self, listener: Listener) -> None:
        """Nothing happens that nobody says."""

    def apply(self, event: ev.Event, now: float) -> None:
        match event:
            case ev.DrainAsked(actor="nobody"):
                raise BadArgumentError("there is no such actor")
        self.heard.append(event)

    def decide(self, now: float) -> list[ev.Effect]:
        effects, self.coming = self.coming, []
        return effects

    def next_deadline(self) -> float | None:
        return None

    def target(self, session: SessionId) -> Lease:
        if self.moving is None or self.moving.session != session:
            raise NotReadyError("the session does not move")
        return self.moving

    def address(self, actor: ActorId) -> str:
        return f"unix:/{actor}"


class Driven:
    """A service on a scripted pool."""

    def __init__(self) -> None:
        self.pool = Scripted()
        self.service = SchedulerService(self.pool, TOKENS)
        self.crew = FakeCrew()
        self.service.supervise(self.crew)

    def decide(self, *effects: ev.Effect) -> None:
        """Has the pool decide, at the next event."""
        self.pool.coming.extend(effects)
        self.service.release(SessionId("nobody"), "to let the pool decide")

    def gateway(self, name: str, **counts: int) -> PresenceLink:
        link = self.service.link_gateway(GatewayId(name))
        self.report(link, **counts)
        return link

    def report(self, link: PresenceLink, **counts: int) -> None:
        told = {SessionId(session): count for session, count in counts.items()}
        self.service.report(link, told, complete=False)

    def move(self) -> None:
        self.pool.moving = Lease(
            session=S,
            model="model",
            principal=Principal("tenant", frozenset()),
            gateway=GatewayId("g1"),
            submitted_at=0.0,
            state=LeaseState.MOVING,
            actor=B,
            epoch=NEW,
        )
        self.decide(ev.Moves(S))

    def actor(self, actor: ActorId) -> AsyncIterator[Order]:
        registered = ev.ActorRegistered(actor, ("model",), f"unix:/{actor}", 2, 100.0, 1000.0)
        enrollment = self.service.enroll(registered, session_pb2.Capabilities(frame_rate=24.0))
        assert self.crew.told.get_nowait() == ("enrolled", actor)
        return aiter(enrollment.orders)


@pytest.fixture
async def driven() -> AsyncIterator[Driven]:
    driven = Driven()
    async with asyncio.timeout(30):
        yield driven
    driven.service.close()


async def told(link: PresenceLink) -> list[object]:
    """Returns all that a gateway was told; it is told nothing more."""
    link.news.close()
    return [news async for news in link.news]


async def test_a_move_is_told_whatever_was_told_of_the_session_before(driven: Driven) -> None:
    driven.decide(ev.ParkedTold(S, OLD, "host", restoring=True))
    link = driven.gateway("g", s=1)
    driven.move()
    *_, news = await told(link)
    assert isinstance(news, Move)


async def test_gateways_with_a_connection_are_told_of_a_move_each_with_its_own_token(
    driven: Driven,
) -> None:
    first, second = driven.gateway("g1", s=1), driven.gateway("g2", s=2)
    stranger, gone = driven.gateway("g3", other=1), driven.gateway("g4", s=1)
    driven.report(gone, s=0)
    driven.move()
    for link in (first, second):
        [move] = await told(link)
        assert isinstance(move, Move)
        assert (move.grant.actor, move.grant.address, move.grant.epoch) == (B, "unix:/b", NEW)
        claims = TOKENS.verify(move.grant.token)
        assert (claims.session, claims.epoch, claims.gateway) == (S, NEW, link.gateway)
    assert await told(stranger) == []
    assert await told(gone) == []


async def test_a_gateway_that_comes_to_a_moving_session_is_told_once(driven: Driven) -> None:
    driven.move()
    late = driven.gateway("g", s=1)
    driven.report(late, s=2)
    [move] = await told(late)
    assert isinstance(move, Move)


async def test_gateways_that_know_a_parked_session_are_told_and_those_that_come_to_it(
    driven: Driven,
) -> None:
    parked = ev.ParkedTold(S, OLD, "host")
    # One without a connection may still have a link to the actor that gave it up.
    early, stranger = driven.gateway("g1", s=0), driven.gateway("g3", other=1)
    driven.decide(parked)
    late = driven.gateway("g2", s=1)
    assert await told(early) == [parked]
    assert await told(late) == [parked]
    assert await told(stranger) == []


@pytest.mark.parametrize("after", [ev.Placed(S), ev.Ended(S, "done")])
async def test_a_session_that_is_placed_or_over_is_no_longer_parked(
    driven: Driven, after: ev.Effect
) -> None:
    driven.decide(ev.ParkedTold(S, OLD, "host"), after)
    assert await told(driven.gateway("g", s=1)) == []


async def test_a_gateway_that_presents_itself_anew_is_told_anew(driven: Driven) -> None:
    parked = ev.ParkedTold(S, OLD, "host", restoring=True)
    first = driven.gateway("g", s=1)
    driven.decide(parked)
    again = driven.gateway("g", s=1)
    assert await told(first) == [parked]
    assert await told(again) == [parked]


async def test_orders_reach_their_actor_in_turn(driven: Driven) -> None:
    orders = driven.actor(A)
    driven.actor(B)
    words: list[ev.Effect] = [
        ev.Park(A, S, OLD, store=True),
        ev.AwaitsRoom(A, S, OLD, awaits=True),
        ev.Pace(A, S, OLD, Quality(0.5)),
        ev.Evict(A, S, OLD, "over"),
    ]
    driven.decide(*words)
    assert [(await anext(orders)).word for _ in words] == words


async def test_what_an_actor_says_reaches_the_pool(driven: Driven) -> None:
    registered = ev.ActorRegistered(A, ("model",), "unix:/a", 2, 100.0, 1000.0)
    link = driven.service.enroll(registered, session_pb2.Capabilities())
    words: list[Heard] = [
        ev.ParkAnswered(A, S, OLD, "host"),
        ev.SessionRestored(A, S, NEW),
        ev.SessionDeparted(A, S, OLD),
    ]
    for word in words:
        driven.service.hear(link, word)
    assert driven.pool.heard[1:] == words


async def test_a_drain_is_followed_to_its_end(driven: Driven) -> None:
    driven.pool.coming = [ev.DrainProgress(A, 2, 1)]
    drain = aiter(driven.service.drain(A, 60.0))
    assert await anext(drain) == ev.DrainProgress(A, 2, 1)
    assert driven.pool.heard == [ev.DrainAsked(A, 60.0)]
    assert driven.crew.told.get_nowait() == ("emptying", A)
    driven.decide(ev.DrainProgress(A, 1, 0), ev.DrainProgress(B, 5, 0))
    assert await anext(drain) == ev.DrainProgress(A, 1, 0)
    driven.decide(ev.DrainProgress(A, 0, 0), ev.Retire(A))
    assert [progress async for progress in drain] == [ev.DrainProgress(A, 0, 0)]
    assert driven.crew.told.get_nowait() == ("emptying", B)
    assert driven.crew.told.get_nowait() == ("retire", A)
    assert driven.crew.told.empty()


async def test_a_slow_watcher_sees_the_latest_progress_alone(driven: Driven) -> None:
    drain = aiter(driven.service.drain(A))
    first = asyncio.ensure_future(anext(drain))
    await asyncio.sleep(0)
    driven.decide(*(ev.DrainProgress(A, left, 0) for left in (3, 2, 1)))
    assert await first == ev.DrainProgress(A, 1, 0)


async def test_leaving_a_drain_does_not_end_it(driven: Driven) -> None:
    driven.pool.coming = [ev.DrainProgress(A, 2, 0)]
    drain = driven.service.drain(A)
    await anext(aiter(drain))
    await drain.aclose()  # type: ignore[attr-defined]
    assert driven.pool.heard == [ev.DrainAsked(A, None)]


async def test_a_drain_that_is_cancelled_says_so_to_all(driven: Driven) -> None:
    driven.actor(A)
    driven.pool.coming = [ev.DrainProgress(A, 2, 0)]
    drain = aiter(driven.service.drain(A))
    await anext(drain)
    driven.pool.coming = [ev.DrainProgress(A, 2, 0, cancelled=True)]
    driven.service.cancel_drain(A)
    [last] = [progress async for progress in drain]
    assert last.cancelled
    assert [driven.crew.told.get_nowait() for _ in range(2)] == [("emptying", A), ("kept", A)]


async def test_a_drain_ends_when_its_actor_is_lost_and_says_so(driven: Driven) -> None:
    driven.pool.coming = [ev.DrainProgress(A, 2, 0)]
    drain = aiter(driven.service.drain(A))
    await anext(drain)
    lost = ev.DrainProgress(A, 0, 0, lost=True)
    driven.decide(lost, ev.Replace(A))
    assert [progress async for progress in drain] == [lost]
    # The next one of that name is another matter.
    driven.pool.coming = [ev.DrainProgress(A, 1, 0)]
    assert await anext(aiter(driven.service.drain(A))) == ev.DrainProgress(A, 1, 0)


async def test_an_unknown_actor_cannot_be_drained(driven: Driven) -> None:
    with pytest.raises(BadArgumentError):
        await anext(aiter(driven.service.drain(ActorId("nobody"))))
    with pytest.raises(BadArgumentError):
        driven.service.cancel_drain(ActorId("nobody"))
    driven.service.leave(ActorId("nobody"))


async def test_a_retired_actor_is_told_and_so_is_the_crew(driven: Driven) -> None:
    orders = driven.actor(A)
    driven.decide(ev.Retire(A))
    assert (await anext(orders)).word == ev.Retire(A)
    assert driven.crew.told.get_nowait() == ("retire", A)


async def test_a_repurposed_actor_retires_for_another_model(driven: Driven) -> None:
    orders = driven.actor(A)
    driven.decide(ev.Repurpose(A, "other"))
    assert (await anext(orders)).word == ev.Retire(A)
    assert driven.crew.told.get_nowait() == ("repurpose", A, "other")


async def test_an_actor_that_is_shed_is_kept_unless_others_want_it_gone(driven: Driven) -> None:
    driven.service.shed(A)
    assert driven.pool.heard == [ev.DrainAsked(A, None)]
    driven.decide(ev.DrainProgress(A, 1, 0))
    assert driven.crew.told.empty(), "it knows"
    driven.service.keep(A)
    assert driven.pool.heard[-1] == ev.DrainCancelled(A)
    driven.service.shed(A)
    assert driven.service.leave(A, 30.0)
    assert driven.crew.told.get_nowait() == ("emptying", A)
    heard = len(driven.pool.heard)
    driven.service.keep(A)
    assert len(driven.pool.heard) == heard


async def test_an_operator_takes_a_drain_over_from_the_crew(driven: Driven) -> None:
    driven.service.shed(A)
    driven.pool.coming = [ev.DrainProgress(A, 1, 0)]
    drain = aiter(driven.service.drain(A))
    await anext(drain)
    assert driven.crew.told.get_nowait() == ("emptying", A)
    heard = len(driven.pool.heard)
    driven.service.keep(A)
    assert len(driven.pool.heard) == heard


async def test_an_actor_that_is_not_there_is_not_left(driven: Driven) -> None:
    assert not driven.service.leave(ActorId("nobody"))
    driven.service.shed(ActorId("nobody"))
    driven.service.keep(ActorId("nobody"))
    assert driven.pool.heard == []


async def test_what_follows_from_an_effect_is_carried_out_after_those_before_it(
    driven: Driven,
) -> None:
    orders = driven.actor(A)

    class Hasty(FakeCrew):
        """Tells the driver something while it is being told."""

        def kept(self, actor: ActorId) -> None:
            driven.pool.coming = [ev.Evict(A, S, NEW, "later")]
            driven.service.unbook(S, NEW)

    driven.service.supervise(Hasty())
    driven.decide(ev.DrainProgress(A, 1, 0))
    driven.decide(ev.DrainProgress(A, 1, 0, cancelled=True), ev.Evict(A, S, OLD, "sooner"))
    words = [(await anext(orders)).word for _ in range(2)]
    assert [word.reason for word in words if isinstance(word, ev.Evict)] == ["sooner", "later"]
