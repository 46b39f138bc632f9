"""The sessions of this gateway: created, placed, found again, ended."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from gateway.links import ActorLinks, LinkDeadError
from gateway.pacing import Pacing
from gateway.placement import PlacementClient, SchedulerAwayError
from gateway.session import GatewaySession
from sana_gateway.v1 import session_pb2
from sana_gateway_internal.v1 import placement_pb2
from scheduler.core.errors import (
    NoCapacityError,
    NotReadyError,
    RequestError,
    SessionClosedError,
    UnknownSessionError,
)
from scheduler.core.ids import Principal

log = structlog.get_logger(__name__)

ENDED_KEPT = 1024
"""Ended sessions that are still answered for; the oldest are forgotten first."""
REQUEST_IDS_KEPT = 4096
"""Creations whose repeat returns the same session; the oldest are forgotten first."""
TICKET_S = 120.0
"""A session that waits for its place without a connection is given up after this."""
SWEEP_S = 1.0
WORKER_DIED = "its worker died"
AWAY_S = 15.0
"""How long a session whose actor is gone is looked for before it counts as ended."""
SETTLE_S = 2.0
"""How long the scheduler is asked for a session that this gateway does not know."""
JOIN_S = 3.0
"""How long who asks for a session of another gateway waits until it is joined."""
RETRY_S = 0.25


class GatewayHub:
    """See `gateway.ports.Hub`."""

    def __init__(
        self,
        placement: PlacementClient,
        links: ActorLinks,
        *,
        max_connections: int,
        on_ended: Callable[[str], None],
        new_session_id: Callable[[], str],
    ) -> None:
        """Prepares; `run` keeps it going.

        Args:
            placement: The scheduler.
            links: The actors.
            max_connections: Connections of one session at once.
            on_ended: Called with the id of every session that has ended.
            new_session_id: Draws an unguessable id that belongs to this process.
        """
        self._on_ended = on_ended
        self._new_session_id = new_session_id
        self._placement = placement
        self._links = links
        self._max_connections = max_connections
        self._pacing = Pacing()
        self._sessions: dict[str, GatewaySession] = {}
        self._ended: OrderedDict[str, GatewaySession] = OrderedDict()
        self._by_request: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._placing: dict[str, asyncio.Task[None]] = {}
        self._answers: dict[str, asyncio.Future[None]] = {}
        """Whether the scheduler takes a session, until it is placed."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._adopted: set[str] = set()
        """Sessions of other gateways that have not been joined yet."""
        self._stopping = False

    async def run(self) -> None:
        """Reports presence, learns what is served, gives up stale tickets; until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._placement.run_presence(self._counts, self._ended_elsewhere))
            group.create_task(self._placement.run_poll())
            group.create_task(self._sweep())

    async def stop(self, reason: str) -> None:
        """Tells all connections; the sessions themselves live on for their window."""
        self._stopping = True
        for session in list(self._sessions.values()):
            session.close(reason)
        self._sessions.clear()
        tasks = [*self._tasks, *self._placing.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def served_models(self) -> Sequence[str]:
        """Names that clients may ask for."""
        return self._placement.served

    @property
    def session_count(self) -> int:
        """Sessions that this process takes part in."""
        return len(self._sessions)

    async def create(
        self, principal: Principal, model: str, request_id: str = ""
    ) -> GatewaySession:
        """Creates a session; see `gateway.ports.Hub`."""
        if self._stopping:
            raise NoCapacityError("this gateway is shutting down; try again", retry_after_s=1.0)
        key = (principal.tenant, request_id)
        known = self._by_request.get(key) if request_id else None
        if known is not None and (session := self._known(known)) is not None:
            await self._answered(session)
            return session
        session = GatewaySession(
            self._new_session_id(),
            model,
            principal,
            self,
            max_connections=self._max_connections,
            pacing=self._pacing,
        )
        self._sessions[session.session_id] = session
        if request_id:
            self._by_request[key] = session.session_id
            if len(self._by_request) > REQUEST_IDS_KEPT:
                self._by_request.popitem(last=False)
        answered = self._answers[session.session_id] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._place(session, answered))
        self._placing[session.session_id] = task
        task.add_done_callback(lambda _: self._placed(session))
        try:
            await self._answered(session)
        except RequestError:
            self._sessions.pop(session.session_id, None)
            self._by_request.pop(key, None)
            raise
        log.info("session.created", session_id=session.session_id, tenant=principal.tenant)
        return session

    async def find(self, principal: Principal, session_id: str) -> GatewaySession:
        """Returns a session; see `gateway.ports.Hub`."""
        session = self._known(session_id)
        if session is None:
            session = await self._adopt(principal, session_id)
        if session_id in self._adopted:
            await self._settled(session)
        if session.principal.tenant != principal.tenant:
            raise UnknownSessionError("no such session")
        return session

    async def close(self, principal: Principal, session_id: str, reason: str) -> None:
        """Ends a session; see `gateway.ports.Hub`."""
        session = await self.find(principal, session_id)
        if session.status != session_pb2.SESSION_STATUS_CLOSED:
            await self._end(session, reason)

    # -- what sessions tell -----------------------------------------------------------------

    def connections_changed(self, session: GatewaySession) -> None:
        """A connection came or went."""
        self._placement.connections(session.session_id, session.connection_count)

    def link_lost(self, session: GatewaySession) -> None:
        """The actor's streams ended: the scheduler knows where the session is now, if anywhere."""
        self._own(self._find_anew(session))

    def over(self, session: GatewaySession, reason: str) -> None:
        """The actor says that the session has ended."""
        self._forget(session, reason)

    # -- placing ----------------------------------------------------------------------------

    async def _answered(self, session: GatewaySession) -> None:
        """Waits until the scheduler has taken a session or refused it.

        Raises:
            RequestError: It was refused.
        """
        answer = self._answers.get(session.session_id)
        if answer is not None:
            await asyncio.shield(answer)

    def _placed(self, session: GatewaySession) -> None:
        self._placing.pop(session.session_id, None)
        answer = self._answers.pop(session.session_id)
        if not answer.done():
            answer.set_exception(SessionClosedError("the session was closed"))
        if not answer.cancelled():
            answer.exception()  # whoever waits for it, if anybody still does, has it

    async def _place(self, session: GatewaySession, answered: asyncio.Future[None]) -> None:
        asked_at = time.monotonic()
        while True:
            try:
                waited = time.monotonic() - asked_at
                responses = self._placement.place(
                    session.session_id, session.model, session.principal, waited
                )
                async for response in responses:
                    if not answered.done():
                        answered.set_result(None)
                    if response.WhichOneof("response") == "queued":
                        queued = response.queued
                        session.queued(queued.position, queued.estimated_wait_us / 1e6)
                    else:
                        await self._join(session, response.lease)
                        return
            except RequestError as error:
                if answered.done():
                    self._forget(session, str(error))
                else:
                    answered.set_exception(error)
                return
            except SchedulerAwayError:
                # The scheduler restarts empty: the ticket is submitted again with its time.
                if not answered.done() and time.monotonic() - asked_at > AWAY_S:
                    answered.set_exception(
                        NoCapacityError("the service is starting; try again", retry_after_s=5.0)
                    )
                    return
            await asyncio.sleep(RETRY_S)

    async def _join(self, session: GatewaySession, lease: placement_pb2.Lease) -> None:
        try:
            session.join(lease, await self._links.get(lease.address))
        except LinkDeadError:
            self.link_lost(session)

    async def _adopt(self, principal: Principal, session_id: str) -> GatewaySession:
        """Takes part in a session that another gateway made."""
        lease = await self._lease(session_id)
        if lease.principal.tenant != principal.tenant:
            raise UnknownSessionError("no such session")
        known = self._sessions.get(session_id)
        if known is not None:
            return known
        session = GatewaySession(
            session_id,
            lease.model,
            Principal(lease.principal.tenant, frozenset(lease.principal.scopes)),
            self,
            max_connections=self._max_connections,
            pacing=self._pacing,
        )
        self._sessions[session_id] = session
        self._adopted.add(session_id)
        self._own(self._join(session, lease))
        return session

    async def _settled(self, session: GatewaySession) -> None:
        """Waits for the journal of an adopted session: who reconnects is told from it what
        was missed, and would else be told of a gap.
        """
        with contextlib.suppress(TimeoutError, SessionClosedError):
            async with asyncio.timeout(JOIN_S):
                await session.wait_ready()
        self._adopted.discard(session.session_id)

    async def _lease(self, session_id: str) -> placement_pb2.Lease:
        """Asks for a lease; a scheduler that has just restarted is given a moment."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            try:
                return await self._placement.find(session_id)
            except SchedulerAwayError:
                if time.monotonic() > deadline:
                    raise UnknownSessionError("no such session") from None
            await asyncio.sleep(RETRY_S)

    async def _find_anew(self, session: GatewaySession) -> None:
        deadline = time.monotonic() + AWAY_S
        while session.status != session_pb2.SESSION_STATUS_CLOSED:
            # What was lost a moment ago is not there again at once.
            await asyncio.sleep(RETRY_S)
            try:
                lease = await self._placement.find(session.session_id)
                session.join(lease, await self._links.get(lease.address))
            except (UnknownSessionError, SessionClosedError):
                self._forget(session, WORKER_DIED)
            except (SchedulerAwayError, LinkDeadError, NotReadyError):
                if time.monotonic() > deadline:
                    await self._end(session, "its worker does not answer")
            else:
                return

    # -- ending -----------------------------------------------------------------------------

    async def _end(self, session: GatewaySession, reason: str) -> None:
        placing = self._placing.get(session.session_id)
        if placing is not None:
            placing.cancel()
        self._forget(session, reason)
        await self._placement.release(session.session_id, reason)

    def _ended_elsewhere(self, session_id: str, reason: str) -> None:
        session = self._sessions.get(session_id)
        if session is not None:
            self._forget(session, reason)

    def _forget(self, session: GatewaySession, reason: str) -> None:
        if self._sessions.pop(session.session_id, None) is None:
            return
        self._ended[session.session_id] = session
        if len(self._ended) > ENDED_KEPT:
            self._ended.popitem(last=False)
        session.close(reason)
        self._on_ended(session.session_id)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now = time.monotonic()
            for session in list(self._sessions.values()):
                waiting = session.status == session_pb2.SESSION_STATUS_WAITING
                if (
                    waiting
                    and not session.connection_count
                    and now - session.last_connected_at > TICKET_S
                ):
                    await self._end(session, "nobody took the place in the queue")

    def _known(self, session_id: str) -> GatewaySession | None:
        return self._sessions.get(session_id) or self._ended.get(session_id)

    def _counts(self) -> dict[str, int]:
        return {
            session_id: session.connection_count for session_id, session in self._sessions.items()
        }

    def _own(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._disown)

    def _disown(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task.failed", error=type(error).__name__)
