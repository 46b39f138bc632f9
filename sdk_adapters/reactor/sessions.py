"""The sessions that Reactor clients use, their connections and their negotiations.

A *link* is a connection as clients know it: a number, registered once, that may be
offered on any number of times. Every offer makes a *call*: a connection of the hub, a
peer and a conversation. An offer is accepted at once and negotiated by an owned task;
a new offer replaces the call of its link, whose answer nobody will ever see.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

import structlog
from prometheus_client import Counter, Gauge

from gateway import ports
from gateway.ingress import IngressServices, Peer
from sana_gateway.v1 import session_pb2
from scheduler.core.errors import (
    InvariantError,
    LimitError,
    RequestError,
    SanaGatewayError,
    UnknownSessionError,
)
from scheduler.core.ids import Principal
from sdk_adapters.reactor import polls
from sdk_adapters.reactor.channels import Conversation
from sdk_adapters.reactor.typed_channels import conversation_about

_log = structlog.get_logger(__name__)

LEGACY_LINK: Final = 1001
"""The link of the routes without a connection id."""
FIRST_LINK: Final = 1002
LAST_LINK: Final = 9999
"""Highest number that clients accept."""
MAX_LINKS: Final = 64
"""Registered links of a session; the oldest idle one makes room for a new one."""
MAX_EARLY_CANDIDATES: Final = 64
"""Candidates kept for a peer that is not made yet; further ones are dropped."""

HALF_OPEN_S: Final = 30.0
"""How long a call may take from its offer to its open data channel."""
SILENCE_S: Final = 20.0
"""How long a client may be silent; they ping every 5 or 10 s."""
WATCH_PERIOD_S: Final = 2.0
"""How often the two times above are looked at."""
DRAIN_S: Final = 0.5
"""How long a peer lives on for its last words to leave."""

_CLOSING: Final = "reactor-closing"
"""Name of the tasks that `stop` waits for."""

_CALLS = Gauge("sana_gateway_reactor_connections", "Reactor connections now, half-open included.")
_HANGUPS = Counter(
    "sana_gateway_reactor_hangups", "Reactor connections closed, by cause.", ("cause",)
)


class Call:
    """One offer and what became of it."""

    def __init__(
        self, connection: ports.Connection, conversation: Conversation, offered_at: float
    ) -> None:
        """Begins without a peer.

        Args:
            connection: Its connection of the hub.
            conversation: What is said on its channels.
            offered_at: When the offer came.
        """
        self.connection = connection
        self.conversation = conversation
        self.offered_at = offered_at
        self.peer: Peer | None = None
        self.answer: str | None = None
        self.failure: SanaGatewayError | None = None
        self.settled = asyncio.Event()
        """Set once there is an answer or a failure, or the call is over."""
        self.over = False

    def overdue(self, now: float) -> str | None:
        """Returns why the call should be ended, if it should."""
        heard = self.conversation.last_heard
        if heard is None:
            return "half-open" if now - self.offered_at > HALF_OPEN_S else None
        return "silent" if now - heard > SILENCE_S else None


class Link:
    """One connection as clients know it."""

    def __init__(self) -> None:
        """Begins without an offer."""
        self.call: Call | None = None
        self.early: list[session_pb2.IceCandidate] = []
        """Candidates that came before their peer."""


class Room:
    """A session and its links."""

    def __init__(self, session: ports.HubSession) -> None:
        """Begins with the legacy link alone.

        Args:
            session: The session.
        """
        self.session = session
        self.links: dict[int, Link] = {LEGACY_LINK: Link()}
        self._next_link = FIRST_LINK

    @property
    def ended(self) -> bool:
        """Whether the session has ended."""
        return self.session.describe().status == session_pb2.SESSION_STATUS_CLOSED

    @property
    def calls(self) -> list[Call]:
        """The calls that are not over."""
        return [link.call for link in self.links.values() if link.call and not link.call.over]

    def register(self) -> int:
        """Makes a link and returns its number.

        Raises:
            LimitError: All links are in use.
        """
        if len(self.links) > MAX_LINKS:
            idle = next(
                (number for number, link in self.links.items() if _is_idle(number, link)), None
            )
            if idle is None:
                raise LimitError("too many connections in this session")
            del self.links[idle]
        number = self._next_link
        if number > LAST_LINK:
            raise LimitError("this session has used up its connection numbers")
        self._next_link += 1
        self.links[number] = Link()
        return number

    def link(self, number: int) -> Link:
        """Returns a link.

        Raises:
            UnknownSessionError: It was never registered, or is forgotten.
        """
        try:
            return self.links[number]
        except KeyError:
            raise UnknownSessionError("no such connection in this session") from None


def _is_idle(number: int, link: Link) -> bool:
    return number != LEGACY_LINK and (link.call is None or link.call.over)


class Sessions:
    """All sessions that Reactor clients of this gateway use."""

    def __init__(
        self, services: IngressServices, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Starts empty.

        Args:
            services: Hub and peer factory.
            now: Monotonic clock in seconds.
        """
        self._services = services
        self._now = now
        self._rooms: dict[str, Room] = {}
        self._polls = polls.Polls()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begins to watch over silent clients and half-open calls."""
        self._own(self._watch())

    async def stop(self) -> None:
        """Hangs up on everybody and ends all tasks."""
        for room in self._rooms.values():
            for call in room.calls:
                self.hang_up(call, "shutdown")
        closing = [task for task in self._tasks if task.get_name() == _CLOSING]
        if closing:
            await asyncio.wait(closing, timeout=2.0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def create(self, principal: Principal, model: str) -> Room:
        """Creates a session; it may have to wait for its place.

        Raises:
            UnknownModelError: The model is not served.
            NoCapacityError: The queue is full.
        """
        session = await self._services.hub.create(principal, model)
        return self._rooms.setdefault(session.session_id, Room(session))

    async def find(self, principal: Principal, session_id: str) -> Room:
        """Returns a session that the caller may use; see `gateway.ports.Hub.find`."""
        # The hub alone knows who may use what: it is asked every time.
        session = await self._services.hub.find(principal, session_id)
        return self._rooms.setdefault(session_id, Room(session))

    async def settled(self, room: Room, is_gone: Callable[[], bool]) -> None:
        """Returns once a session is placed or has ended, or after a while.

        Args:
            room: The session.
            is_gone: Tells whether the client that asks has hung up.
        """
        if room.session.describe().status == session_pb2.SESSION_STATUS_WAITING:
            await self.hold(room.session.wait_ready, is_gone)

    async def hold(
        self, known: Callable[[], Coroutine[Any, Any, object]], is_gone: Callable[[], bool]
    ) -> None:
        """Keeps the request of a client that waits for its place; see `Polls.hold`."""
        await self._polls.hold(known, polls.PLACE_HOLD_S, is_gone)

    async def close(self, principal: Principal, session_id: str, reason: str) -> None:
        """Ends a session; ending an ended one is no error.

        Raises:
            UnknownSessionError: Never heard of, or not the caller's.
        """
        await self._services.hub.close(principal, session_id, reason)

    def offer(
        self,
        room: Room,
        link: Link,
        sdp: str,
        tracks: Mapping[str, str],
        client_info: object,
    ) -> None:
        """Accepts an offer; what the link had before is closed.

        Raises:
            SessionClosedError: The session has ended.
            LimitError: Too many connections.
        """
        if link.call is not None:
            self.hang_up(link.call, "replaced")
        conversation = conversation_about(
            room.session,
            client_info,
            now=self._now,
            on_broken=lambda cause: self.hang_up(call, cause),
            on_ended=lambda: self.hang_up(call, "session ended", drain=True),
        )
        connection, gap = room.session.connect(conversation, resume_after=conversation.resume_after)
        conversation.joined(connection, gap=gap)
        call = link.call = Call(connection, conversation, self._now())
        _CALLS.inc()
        self._own(self._negotiate(call, link, sdp, tracks))

    async def answer(self, link: Link, is_gone: Callable[[], bool]) -> str | None:
        """Returns the answer to the latest offer of a link, or None while there is none.

        Waits up to a second for it.

        Args:
            link: The connection.
            is_gone: Tells whether the client that asks has hung up.

        Raises:
            RequestError: The offer was refused, or the call is over.
        """
        call = link.call
        if call is None:
            return None
        if not call.settled.is_set():
            await self._polls.hold(call.settled.wait, polls.ANSWER_HOLD_S, is_gone)
        if link.call is not call or not call.settled.is_set():
            return None
        if call.failure is not None:
            raise call.failure
        if call.over:
            raise UnknownSessionError("this connection is closed")
        return call.answer

    async def add_candidates(
        self, link: Link, candidates: Sequence[session_pb2.IceCandidate]
    ) -> None:
        """Adds ways to reach the client; those that come before their peer are kept for it."""
        if link.call is not None and link.call.peer is not None and not link.call.over:
            await link.call.peer.add_candidates(candidates)
        else:
            link.early = [*link.early, *candidates][:MAX_EARLY_CANDIDATES]

    def hang_up(self, call: Call, cause: str, *, drain: bool = False) -> None:
        """Ends a call but not its session. Repeating it is no error.

        Args:
            call: The call.
            cause: Why, for the metrics.
            drain: Whether what was said last should leave first.
        """
        if call.over:
            return
        call.over = True
        call.settled.set()
        _CALLS.dec()
        _HANGUPS.labels(cause).inc()
        call.connection.close()
        call.conversation.close()
        if call.peer is not None:
            self._own(self._close_peer(call.peer, DRAIN_S if drain else 0.0), _CLOSING)

    async def _negotiate(self, call: Call, link: Link, sdp: str, tracks: Mapping[str, str]) -> None:
        try:
            async with asyncio.timeout(HALF_OPEN_S):
                peer, answer = await self._services.peers.answer(
                    call.connection,
                    sdp,
                    tracks,
                    channels=call.conversation,
                    on_closed=lambda: self.hang_up(call, "peer closed"),
                )
        except RequestError as error:
            self._failed(call, error)
        except TimeoutError:
            self._failed(call, InvariantError("the negotiation took too long"))
        except Exception as error:
            session_id = call.connection.session.session_id
            _log.exception("reactor.negotiation_failed", session_id=session_id)
            self._failed(call, InvariantError(f"negotiation failed: {type(error).__name__}"))
        else:
            await self._connected(call, link, peer, answer)

    async def _connected(self, call: Call, link: Link, peer: Peer, answer: str) -> None:
        if call.over:
            await peer.close()
            return
        call.peer, call.answer = peer, answer
        call.conversation.connected(peer)
        call.settled.set()
        early, link.early = link.early, []
        if early:
            await peer.add_candidates(early)

    def _failed(self, call: Call, failure: SanaGatewayError) -> None:
        call.failure = failure
        self.hang_up(call, "refused")

    async def _close_peer(self, peer: Peer, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await peer.close()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_PERIOD_S)
            self.look()

    def look(self) -> None:
        """Ends calls that took too long, and forgets ended sessions. Called every two seconds."""
        now = self._now()
        for session_id, room in list(self._rooms.items()):
            for call in room.calls:
                if cause := call.overdue(now):
                    self.hang_up(call, cause)
            if room.ended:
                # The hub still answers for it a while.
                del self._rooms[session_id]

    def _own(self, coroutine: Coroutine[Any, Any, None], name: str | None = None) -> None:
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("reactor.task_failed", error=type(error).__name__, exc_info=error)
