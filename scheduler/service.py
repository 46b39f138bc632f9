"""The driver of the pool: one event loop that feeds the core and carries out its effects.

Everything here runs on that loop and takes no lock. An event is applied and its
consequences are carried out before control returns to the loop; time comes back through
one timer, set to the core's next deadline.

How calls arrive is in `scheduler.placement_server`; how processes are made is in
`scheduler.supervision`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import structlog

from sana_gateway.v1 import session_pb2
from scheduler.core import pool_events as ev
from scheduler.core.errors import (
    AskedElsewhereError,
    BadArgumentError,
    RequestError,
    SanaGatewayError,
    SessionClosedError,
    UnknownSessionError,
)
from scheduler.core.happenings import Happened, Kind
from scheduler.core.ids import ActorId, Epoch, GatewayId, SessionId
from scheduler.core.lease import Lease
from scheduler.core.pool import Pool
from scheduler.core.pool_view import PoolView, Told
from scheduler.draining import Draining
from scheduler.event_feed import EventFeed
from scheduler.links import (
    Crew,
    Enrollment,
    FollowTraces,
    Grant,
    Heard,
    Move,
    Order,
    Parkings,
    PlaceWait,
    PresenceLink,
    WatchChunks,
)
from scheduler.placement_metrics import PLACE_WAIT, REJECTED, STEPS
from scheduler.process.instruments import exemplar_of
from scheduler.process.tokens import LeaseTokens

_OVERSLEPT = 1.0
"""Seconds after which a timer that comes so late shows that this process did not run."""
SETTLING_RETRY = 0.25
"""Seconds after which it makes sense to ask again for a session that may yet turn up."""

_log = structlog.get_logger()


class SettlingError(SanaGatewayError):
    """The session is not known yet: the scheduler has just started, and actors that have not
    registered since may hold it.
    """


_BookKey = tuple[SessionId, Epoch]


class SchedulerService:
    """Runs a pool.

    Must be made and used on one running event loop, whose time is the pool's clock.

    Args:
        pool: The core.
        tokens: Signs leases.
        settle_time: Seconds from now during which a session that was never heard of is not
            unknown, but may yet be told of by its actor.
    """

    def __init__(self, pool: Pool, tokens: LeaseTokens, *, settle_time: float = 0.0) -> None:
        self._pool = pool
        self._tokens = tokens
        self._loop = asyncio.get_running_loop()
        self._settled_at = self._loop.time() + settle_time
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        self._crew: Crew | None = None
        self._closed = False
        self._enrolled: dict[ActorId, Enrollment] = {}
        self._gateways: dict[GatewayId, PresenceLink] = {}
        self._places: dict[SessionId, PlaceWait] = {}
        self._bookings: dict[_BookKey, list[asyncio.Future[ev.BookAnswered]]] = {}
        self._parked: dict[SessionId, ev.ParkedTold] = {}
        """Sessions that are on no actor, for gateways that come to them."""
        self._draining = Draining(self._tell)
        self.feed = EventFeed(self._watch_chunks, self._follow_traces)
        """What happens here, for who follows it."""
        pool.listen(self.feed.heard)
        self.parkings: Parkings | None = None
        """Who counts how long sessions are parked."""
        self._effects: deque[ev.Effect] = deque()
        """What is still to be carried out, in order."""
        self._carrying_out = False
        self._carry_out: dict[type[ev.Effect], Callable[[Any], None]] = {
            ev.Admit: self._order_admit,
            ev.Evict: self._order_word,
            ev.Park: self._order_word,
            ev.AwaitsRoom: self._order_word,
            ev.Pace: self._order_word,
            ev.TellDrain: self._order_word,
            ev.Waiting: self._tell_position,
            ev.Placed: self._tell_placed,
            ev.Moves: self._tell_moves,
            ev.ParkedTold: self._tell_parked,
            ev.Ended: self._tell_ended,
            ev.BookAnswered: self._tell_booked,
            ev.DrainProgress: self._draining.progressed,
            ev.Retire: self._retire,
            ev.Repurpose: self._repurpose,
            ev.Replace: self._replace,
        }

    def supervise(self, crew: Crew) -> None:
        """Names who makes and ends actors."""
        self._crew = self._draining.crew = crew

    def close(self) -> None:
        """Ends all links. Sessions stay on their actors, which will look for a scheduler."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for enrollment in self._enrolled.values():
            enrollment.orders.close()
        for link in self._gateways.values():
            link.news.close()
        self._draining.close()
        self.feed.close()

    # For gateways

    async def place(
        self, asked: ev.PlaceAsked, traceparent: str = ""
    ) -> AsyncIterator[ev.Waiting | Grant]:
        """Asks for a place. Leaving before the grant keeps the turn for a while: the caller's
        connection may have broken. Who gives a session up says so by `release`.

        Args:
            asked: The session. Asking again replaces whoever asked before.
            traceparent: W3C trace context to pass on to the actor.

        Yields:
            Positions in the queue, then the grant.

        Raises:
            UnknownModelError: The model is not served.
            NoCapacityError: The queue is full.
            LimitError: Too many sessions of the tenant wait.
            SessionClosedError: The session has ended.
            UnknownSessionError: It is another tenant's.
            AskedElsewhereError: It was asked for again, by somebody else.
        """
        self._pool.expect_owner(asked.session, asked.principal.tenant)
        earlier = self._places.get(asked.session)
        wait = self._places[asked.session] = PlaceWait(asked.principal.tenant, traceparent)
        if earlier is not None:
            earlier.tell(AskedElsewhereError("the place was asked for again"))
        news: ev.Waiting | Grant | None = None
        began = self._loop.time()
        try:
            self._ask(asked, traceparent)
            while not isinstance(news, Grant):
                news = await wait.next()
                if isinstance(news, Grant):
                    PLACE_WAIT.observe(self._loop.time() - began, exemplar_of(traceparent))
                yield news
        finally:
            if self._places.get(asked.session) is wait:
                del self._places[asked.session]
                self._tell(ev.PlaceLeft(asked.session))

    def find(self, session: SessionId, gateway: GatewayId, tenant: str = "") -> Grant:
        """Returns the place of a session, made out to a gateway.

        Args:
            session: Which.
            gateway: Who asks.
            tenant: Whose it has to be; empty: anybody's.

        Raises:
            UnknownSessionError: No such session, or another tenant's.
            SettlingError: None yet, but an actor may still tell of it.
            NotReadyError: It still waits.
            SessionClosedError: It has ended.
        """
        with self._settling():
            if tenant:
                self._pool.expect_owner(session, tenant)
            return self._grant(self._pool.lease(session), gateway)

    def release(self, session: SessionId, reason: str) -> None:
        """Ends a session. Ending an ended one changes nothing."""
        self._tell(ev.ReleaseAsked(session, reason))

    def reserve_upload(self, session: SessionId, upload: str, size: int) -> None:
        """Counts an upload that was announced.

        Raises:
            LimitError: A quota is used up.
            UnknownSessionError: No such session.
            SettlingError: None yet, but an actor may still tell of it.
            SessionClosedError: It has ended.
        """
        with self._settling():
            self._tell(ev.UploadAsked(session, upload, size))

    def link_gateway(self, gateway: GatewayId) -> PresenceLink:
        """Opens a gateway's report; an earlier one of the same gateway ends."""
        earlier = self._gateways.get(gateway)
        if earlier is not None:
            earlier.news.close()
        link = self._gateways[gateway] = PresenceLink(gateway)
        self.feed.heard(Happened(Kind.GATEWAY_LINKED, gateway=gateway))
        if followed := self.feed.followed:
            link.news.put(FollowTraces(followed))
        return link

    def report(self, link: PresenceLink, counts: dict[SessionId, int], *, complete: bool) -> None:
        """Takes in a gateway's connections; `complete` when all others are 0.

        A gateway that comes to a session which moves or is parked is told so.
        """
        if self._gateways.get(link.gateway) is not link:
            return
        for session in link.connect(counts, complete=complete):
            self._tell_whereabouts(link, session)
        self._tell(ev.ConnectionsReported(link.gateway, counts, complete))

    def unlink_gateway(self, link: PresenceLink) -> None:
        """A gateway's report ended; unless a newer one stands, its connections are lost."""
        if self._gateways.get(link.gateway) is link:
            del self._gateways[link.gateway]
            self.feed.heard(Happened(Kind.GATEWAY_LOST, gateway=link.gateway))
            self._tell(ev.GatewayLost(link.gateway))

    # For actors

    def enroll(
        self, event: ev.ActorRegistered, capabilities: session_pb2.Capabilities
    ) -> Enrollment:
        """Registers an actor; an earlier link of the same actor ends."""
        earlier = self._enrolled.get(event.actor)
        if earlier is not None:
            earlier.orders.close()
        enrollment = self._enrolled[event.actor] = Enrollment(event.actor, capabilities)
        _log.info("actor registered", actor_id=event.actor, held=len(event.held))
        enrolled = Happened(Kind.ACTOR_ENROLLED, actor=event.actor, model=event.models[0])
        self.feed.heard(enrolled)
        if self.feed.watches_chunks:
            enrollment.orders.put(Order(WatchChunks(watched=True)))
        if followed := self.feed.followed:
            enrollment.orders.put(Order(FollowTraces(followed)))
        self._tell(event)
        if self._crew is not None:
            self._crew.enrolled(event.actor)
        return enrollment

    def hear(self, enrollment: Enrollment, event: Heard) -> None:
        """Takes in what an actor says on its link."""
        if self._enrolled.get(enrollment.actor) is enrollment:
            self._tell(event)

    def unlink_actor(self, enrollment: Enrollment) -> None:
        """An actor's link ended; unless a newer one stands, it has a while to come back."""
        if self._enrolled.get(enrollment.actor) is enrollment:
            del self._enrolled[enrollment.actor]
            self._tell(ev.ActorUnlinked(enrollment.actor))

    def actor_died(self, actor: ActorId) -> None:
        """The process of an actor is gone."""
        self._tell(ev.ActorDied(actor))

    async def book(self, session: SessionId, epoch: Epoch) -> ev.BookAnswered:
        """Books compute, waiting for it if need be; leaving withdraws the request.

        Raises:
            UnknownSessionError: The session is on no actor.
            SettlingError: On none yet, but an actor may still tell of it.
            SessionClosedError: It has ended, or the epoch is void.
        """
        answer: asyncio.Future[ev.BookAnswered] = self._loop.create_future()
        waiters = self._bookings.setdefault((session, epoch), [])
        waiters.append(answer)
        try:
            with self._settling():
                self._tell(ev.BookAsked(session, epoch))
            return await answer
        except asyncio.CancelledError:
            if len(waiters) == 1:
                self._take_back(answer, session, epoch)
            raise
        finally:
            waiters.remove(answer)
            if not waiters:
                self._bookings.pop((session, epoch), None)

    def unbook(self, session: SessionId, epoch: Epoch) -> None:
        """Gives compute back. Giving back what is not booked changes nothing."""
        self._tell(ev.Unbooked(session, epoch))

    # For operators

    async def drain(
        self, actor: ActorId, grace: float | None = None
    ) -> AsyncIterator[ev.DrainProgress]:
        """Empties an actor. Leaving does not end the drain.

        Args:
            actor: Which.
            grace: Seconds until its process ends come what may; None: it waits for room.

        Yields:
            How far it has come; the last one has no session left, or says that it was
            cancelled or that the actor was lost.

        Raises:
            BadArgumentError: There is no such actor.
        """
        async for progress in self._draining.watch(actor, grace):
            yield progress

    def cancel_drain(self, actor: ActorId) -> None:
        """Lets an actor take sessions again.

        Raises:
            BadArgumentError: There is no such actor.
        """
        if actor not in self._enrolled:
            raise BadArgumentError("there is no such actor")
        self._tell(ev.DrainCancelled(actor))

    # For who makes and ends actors

    def shed(self, actor: ActorId) -> None:
        """Drains an actor that is one too many; one that is unknown is none."""
        self._draining.shed(actor)

    def keep(self, actor: ActorId) -> None:
        """Lets an actor that was shed take sessions again, unless somebody else has asked for
        its drain, too.
        """
        self._draining.keep(actor)

    def leave(self, actor: ActorId, grace: float | None = None) -> bool:
        """Drains an actor that nobody watches; tells whether there is such an actor."""
        return self._draining.leave(actor, grace)

    def wanted(self) -> Mapping[str, int]:
        """Returns how many actors of each model the present demand needs."""
        return self._pool.signals(self._loop.time()).wanted_by_model

    def use(self) -> Mapping[ActorId, tuple[int, int]]:
        """Returns of each actor how many sessions compute on it, and how many it has."""
        return self._pool.use()

    @property
    def served_models(self) -> tuple[str, ...]:
        """Names that a session may ask for."""
        return self._pool.served_models

    def capabilities(self, actor: ActorId) -> session_pb2.Capabilities | None:
        """Returns what an actor's model can do; None for an actor that is not linked."""
        enrollment = self._enrolled.get(actor)
        return None if enrollment is None else enrollment.capabilities

    def describe(self, sessions: Told = "all") -> PoolView:
        """Returns the pool as it is now, with all sessions, those that wait, or none."""
        return self._pool.describe(self._loop.time(), sessions)

    # Inside

    @contextmanager
    def _settling(self) -> Iterator[None]:
        """Tells a session that may yet turn up from one that is unknown."""
        try:
            yield
        except UnknownSessionError:
            if self._loop.time() >= self._settled_at:
                raise
            raise SettlingError("the scheduler is settling: ask again") from None

    def _ask(self, asked: ev.PlaceAsked, traceparent: str) -> None:
        """Asks the pool for a place; that it refuses is told to who follows it."""
        self.feed.traced(asked.session, traceparent)
        try:
            self._tell(asked)
        except RequestError as error:
            # A model that is not served is named by the client alone.
            model = asked.model if asked.model in self._pool.served_models else ""
            rejected = Kind.ADMISSION_REJECTED
            owner, reason = asked.principal, error.reason
            self.feed.heard(
                Happened(rejected, session=asked.session, owner=owner, model=model, reason=reason)
            )
            self.feed.untraced(asked.session)
            REJECTED.labels(reason).inc()
            raise

    def _watch_chunks(self, *, watched: bool) -> None:
        """Chunks begin to be followed, or are no more."""
        for enrollment in self._enrolled.values():
            enrollment.orders.put(Order(WatchChunks(watched)))

    def _follow_traces(self, sessions: tuple[str, ...]) -> None:
        """Spans of these sessions are followed, and no others."""
        for enrollment in self._enrolled.values():
            enrollment.orders.put(Order(FollowTraces(sessions)))
        for link in self._gateways.values():
            link.news.put(FollowTraces(sessions))

    def _tell(self, event: ev.Event) -> None:
        if self._closed:
            return
        now = self._loop.time()
        self._notice_sleep(now)
        with STEPS.time():
            try:
                self._pool.apply(event, now)
            finally:
                self._conclude(now)

    def _on_time(self) -> None:
        now = self._loop.time()
        self._notice_sleep(now)
        with STEPS.time():
            self._conclude(now)

    def _notice_sleep(self, now: float) -> None:
        """Tells the pool when this process itself did not run in time."""
        if self._timer is not None and now - self._timer_at > _OVERSLEPT:
            self._pool.apply(ev.Overslept(), now)

    def _conclude(self, now: float) -> None:
        self._effects += self._pool.decide(now)
        self._set_timer(now)
        if self._carrying_out:
            # What follows from an effect comes after those that were decided with it.
            return
        self._carrying_out = True
        try:
            while self._effects:
                effect = self._effects.popleft()
                self._carry_out[type(effect)](effect)
        finally:
            self._carrying_out = False

    def _set_timer(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        deadline = self._pool.next_deadline()
        # One that has passed already says nothing of when this process ran.
        if deadline is None:
            self._timer = None
            return
        self._timer_at = max(deadline, now)
        self._timer = self._loop.call_at(self._timer_at, self._on_time)

    def _grant(self, lease: Lease, gateway: GatewayId) -> Grant:
        actor = lease.actor
        assert actor is not None  # noqa: S101 - a lease that is active has one
        link = self._enrolled.get(actor)
        presence = self._gateways.get(gateway)
        if presence is not None:
            presence.concerned.add(lease.session)
        return Grant(
            session=lease.session,
            epoch=lease.epoch,
            actor=actor,
            address=self._pool.address(actor),
            token=self._tokens.sign(lease.session, lease.epoch, gateway),
            principal=lease.principal,
            model=lease.model,
            capabilities=link.capabilities if link else session_pb2.Capabilities(),
        )

    def _take_back(
        self, answer: asyncio.Future[ev.BookAnswered], session: SessionId, epoch: Epoch
    ) -> None:
        """Nobody takes an answer: what it granted, or asks for, is withdrawn."""
        granted = answer.done() and not answer.cancelled() and answer.result().booked
        event = ev.Unbooked if granted else ev.BookWithdrawn
        self._tell(event(session, epoch))

    def _order(self, actor: ActorId, order: Order) -> None:
        link = self._enrolled.get(actor)
        if link is not None:
            link.orders.put(order)

    def _order_admit(self, effect: ev.Admit) -> None:
        wait = self._places.get(effect.session)
        self._order(effect.actor, Order(effect, wait.traceparent if wait else ""))

    def _order_word(
        self, effect: ev.Evict | ev.Park | ev.AwaitsRoom | ev.Pace | ev.TellDrain
    ) -> None:
        self._order(effect.actor, Order(effect))

    def _tell_position(self, effect: ev.Waiting) -> None:
        wait = self._places.get(effect.session)
        if wait is not None:
            wait.tell(effect)

    def _tell_placed(self, effect: ev.Placed) -> None:
        self._parked.pop(effect.session, None)
        self._not_parked(effect.session)
        wait = self._places.get(effect.session)
        if wait is None:
            return
        # The session may have ended in the same step.
        with suppress(RequestError):
            lease = self._pool.lease(effect.session)
            if lease.principal.tenant == wait.tenant:
                wait.tell(self._grant(lease, lease.gateway))
            else:
                # Its actor came after who asked, and knows whose it is.
                wait.tell(UnknownSessionError("there is no such session"))

    def _tell_moves(self, effect: ev.Moves) -> None:
        # What moves is on an actor, whatever was told of it before.
        self._parked.pop(effect.session, None)
        for link in self._gateways.values():
            if effect.session in link.connected:
                self._tell_whereabouts(link, effect.session)

    def _tell_parked(self, effect: ev.ParkedTold) -> None:
        _log.info("session parked", session_id=effect.session, restoring=effect.restoring)
        if self.parkings is not None and not effect.restoring:
            self.parkings.parked(effect.session, effect.epoch)
        self._parked[effect.session] = effect
        for link in self._gateways.values():
            if effect.session in link.concerned:
                link.news.put(effect)

    def _tell_whereabouts(self, link: PresenceLink, session: SessionId) -> None:
        """Tells a gateway where a session goes, or that it is on no actor."""
        parked = self._parked.get(session)
        if parked is not None:
            link.news.put(parked)
            return
        with suppress(RequestError):
            link.news.put(Move(self._grant(self._pool.target(session), link.gateway)))

    def _not_parked(self, session: SessionId) -> None:
        if self.parkings is not None:
            self.parkings.unparked(session)

    def _tell_ended(self, effect: ev.Ended) -> None:
        _log.info("session ended", session_id=effect.session, reason=effect.reason)
        self._parked.pop(effect.session, None)
        self._not_parked(effect.session)
        wait = self._places.get(effect.session)
        if wait is not None:
            wait.tell(SessionClosedError(f"the session has ended: {effect.reason}"))
        for gateway, link in self._gateways.items():
            is_concerned = effect.session in link.concerned
            if is_concerned if effect.gateway is None else effect.gateway == gateway:
                link.news.put(effect)
            link.concerned.discard(effect.session)

    def _tell_booked(self, effect: ev.BookAnswered) -> None:
        for answer in self._bookings.get((effect.session, effect.epoch), ()):
            if not answer.done():
                answer.set_result(effect)

    def _retire(self, effect: ev.Retire) -> None:
        _log.info("actor drained", actor_id=effect.actor)
        self._order(effect.actor, Order(effect))
        self._draining.over(effect.actor)
        if self._crew is not None:
            self._crew.retire(effect.actor)

    def _repurpose(self, effect: ev.Repurpose) -> None:
        _log.info("actor repurposed", actor_id=effect.actor, model=effect.model)
        self._order(effect.actor, Order(ev.Retire(effect.actor)))
        self._draining.over(effect.actor)
        if self._crew is not None:
            self._crew.repurpose(effect.actor, effect.model)

    def _replace(self, effect: ev.Replace) -> None:
        _log.warning("actor lost", actor_id=effect.actor)
        self.feed.heard(Happened(Kind.ACTOR_LOST, actor=effect.actor))
        link = self._enrolled.pop(effect.actor, None)
        if link is not None:
            link.orders.close()
        self._draining.over(effect.actor)
        if self._crew is not None:
            self._crew.replace(effect.actor)
