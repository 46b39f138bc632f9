"""Drives a pool by hand: a clock, short verbs, and what it wanted done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from scheduler.core import pool_events as ev
from scheduler.core.ids import ActorId, Epoch, GatewayId, Principal, SessionId
from scheduler.core.placement import Pack, PlacementPolicy
from scheduler.core.pool import Pool
from scheduler.core.pool_view import ActorView, SessionView

PRINCIPAL = Principal("tenant", frozenset({"session"}))
GATEWAY = GatewayId("gateway")
MODEL = "model"

STAYING = ev.PoolRules(park_after=None, park_detached_after=1e9)
"""Rules under which nothing is parked."""

_EffectT = TypeVar("_EffectT", bound=ev.Effect)


class PoolDriver:
    """A pool and its time."""

    def __init__(
        self,
        rules: ev.PoolRules | None = None,
        policy: PlacementPolicy | None = None,
        first_epoch: int = 0,
    ) -> None:
        self.pool = Pool(rules or STAYING, policy or Pack(), first_epoch=first_epoch)
        self.now = 1000.0
        self.effects: list[ev.Effect] = []
        """Of the last step."""

    def tell(self, event: ev.Event) -> list[ev.Effect]:
        try:
            self.pool.apply(event, self.now)
        finally:
            self.effects = self.pool.decide(self.now)
        return self.effects

    def wait(self, seconds: float, *, beating: bool = True) -> list[ev.Effect]:
        """Lets time pass from deadline to deadline; returns all effects on the way."""
        end = self.now + seconds
        effects: list[ev.Effect] = []
        while self.now < end:
            deadline = self.pool.next_deadline()
            step = end if deadline is None else min(max(deadline, self.now), end)
            if beating:
                step = min(step, self.now + 0.5)
            self.now = step
            if beating:
                for actor in self.pool.describe(self.now).actors:
                    if actor.healthy:
                        self.pool.apply(ev.ActorBeat(actor.actor), self.now)
            effects += self.pool.decide(self.now)
        self.effects = effects
        return effects

    def actor(
        self,
        name: str = "a",
        *,
        slots: int = 4,
        chunk_ms: float = 200.0,
        models: tuple[str, ...] = (MODEL,),
        held: tuple[ev.Held, ...] = (),
        host: str = "",
        resident_bytes: int = 0,
        session_bytes: int = 0,
        encode_capacity_ms: float = 0.0,
        encode_ms: float = 0.0,
        rates: tuple[float, ...] = (),
        steps: dict[int, float] | None = None,
        draining: bool = False,
    ) -> list[ev.Effect]:
        return self.tell(
            ev.ActorRegistered(
                ActorId(name),
                models,
                f"unix:/{name}",
                slots,
                chunk_ms,
                1000.0,
                held,
                host or f"host-{name}",
                resident_bytes,
                session_bytes,
                encode_capacity_ms,
                encode_ms,
                rates,
                steps or {},
                draining,
            )
        )

    def ask(
        self,
        session: str,
        *,
        model: str = MODEL,
        waited: float = 0.0,
        gateway: str = GATEWAY,
        tenant: str = PRINCIPAL.tenant,
        restore: bool = False,
        near_host: str = "",
        fork: bool = False,
    ) -> list[ev.Effect]:
        return self.tell(
            ev.PlaceAsked(
                SessionId(session),
                model,
                Principal(tenant, PRINCIPAL.scopes),
                GatewayId(gateway),
                waited,
                restore,
                near_host,
                fork,
            )
        )

    def admitted(self) -> ev.Admit:
        """Returns the only placement of the last step."""
        [admit] = self.of(ev.Admit)
        return admit

    def place(self, session: str, *, model: str = MODEL) -> Epoch:
        """Asks, has the actor admit, and returns the epoch."""
        self.ask(session, model=model)
        admit = self.admitted()
        assert admit.session == session
        self.answer(admit)
        return admit.epoch

    def answer(self, admit: ev.Admit, refusal: str = "") -> list[ev.Effect]:
        return self.tell(ev.AdmitAnswered(admit.actor, admit.session, admit.epoch, refusal))

    def connect(self, session: str, count: int = 1, gateway: str = GATEWAY) -> list[ev.Effect]:
        return self.report({session: count}, gateway)

    def report(
        self, counts: Mapping[str, int], gateway: str = GATEWAY, *, complete: bool = False
    ) -> list[ev.Effect]:
        own = {SessionId(session): count for session, count in counts.items()}
        return self.tell(ev.ConnectionsReported(GatewayId(gateway), own, complete))

    def release(self, session: str, reason: str = "closed") -> list[ev.Effect]:
        return self.tell(ev.ReleaseAsked(SessionId(session), reason))

    def book(self, session: str, epoch: int) -> list[ev.Effect]:
        return self.tell(ev.BookAsked(SessionId(session), Epoch(epoch)))

    def running(self, session: str) -> Epoch:
        """Places a session that somebody is connected to, and has it compute."""
        epoch = self.place(session)
        self.connect(session)
        self.book(session, epoch)
        return epoch

    def die(self, actor: str = "a") -> list[ev.Effect]:
        return self.tell(ev.ActorDied(ActorId(actor)))

    def unbook(self, session: str, epoch: int) -> list[ev.Effect]:
        return self.tell(ev.Unbooked(SessionId(session), Epoch(epoch)))

    def of(self, kind: type[_EffectT]) -> list[_EffectT]:
        """Returns the effects of a kind in the last step."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def view(self, actor: str = "a") -> ActorView:
        [view] = [v for v in self.pool.describe(self.now).actors if v.actor == actor]
        return view

    def session(self, session: str) -> SessionView:
        [view] = [v for v in self.pool.describe(self.now).sessions if v.session == session]
        return view


def held(session: str, epoch: int, *, computing: bool = False) -> ev.Held:
    return ev.Held(SessionId(session), Epoch(epoch), computing, PRINCIPAL, MODEL)


CHEAP = 1.0
"""Chunk cost at which only slots bound an actor."""


def full(driver: PoolDriver, slots: int = 1) -> list[Epoch]:
    """An actor with all slots taken by sessions s0, s1, ... that somebody is connected to."""
    driver.actor(slots=slots, chunk_ms=CHEAP)
    epochs = [driver.place(f"s{number}") for number in range(slots)]
    for number in range(slots):
        driver.connect(f"s{number}")
    return epochs


def leave(driver: PoolDriver, session: str) -> list[ev.Effect]:
    """Whoever waits for a session's place is gone without a word."""
    return driver.tell(ev.PlaceLeft(SessionId(session)))
