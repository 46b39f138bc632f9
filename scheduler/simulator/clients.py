"""The users, their gateways and the actors, as far as the pool notices them.

A session thinks, plays and pauses as its `Visit` has it; what it needs for that it asks
of the pool as a gateway and an actor do, in the same order and with the same delays.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any

from scheduler.core import pool_events as ev
from scheduler.core.errors import NoCapacityError
from scheduler.core.ids import Epoch, GatewayId, Principal, SessionId
from scheduler.core.lease import UNPLACED
from scheduler.scenario.pool import PoolSpec
from scheduler.scenario.visits import Visit
from scheduler.simulator.counts import Counts
from scheduler.simulator.driver import Driver, Handler
from scheduler.simulator.fleet import Fleet, Gpu
from scheduler.simulator.lanes import ChunkClock
from scheduler.simulator.timeline import Timeline

GATEWAY = GatewayId("gateway")
PRINCIPAL = Principal(tenant="users", scopes=frozenset({"session"}))
_STANDBY_S = 0.1
"""A move: from the gateways' hearing of it until the new actor stands by."""


class Doing(enum.Enum):
    """What a session is about."""

    WAITING = "waiting"
    """For its first place."""
    IDLE = "idle"
    """Thinking or paused."""
    WANTING = "wanting"
    """To start or to resume; has no compute yet."""
    PLAYING = "playing"
    LOST = "lost"
    """Was playing when its GPU died."""
    LEFT = "left"


_SEEKING = (Doing.WANTING, Doing.LOST)
"""Wants compute and has none."""


@dataclass(slots=True, eq=False)
class Client:
    """One session."""

    visit: Visit
    session: SessionId
    ends_at: float
    doing: Doing = Doing.WAITING
    since: float = 0.0
    """When it began to want, or was lost."""
    spell: int = 0
    """Counts the plays and pauses: what was planned for an earlier one is void."""
    started: bool = False
    asked: bool = False
    """Whether it waits for a place."""
    gpu: Gpu | None = None
    epoch: Epoch = UNPLACED
    target: Epoch | None = None
    """Its epoch where it is moving to."""
    admitted: ev.Admit | None = None
    """The newest order to admit it."""
    at_home: bool = False
    """Whether its state is on its GPU, so that it could compute there."""
    waited_for_place: float = 0.0
    kept_at: str = ""
    """Host that keeps its snapshot; empty: the storage."""


class Clients:
    """All sessions.

    Args:
        spec: What there is.
        timeline: Virtual time.
        driver: The pool.
        clock: Told who computes where.
        counts: Told what comes of it.
    """

    def __init__(
        self,
        spec: PoolSpec,
        timeline: Timeline,
        driver: Driver,
        clock: ChunkClock,
        counts: Counts,
    ) -> None:
        self.fleet: Fleet
        self._model, self._costs = spec.model, spec.costs
        self._timeline = timeline
        self._driver = driver
        self._clock = clock
        self._counts = counts
        self._clients: dict[SessionId, Client] = {}
        self._queued = 0
        self.effects: dict[type[Any], Handler] = {
            ev.Admit: self._admit,
            ev.Placed: self._placed,
            ev.BookAnswered: self._booked,
            ev.Park: self._park,
            ev.ParkedTold: self._parked,
            ev.Moves: self._moves,
            ev.Evict: self._evicted,
            ev.Ended: self._ended,
        }
        """Who carries out which effect of the pool."""

    @property
    def present(self) -> int:
        """Sessions that have come and not left."""
        return len(self._clients)

    @property
    def waiting(self) -> int:
        """Sessions that wait for their first place, or for compute."""
        return self._queued + self._counts.wanting

    def waiting_s(self, now: float) -> tuple[float, ...]:
        """Returns how long each of them has waited."""
        since = (
            client.visit.at if client.doing is Doing.WAITING else client.since
            for client in self._clients.values()
            if client.doing in (Doing.WAITING, *_SEEKING)
        )
        return tuple(now - moment for moment in since)

    # The user

    def arrive(self, visit: Visit) -> None:
        """A session connects."""
        now = self._timeline.now
        session = SessionId(f"s{visit.number}")
        client = Client(visit, session, ends_at=now + visit.length)
        self._clients[session] = client
        self._counts.arrived(now)
        self._queued += 1
        client.asked = True
        try:
            self._driver.tell(
                ev.PlaceAsked(session, self._model.name, PRINCIPAL, GATEWAY),
                ev.ConnectionsReported(GATEWAY, {session: 1}, complete=False),
            )
        except NoCapacityError:
            self._forget(client)
            self._counts.rejected(now)
            return
        self._timeline.at(client.ends_at, self._leave, client)

    def _leave(self, client: Client) -> None:
        now = self._timeline.now
        if client.doing is Doing.LEFT:
            return
        if client.doing is Doing.WAITING:
            self._counts.gave_up(now)
        else:
            self._counts.served(now)
        if client.doing is Doing.PLAYING:
            self._stop(client)
        self._forget(client)
        # Its connections need not be reported: the pool forgets them with the session.
        self._driver.tell(ev.ReleaseAsked(client.session, "closed by its client"))

    def _forget(self, client: Client) -> None:
        self._queued -= client.doing is Doing.WAITING
        self._counts.wanting -= client.doing is Doing.WANTING
        client.doing = Doing.LEFT
        client.spell += 1
        self._move_in(client, None)
        del self._clients[client.session]

    def _want(self, client: Client, spell: int) -> None:
        """It is to start or to resume."""
        if client.spell != spell or client.doing is not Doing.IDLE:
            return
        client.doing, client.since = Doing.WANTING, self._timeline.now
        self._counts.wanting += 1
        self._seek(client)

    def _seek(self, client: Client) -> None:
        """Asks for what a session that wants to compute lacks."""
        if client.gpu is not None and client.at_home:
            self._driver.tell(ev.BookAsked(client.session, client.epoch))
        elif client.gpu is None and not client.asked:
            self._ask_restored(client)

    def _ask_restored(self, client: Client) -> None:
        client.asked = True
        self._driver.tell(
            ev.PlaceAsked(
                client.session,
                self._model.name,
                PRINCIPAL,
                GATEWAY,
                restore=True,
                near_host=client.kept_at,
            )
        )

    def _pause(self, client: Client, spell: int) -> None:
        if client.spell != spell:
            return
        if client.doing is Doing.PLAYING:
            self._stop(client)
        elif client.doing is Doing.LOST:
            self._recovered(client)
        client.doing = Doing.IDLE
        client.spell += 1
        self._timeline.after(client.visit.spells.pause(), self._want, client, client.spell)
        if client.gpu is not None and client.at_home:
            self._driver.tell(ev.Unbooked(client.session, client.epoch))

    # Compute

    def _booked(self, effect: ev.BookAnswered) -> None:
        client = self._clients.get(effect.session)
        if client is None or client.epoch != effect.epoch or client.doing not in _SEEKING:
            return
        if effect.booked:
            self._granted(client)
            return
        self._counts.refused_starts += 1
        self._timeline.after(max(effect.retry_after, 0.1), self._retry, client, client.spell)

    def _retry(self, client: Client, spell: int) -> None:
        if client.spell == spell and client.doing in _SEEKING:
            self._seek(client)

    def _granted(self, client: Client) -> None:
        """It computes from now on."""
        if client.doing is Doing.LOST:
            self._recovered(client)
            self._start(client)
            return
        now = self._timeline.now
        waited = now - client.since
        if not client.started:
            waited += client.waited_for_place
        self._counts.wanting -= 1
        client.spell += 1
        self._counts.begun(now, waited, self._start(client))
        self._timeline.after(client.visit.spells.play(), self._pause, client, client.spell)

    def _start(self, client: Client) -> float:
        """Its windows run on its GPU; returns the wait for the first of them."""
        assert client.gpu is not None  # noqa: S101 - compute is booked on an actor
        gpu, now = client.gpu, self._timeline.now
        first, client.started = not client.started, True
        client.doing = Doing.PLAYING
        gpu.computing += 1
        self._counts.plays(now, 1)
        live = client.visit.live
        return self._clock.start(gpu.actor, client.session, now, live=live, first=first)

    def _stop(self, client: Client) -> None:
        assert client.gpu is not None  # noqa: S101 - as above
        now = self._timeline.now
        client.gpu.computing -= 1
        self._counts.plays(now, -1)
        self._clock.stop(client.gpu.actor, client.session, now)

    # Places

    def _admit(self, effect: ev.Admit) -> None:
        client = self._clients.get(effect.session)
        if client is not None:
            client.admitted = effect
        self._timeline.after(self._costs.admit_ms / 1e3, self._answer, effect)

    def _answer(self, effect: ev.Admit) -> None:
        gpu = self.fleet.gpus.get(effect.actor)
        if gpu is not None and effect.session in self._clients:
            self._driver.tell(ev.AdmitAnswered(effect.actor, effect.session, effect.epoch))

    def _placed(self, effect: ev.Placed) -> None:
        client = self._clients.get(effect.session)
        if client is None:
            return
        lease = self._driver.pool.lease(effect.session)
        if lease.actor is None or lease.epoch == client.epoch:
            return
        gpu = self.fleet.gpus.get(lease.actor)
        if gpu is None:
            return  # it has just died: the pool will hear of it, and place the session again
        now = self._timeline.now
        client.asked, client.epoch = False, lease.epoch
        self._move_in(client, gpu)
        if client.doing is Doing.WAITING:
            client.waited_for_place = now - client.visit.at
            self._queued -= 1
            client.doing, client.at_home = Doing.IDLE, True
            self._timeline.after(client.visit.think, self._want, client, client.spell)
            return
        restore_s = self._transfer_s(client.kept_at == gpu.host)
        self._timeline.after(restore_s, self._restored, client, lease.epoch)

    def _restored(self, client: Client, epoch: Epoch) -> None:
        """Its state is at its new place."""
        if client.doing is Doing.LEFT or client.epoch != epoch or client.gpu is None:
            return
        client.at_home = True
        self._counts.restores += 1
        computing = client.admitted is not None and client.admitted.computing
        self._go_on(
            client, ev.SessionRestored(client.gpu.actor, client.session, epoch), computing=computing
        )

    def _go_on(self, client: Client, restored: ev.SessionRestored, *, computing: bool) -> None:
        """Tells that a session is at its new place; it computes if it wants to and may."""
        if client.doing in _SEEKING and computing:
            self._driver.tell(restored)
            self._granted(client)
        elif client.doing in _SEEKING:
            self._driver.tell(restored, ev.BookAsked(client.session, client.epoch))
        elif computing and client.doing is Doing.IDLE:
            self._driver.tell(restored, ev.Unbooked(client.session, client.epoch))
        else:
            self._driver.tell(restored)

    def _move_in(self, client: Client, gpu: Gpu | None) -> None:
        if client.gpu is not None:
            client.gpu.sessions.discard(client.session)
        client.gpu, client.at_home, client.target = gpu, False, None
        if gpu is not None:
            gpu.sessions.add(client.session)

    def _transfer_s(self, same_host: bool) -> float:
        rate = self._costs.host_gb_per_s if same_host else self._costs.network_gb_per_s
        return self._model.session_gb / rate

    # Parking

    def _park(self, effect: ev.Park) -> None:
        gpu = self.fleet.gpus.get(effect.actor)
        if gpu is None:
            return
        host = "" if effect.store else gpu.host
        seconds = self._transfer_s(not effect.store)
        self._timeline.after(seconds, self._kept, effect, host)

    def _kept(self, effect: ev.Park, host: str) -> None:
        client = self._clients.get(effect.session)
        if client is None or effect.actor not in self.fleet.gpus:
            return
        # A command that came meanwhile is obeyed where the session is.
        busy = client.epoch == effect.epoch and client.doing is not Doing.IDLE
        failure = "it is in use" if busy else ""
        self._driver.tell(
            ev.ParkAnswered(effect.actor, effect.session, effect.epoch, host=host, failure=failure)
        )

    def _parked(self, effect: ev.ParkedTold) -> None:
        client = self._clients.get(effect.session)
        if client is None:
            return
        if client.doing is Doing.PLAYING:
            self._interrupted(client)
        self._move_in(client, None)
        client.kept_at = effect.host
        if not effect.restoring:
            self._counts.parks += 1
            client.asked = False
            if client.doing is Doing.WANTING:
                self._seek(client)
            return
        self._ask_restored(client)

    # Moves

    def _moves(self, effect: ev.Moves) -> None:
        client = self._clients.get(effect.session)
        if client is None or client.gpu is None:
            return
        target = self._driver.pool.target(effect.session)
        gpu = self.fleet.gpus.get(target.actor) if target.actor is not None else None
        if gpu is None:
            return
        client.target = target.epoch
        computing = client.admitted is not None and client.admitted.computing
        # On average half a chunk is to be waited for at the actor that is left.
        boundary_s = self._model.chunk_ms / 2e3 if client.doing is Doing.PLAYING else 0.0
        self._timeline.after(
            _STANDBY_S + boundary_s, self._hand_over, client, gpu, target.epoch, computing
        )

    def _hand_over(self, client: Client, to: Gpu, epoch: Epoch, computing: bool) -> None:
        came_from = client.gpu
        if came_from is None or client.target != epoch or to.gone:
            return
        self._timeline.after(
            self._transfer_s(came_from.host == to.host),
            self._handed_over,
            client,
            came_from,
            to,
            epoch,
            computing,
        )

    def _handed_over(
        self,
        client: Client,
        came_from: Gpu,
        to: Gpu,
        epoch: Epoch,
        computing: bool,
    ) -> None:
        if client.gpu is not came_from or client.target != epoch or to.gone:
            return
        old = client.epoch
        playing = client.doing is Doing.PLAYING
        if playing:
            self._stop(client)
        self._counts.moves += 1
        client.epoch = epoch
        self._move_in(client, to)
        client.at_home = True
        if playing:
            self._start(client)
            spare_s = (self._model.period_ms - self._model.chunk_ms) / 1e3
            self._counts.missed(self._chunks(self._transfer_s(came_from.host == to.host) - spare_s))
        restored = ev.SessionRestored(to.actor, client.session, epoch)
        self._go_on(client, restored, computing=computing)
        self._timeline.after(
            self._model.period_ms / 1e3,
            self._driver.tell,
            ev.SessionDeparted(came_from.actor, client.session, old),
        )

    def _evicted(self, effect: ev.Evict) -> None:
        """A move was undone: the session stays where it is."""
        client = self._clients.get(effect.session)
        if client is not None and client.target == effect.epoch:
            client.target = None

    # Failures

    def lost(self, gpu: Gpu) -> None:
        """A GPU has died, with the sessions on it."""
        for session in sorted(gpu.sessions):
            client = self._clients[session]
            if client.doing is Doing.PLAYING:
                self._interrupted(client)
            client.kept_at = gpu.host
            self._move_in(client, None)

    def _interrupted(self, client: Client) -> None:
        self._stop(client)
        client.doing, client.since = Doing.LOST, self._timeline.now

    def _recovered(self, client: Client) -> None:
        gap_s = self._timeline.now - client.since
        self._counts.recovered(gap_s)
        self._counts.missed(self._chunks(gap_s))

    def _chunks(self, seconds: float) -> int:
        return max(0, math.ceil(seconds * 1000.0 / self._model.period_ms))

    def _ended(self, effect: ev.Ended) -> None:
        """The pool has ended a session by itself."""
        client = self._clients.get(effect.session)
        if client is None:
            return
        if client.doing is Doing.PLAYING:
            self._stop(client)
        self._counts.lost += 1
        self._forget(client)
