"""The far ends of the scheduler's driver: standing links, calls that wait, and the crew.

Plain parts without rules; `scheduler.service` fills and reads them on its event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sana_gateway.v1 import session_pb2
from scheduler.core import pool_events as ev
from scheduler.core.errors import SanaGatewayError
from scheduler.core.ids import ActorId, Epoch, GatewayId, Principal, SessionId
from scheduler.outbox import Outbox
from scheduler.process.instruments import QUEUES

OUTBOX_LIMIT = 16_384
"""Orders for one actor, or news for one gateway, that may wait to be sent: far more than there
are sessions on either, all of which may be lost in one step."""


_ORDERS = QUEUES.kind("actor_orders", OUTBOX_LIMIT)
_NEWS = QUEUES.kind("gateway_news", OUTBOX_LIMIT)


@dataclass(frozen=True, slots=True)
class Grant:
    """A session's place, as a gateway is told of it."""

    session: SessionId
    epoch: Epoch
    actor: ActorId
    address: str
    """The actor's data plane, as grpcio takes it."""
    token: str
    """Shown to the actor by the gateway."""
    principal: Principal
    model: str
    capabilities: session_pb2.Capabilities


@dataclass(frozen=True, slots=True)
class WatchChunks:
    """Heartbeats are to tell of chunks, or no longer."""

    watched: bool


@dataclass(frozen=True, slots=True)
class FollowTraces:
    """Spans of these sessions are to be recorded and told of, and no others."""

    sessions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UsageKept:
    """Reports of usage up to a number are written down; told to whoever made them."""

    number: int


@dataclass(frozen=True, slots=True)
class Order:
    """What an actor is told."""

    word: (
        ev.Admit
        | ev.Evict
        | ev.Park
        | ev.AwaitsRoom
        | ev.Pace
        | ev.TellDrain
        | ev.Retire
        | WatchChunks
        | FollowTraces
        | UsageKept
    )
    traceparent: str = ""
    """Trace context of the placement."""


@dataclass(frozen=True, slots=True)
class Move:
    """A session is to go to another actor; told to each gateway with a token of its own."""

    grant: Grant
    """Its place there."""


News = ev.Ended | ev.ParkedTold | Move | UsageKept | FollowTraces
"""What a gateway is told of sessions."""


Heard = ev.ActorBeat | ev.AdmitAnswered | ev.ParkAnswered | ev.SessionRestored | ev.SessionDeparted
"""What an actor says on its link."""


class Parkings(Protocol):
    """Who counts how long sessions are parked."""

    def parked(self, session: str, epoch: int) -> None:
        """A session was parked; the lease of this epoch has ended."""

    def unparked(self, session: str) -> None:
        """A session has a place, or is over."""


class Crew(Protocol):
    """Who makes and ends the processes of actors."""

    def enrolled(self, actor: ActorId) -> None:
        """An actor has registered."""

    def replace(self, actor: ActorId) -> None:
        """An actor is lost: its process is to be ended and another one made."""

    def emptying(self, actor: ActorId) -> None:
        """An actor is being drained: its successor may come before it goes."""

    def kept(self, actor: ActorId) -> None:
        """The drain of an actor was cancelled."""

    def retire(self, actor: ActorId) -> None:
        """An actor is drained: its process is to end in order."""

    def repurpose(self, actor: ActorId, model: str) -> None:
        """An actor is to end in order, and one of another model to take its place."""


@dataclass(slots=True, eq=False)
class Enrollment:
    """The standing link to one actor."""

    actor: ActorId
    capabilities: session_pb2.Capabilities
    orders: Outbox[Order] = field(default_factory=lambda: Outbox(OUTBOX_LIMIT, _ORDERS))


@dataclass(slots=True, eq=False)
class PresenceLink:
    """The standing link to one gateway."""

    gateway: GatewayId
    news: Outbox[News] = field(default_factory=lambda: Outbox(OUTBOX_LIMIT, _NEWS))
    connected: set[SessionId] = field(default_factory=set)
    """Sessions that it has connections to."""
    concerned: set[SessionId] = field(default_factory=set)
    """Sessions that it has named or was given the place of. It may have a link to their actor
    without a connection."""

    def connect(self, counts: Mapping[SessionId, int], *, complete: bool) -> list[SessionId]:
        """Takes in its connections; `complete` when all others are 0.

        Returns:
            The sessions that it had none to before.
        """
        self.concerned |= counts.keys()
        now = {session for session, count in counts.items() if count > 0}
        come = sorted(now - self.connected)
        kept = set() if complete else self.connected - counts.keys()
        self.connected = kept | now
        return come


class PlaceWait:
    """Somebody waits for a place. Of several positions only the latest is of interest.

    Args:
        tenant: In whose name.
        traceparent: W3C trace context of the placement.
    """

    def __init__(self, tenant: str, traceparent: str = "") -> None:
        self.tenant = tenant
        self.traceparent = traceparent
        self._news: ev.Waiting | Grant | SanaGatewayError | None = None
        self._wake = asyncio.Event()

    def tell(self, news: ev.Waiting | Grant | SanaGatewayError) -> None:
        """Says how it stands; nothing follows a grant or an error."""
        if not isinstance(self._news, (Grant, SanaGatewayError)):
            self._news = news
            self._wake.set()

    async def next(self) -> ev.Waiting | Grant:
        """Returns what was said last, once it is new.

        Raises:
            SanaGatewayError: That was it.
        """
        await self._wake.wait()
        self._wake.clear()
        news, self._news = self._news, None
        if isinstance(news, SanaGatewayError):
            raise news
        assert news is not None  # noqa: S101 - woken only by `tell`
        return news


class DrainWatch:
    """Somebody watches a drain. Of several reports only the latest is of interest."""

    def __init__(self) -> None:
        self._latest: ev.DrainProgress | None = None
        self._over = False
        self._wake = asyncio.Event()

    def tell(self, progress: ev.DrainProgress, *, over: bool) -> None:
        """Says how far the drain has come; nothing follows what is the last."""
        if not self._over:
            self._latest, self._over = progress, over
            self._wake.set()

    def end(self) -> None:
        """Ends the reader after what is there already."""
        self._over = True
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[ev.DrainProgress]:
        """Yields the latest report, whenever there is a new one, until the drain is over."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            latest, self._latest, over = self._latest, None, self._over
            if latest is not None:
                yield latest
            if over:
                return
