"""Actors, gateways and operators around a pool, played by hand, with their own account of it."""

from __future__ import annotations

from collections.abc import Sequence

from scheduler.core import pool_events as ev
from scheduler.core.errors import NotReadyError
from scheduler.core.ids import ActorId, Epoch, GatewayId, Principal, SessionId
from scheduler.core.lease import LeaseState
from scheduler.core.placement import PlacementPolicy
from scheduler.core.pool import Pool
from scheduler.core.quality import FULL, Quality
from scheduler.core.quotas import Quotas
from scheduler.core.rations import OVERTIME
from scheduler.core.tenants import TenantRules
from scheduler.core.usage import OVERSPENT

MODEL = "model"
GATEWAY = GatewayId("gateway")
CHUNK_MS = 200.0
FITTING = 4
"""Sessions of that cost that fit below the ceiling."""
LOWER_RATE = 0.75
FEWER_STEPS = {2: 100.0}
"""Permitted where sessions may be degraded: what a window costs with two steps."""
FITTING_DEGRADED = 11
"""The same at the lower rate and with two steps."""
SESSION_BYTES = 100
ENCODE_MS = 90.0

STREAMED_S = 240.0
"""Seconds that all sessions of one tenant may stream in a day."""
LONGEST_S = 90.0
"""Seconds that a session of another may last."""
USED_UP = (OVERTIME, OVERSPENT.format("day"))
"""Why sessions end that neither a client nor a timeout ends."""

RULES = ev.PoolRules(
    queue_limit=4,
    tenants={
        "small": TenantRules(max_sessions=2, max_queued=1),
        "heavy": TenantRules(weight=3.0, quotas=Quotas(streamed_per_day=STREAMED_S)),
        "first": TenantRules(priority=2, max_session_s=LONGEST_S),
    },
)
TENANTS = ("small", "heavy", "first", "other")

Place = tuple[ActorId, Epoch]


class World:
    """A pool, its time, and what it was seen to do."""

    def __init__(self, policy: PlacementPolicy, rules: ev.PoolRules = RULES) -> None:
        self.now = 0.0
        self.pool = Pool(rules, policy)
        self.encode_capacity = 1000.0
        """Encode-milliseconds per second that the host of the next actor says it has."""
        self.alive: dict[ActorId, ev.ActorRegistered] = {}
        """Actors whose process runs."""
        self.admits: dict[tuple[SessionId, Epoch], ev.Admit] = {}
        """Placements that no actor has answered."""
        self.parks: dict[SessionId, ev.Park] = {}
        """Parks that no actor has answered."""
        self.moves: dict[SessionId, Place] = {}
        """Targets of sessions that gateways were told to move."""
        self.tails: dict[SessionId, Place] = {}
        """Actors that a session has left and that still show it."""
        self.handed_over: dict[SessionId, Place] = {}
        """Actors that have handed a session over and say so only when they are rid of it."""
        self.computing: dict[tuple[SessionId, Epoch], ActorId] = {}
        """Who was told that it may compute and has not given that back."""
        self.places: dict[SessionId, Place] = {}
        """Where sessions are that were confirmed."""
        self.off: set[SessionId] = set()
        """Sessions that existed and are on no actor: lost or parked."""
        self.waiting: dict[SessionId, int] = {}
        """Positions last told."""
        self.may_end: set[SessionId] = set()
        """Sessions that a client or a timeout may end in this step."""
        self.retired: set[ActorId] = set()
        self.told: dict[tuple[SessionId, Epoch], Quality] = {}
        """How sessions were last told to run."""
        self.highest_epoch = 0

    # What happens

    def tell(self, event: ev.Event) -> None:
        """Applies an event and takes in what follows."""
        try:
            self.pool.apply(event, self.now)
        finally:
            self.conclude()

    def conclude(self) -> None:
        """Has the pool decide, and plays along."""
        effects = self.pool.decide(self.now)
        for effect in effects:
            handler = getattr(self, f"on_{type(effect).__name__.lower()}", None)
            if handler is not None:
                handler(effect, effects)
        # A retired actor that is not heard of any more is gone, and nobody replaces it.
        for actor in self.retired - self.pool._facts.fleet.actors.keys():
            self.gone(actor)
        self.may_end.clear()

    def on_admit(self, admit: ev.Admit, effects: Sequence[ev.Effect]) -> None:
        assert admit.epoch > self.highest_epoch, "epochs strictly rise"
        self.highest_epoch = admit.epoch
        assert admit.actor in self.alive, "only live actors are asked"
        assert admit.actor not in self.retired
        self.admits[admit.session, admit.epoch] = admit
        self.told[admit.session, admit.epoch] = admit.quality
        if admit.computing:
            self.computing[admit.session, admit.epoch] = admit.actor
        self.waiting.pop(admit.session, None)
        known = admit.session in self.places or admit.session in self.off
        assert admit.restore or not known, "what existed is restored"
        limit = self.pool.rules.tenant(admit.principal.tenant).max_sessions
        if not admit.restore and limit is not None:
            came_back = sum(isinstance(e, ev.Admit) and e.restore for e in effects)
            placed = self.pool._facts.usage.placed(admit.principal.tenant)
            assert placed - came_back <= limit, "a tenant holds no more places than it may"

    def on_bookanswered(self, answer: ev.BookAnswered, _: Sequence[ev.Effect]) -> None:
        if answer.booked:
            lease = self.pool._facts.leases[answer.session]
            actor = lease.actor if lease.epoch == answer.epoch else lease.target
            assert actor is not None
            self.computing[answer.session, answer.epoch] = actor
            self.told[answer.session, answer.epoch] = answer.quality

    def on_pace(self, pace: ev.Pace, _: Sequence[ev.Effect]) -> None:
        assert self.told[pace.session, pace.epoch] != pace.quality == FULL
        self.told[pace.session, pace.epoch] = pace.quality

    def on_evict(self, evict: ev.Evict, effects: Sequence[ev.Effect]) -> None:
        self.admits.pop((evict.session, evict.epoch), None)
        self.computing.pop((evict.session, evict.epoch), None)
        place = (evict.actor, evict.epoch)
        if self.handed_over.get(evict.session) == place:
            del self.handed_over[evict.session]
        if self.tails.get(evict.session) == place:
            del self.tails[evict.session]
        if self.moves.get(evict.session) == place:
            del self.moves[evict.session]
        if self.places.get(evict.session) == place:
            explained = [
                effect
                for effect in effects
                if isinstance(effect, ev.Ended | ev.ParkedTold) and effect.session == evict.session
            ]
            assert explained, "a live session is never put out without a word"

    def on_waiting(self, waiting: ev.Waiting, _: Sequence[ev.Effect]) -> None:
        self.waiting[waiting.session] = waiting.position

    def on_placed(self, placed: ev.Placed, effects: Sequence[ev.Effect]) -> None:
        try:
            lease = self.pool.lease(placed.session)
        except NotReadyError:
            # Its place was lost in the same step.
            lost = [each.session for each in effects if isinstance(each, ev.ParkedTold)]
            assert lost.count(placed.session) > 1
            return
        assert lease.actor is not None
        self.places[placed.session] = (lease.actor, lease.epoch)
        self.admits.pop((placed.session, lease.epoch), None)
        self.off.discard(placed.session)

    def on_moves(self, moves: ev.Moves, _: Sequence[ev.Effect]) -> None:
        target = self.pool.target(moves.session)
        assert target.actor is not None
        assert target.epoch > self.pool.lease(moves.session).epoch
        self.moves[moves.session] = (target.actor, target.epoch)

    def on_park(self, park: ev.Park, _: Sequence[ev.Effect]) -> None:
        if park.session in self.off:
            return  # that actor only looks after what is kept of it
        assert self.places[park.session] == (park.actor, park.epoch)
        self.parks[park.session] = park

    def on_parkedtold(self, told: ev.ParkedTold, __: Sequence[ev.Effect]) -> None:
        self.computing.pop((told.session, told.epoch), None)
        self.handed_over.pop(told.session, None)
        place = self.places.pop(told.session, None)
        if place is None:
            # Its actor and the target of its move were lost in one step.
            assert told.session in self.off
            return
        assert place[1] == told.epoch
        self.parks.pop(told.session, None)
        target = self.moves.pop(told.session, None)
        if target is not None and self.state(told.session) is LeaseState.ACTIVE:
            # The old actor is gone: its target is the new place.
            self.places[told.session] = target
        else:
            self.off.add(told.session)

    def on_ended(self, ended: ev.Ended, _: Sequence[ev.Effect]) -> None:
        existed = ended.session in self.places or ended.session in self.off
        may_end = ended.session in self.may_end or ended.reason in USED_UP
        assert not existed or may_end, "a live session was put out"
        for book in (self.places, self.waiting, self.moves, self.parks, self.handed_over):
            book.pop(ended.session, None)
        self.off.discard(ended.session)

    def on_replace(self, replace: ev.Replace, _: Sequence[ev.Effect]) -> None:
        self.gone(replace.actor)

    def on_retire(self, retire: ev.Retire, _: Sequence[ev.Effect]) -> None:
        assert retire.actor not in self.retired, "an actor retires once"
        assert retire.actor not in [actor for actor, _ in self.places.values()]
        self.retired.add(retire.actor)

    def gone(self, actor: ActorId) -> None:
        """The process of an actor is gone."""
        self.alive.pop(actor, None)
        self.retired.discard(actor)
        for key in [key for key, admit in self.admits.items() if admit.actor == actor]:
            del self.admits[key]
        for whose in [whose for whose, at in self.computing.items() if at == actor]:
            del self.computing[whose]
        for book in (self.moves, self.tails, self.handed_over):
            for session in [s for s, place in book.items() if place[0] == actor]:
                del book[session]

    # Verbs

    def register(self, actor: str, slots: int, host: str = "host") -> None:
        """A new actor comes; a retired one of that name is gone."""
        event = ev.ActorRegistered(
            ActorId(actor),
            (MODEL,),
            f"unix:/{actor}",
            slots,
            CHUNK_MS,
            1000.0,
            host=host,
            resident_bytes=8 * SESSION_BYTES,
            session_bytes=SESSION_BYTES,
            encode_capacity_ms=self.encode_capacity,
            encode_ms=ENCODE_MS,
            degraded_rates=(LOWER_RATE,),
            degraded_steps=FEWER_STEPS,
        )
        self.alive[event.actor] = event
        self.tell(event)

    def die(self, actor: str) -> None:
        """The process of an actor ends."""
        # What it was about to say is lost with it.
        for session in [s for s, park in self.parks.items() if park.actor == actor]:
            del self.parks[session]
        self.tell_gone(ActorId(actor))

    def tell_gone(self, actor: ActorId) -> None:
        """The scheduler hears that an actor is gone."""
        self.alive.pop(actor, None)
        self.tell(ev.ActorDied(actor))
        self.gone(actor)

    def ask(self, session: str, *, tenant: str, waited: float = 0.0, restore: bool = False) -> None:
        """A gateway asks for a place."""
        principal = Principal(tenant, frozenset())
        self.tell(
            ev.PlaceAsked(SessionId(session), MODEL, principal, GATEWAY, waited, restore=restore)
        )

    def answer(self, admit: ev.Admit, refusal: str = "") -> None:
        """An actor answers a placement or a move."""
        del self.admits[admit.session, admit.epoch]
        if refusal:
            self.computing.pop((admit.session, admit.epoch), None)
        self.tell(ev.AdmitAnswered(admit.actor, admit.session, admit.epoch, refusal))

    def park(self, session: SessionId, failure: str = "") -> None:
        """An actor answers a park."""
        park = self.parks.pop(session)
        self.tell(ev.ParkAnswered(park.actor, session, park.epoch, "host", failure))

    def unbook(self, session: str) -> None:
        """A session needs no compute any more."""
        _, epoch = self.places.get(SessionId(session), (None, Epoch(0)))
        self.computing.pop((SessionId(session), epoch), None)
        self.tell(ev.Unbooked(SessionId(session), epoch))

    def hand_over(self, session: SessionId) -> None:
        """The old actor of a session that moves decides and computes nothing any more."""
        self.handed_over[session] = self.places[session]

    def restore(self, session: SessionId) -> None:
        """A session that moves goes on at its target."""
        self.tails[session] = self.places[session]
        actor, epoch = self._goes_on(session)
        self.tell(ev.SessionRestored(actor, session, epoch))

    def _goes_on(self, session: SessionId) -> Place:
        self.computing.pop((session, self.places[session][1]), None)
        self.handed_over.pop(session, None)
        self.places[session] = self.moves.pop(session)
        return self.places[session]

    def vanish(self, session: SessionId) -> None:
        """An actor is rid of a session that it handed over, before anybody went on with it."""
        actor, epoch = self.handed_over.pop(session)
        self.computing.pop((session, epoch), None)
        if session in self.moves:
            self._goes_on(session)
        self.tell(ev.SessionDeparted(actor, session, epoch))

    def depart(self, session: SessionId) -> None:
        """The old actor of a session is rid of it."""
        actor, epoch = self.tails.pop(session)
        self.tell(ev.SessionDeparted(actor, session, epoch))

    def connect(self, session: str, count: int) -> None:
        """A gateway tells how many connections a session has."""
        self.tell(ev.ConnectionsReported(GATEWAY, {SessionId(session): count}, complete=False))

    def release(self, session: str) -> None:
        """A session is over."""
        self.may_end.add(SessionId(session))
        self.tell(ev.ReleaseAsked(SessionId(session), "closed"))

    def pass_time(self, seconds: float, silent: frozenset[str] = frozenset()) -> None:
        """Lets time pass; all actors but the silent ones send signs of life."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1.0)
            for actor in [actor for actor in self.alive if actor not in silent]:
                self.pool.apply(ev.ActorBeat(actor), self.now)
            presence = self.pool._facts.presence
            self.may_end = {s for s in self.pool._facts.leases if not presence.is_connected(s)}
            self.conclude()

    # What is to be seen

    def state(self, session: SessionId) -> LeaseState | None:
        """Returns the state of a session, as operators see it."""
        lease = self.pool._facts.leases.get(session)
        return None if lease is None else lease.state

    def settle(self) -> None:
        """All answer what they were asked, until nobody is asked any more."""
        for _ in range(200):
            for admit in list(self.admits.values()):
                self.answer(admit)
            for session in list(self.moves):
                self.restore(session)
            for session in list(self.tails):
                self.depart(session)
            for session in list(self.handed_over):
                self.vanish(session)
            for session in list(self.parks):
                self.park(session)
            if not (self.admits or self.moves or self.tails or self.parks):
                return
        raise AssertionError("the pool never comes to rest")
