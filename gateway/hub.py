"""The sessions of this gateway: created, found again, copied, ended."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from gateway.links import ActorLinks
from gateway.pacing import Pacing
from gateway.placement import PlacementClient, SchedulerAwayError
from gateway.seeking import Seeking
from gateway.session import GatewaySession
from sana_gateway.v1 import command_pb2, pool_pb2, session_pb2
from sana_gateway_internal.v1 import placement_pb2, snapshot_pb2
from scheduler.core.errors import (
    BadArgumentError,
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
"""Creations and forks whose repeat returns the same sessions; the oldest are forgotten first."""
TICKET_S = 120.0
"""A session that waits for its place without a connection is given up after this."""
SWEEP_S = 1.0
SETTLE_S = 2.0
"""How long the scheduler is asked for a session that this gateway does not know."""
JOIN_S = 3.0
"""How long who asks for a session of another gateway waits until it is joined."""
COPY_S = 15.0
"""How long a session may take to be copied: its actor first finishes a window."""
MOST_COPIES = 16
"""Copies of one fork."""
RETRY_S = 0.25
KEPT_STATES = (pool_pb2.LEASE_STATE_PARKED, pool_pb2.LEASE_STATE_LOST)
"""Sessions on no actor that any gateway may ask a place for."""
ITS_MODEL = "*"
"""Stands for the model of a session that the scheduler knows, until its lease names it."""


class GatewayHub:
    """See `gateway.ports.Hub`."""

    def __init__(
        self,
        placement: PlacementClient,
        links: ActorLinks,
        *,
        max_connections: int,
        on_ended: Callable[[str], None],
        on_copied: Callable[
            [str, Sequence[command_pb2.FileRef], Sequence[str]], Coroutine[Any, Any, None]
        ],
        new_session_id: Callable[[], str],
    ) -> None:
        """Prepares; `run` keeps it going.

        Args:
            placement: The scheduler.
            links: The actors.
            max_connections: Connections of one session at once.
            on_ended: Called with the id of every session that has ended.
            on_copied: Called with a session, its uploads that copies need, and the copies.
            new_session_id: Draws an unguessable id that belongs to this process.
        """
        self._on_ended = on_ended
        self._on_copied = on_copied
        self._new_session_id = new_session_id
        self._placement = placement
        self._seeking = Seeking(placement, links, self._forget)
        self._max_connections = max_connections
        self._pacing = Pacing()
        self._sessions: dict[str, GatewaySession] = {}
        self._ended: OrderedDict[str, GatewaySession] = OrderedDict()
        self._by_request: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._forks: OrderedDict[tuple[str, str], asyncio.Task[list[GatewaySession]]] = (
            OrderedDict()
        )
        self._adopted: set[str] = set()
        """Sessions of other gateways that have not been joined yet."""
        self._stopping = False

    async def run(self) -> None:
        """Reports presence, learns what is served, gives up stale tickets; until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._placement.run_presence(self._counts, self))
            group.create_task(self._placement.run_poll())
            group.create_task(self._sweep())

    async def stop(self, reason: str) -> None:
        """Tells all connections; the sessions themselves live on for their window."""
        self._stopping = True
        for session in list(self._sessions.values()):
            session.close(reason)
        self._sessions.clear()
        for fork in self._forks.values():
            fork.cancel()
        await asyncio.gather(*self._forks.values(), return_exceptions=True)
        await self._seeking.stop()

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
        self._refuse_stopping()
        key = (principal.tenant, request_id)
        known = self._by_request.get(key) if request_id else None
        if known is not None and (session := self._known(known)) is not None:
            await self._seeking.answered(session)
            return session
        session = self._make(self._new_session_id(), model, principal)
        if request_id:
            self._by_request[key] = session.session_id
            if len(self._by_request) > REQUEST_IDS_KEPT:
                self._by_request.popitem(last=False)
        try:
            await self._placing(session)
        except RequestError:
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

    async def fork(
        self, principal: Principal, session_id: str, copies: int, request_id: str = ""
    ) -> Sequence[GatewaySession]:
        """Copies a session; see `gateway.ports.Hub`."""
        self._refuse_stopping()
        if not 1 <= copies <= MOST_COPIES:
            raise BadArgumentError(f"a session is copied 1 to {MOST_COPIES} times at once")
        session = await self.find(principal, session_id)
        key = (session_id, request_id or self._new_session_id())
        known = self._forks.get(key)
        if known is None:
            known = self._forks[key] = asyncio.create_task(self._fork(session, copies))
            known.add_done_callback(lambda task: self._forked(key, task, keep=bool(request_id)))
        # Whoever asks first may leave: the next one with this id gets what was made.
        made = await asyncio.shield(known)
        if len(made) != copies:
            raise BadArgumentError("another number of copies was asked for under this request_id")
        return made

    def upload_completed(self, session_id: str) -> None:
        """An upload of a session is complete: it is about to be used."""
        session = self._sessions.get(session_id)
        if session is not None:
            session.wake()

    # -- what sessions tell -----------------------------------------------------------------

    def connections_changed(self, session: GatewaySession) -> None:
        """A connection came or went."""
        self._placement.connections(session.session_id, session.connection_count)

    def opened(self, session: GatewaySession) -> None:
        """Its actor takes part."""
        self._seeking.opened(session)

    def unplaced(self, session: GatewaySession, *, refused: bool) -> None:
        """Its actor died or has refused it: the scheduler finds it another."""
        if refused:
            self._seeking.refused(session)
        self._seeking.seek(session)

    def wanted(self, session: GatewaySession) -> None:
        """It was parked, and somebody needs it."""
        self._seeking.seek(session, "it was parked and is not kept any more")

    def handed_over(self, session: GatewaySession) -> None:
        """It was handed over before this gateway heard where to."""
        self._seeking.follow(session)

    def over(self, session: GatewaySession, reason: str) -> None:
        """The actor says that the session has ended: the scheduler has the last word, for the
        actor may have been given up before.
        """
        self._seeking.seek(session, reason)

    # -- what the scheduler tells -----------------------------------------------------------

    def ended(self, session_id: str, reason: str) -> None:
        """A session ended; see `gateway.placement.PoolNews`."""
        session = self._sessions.get(session_id)
        if session is not None:
            self._forget(session, reason)

    def moves(self, lease: placement_pb2.Lease) -> None:
        """A session is to move; see `gateway.placement.PoolNews`."""
        session = self._sessions.get(lease.session_id)
        if session is not None and lease.epoch > session.epoch:
            self._seeking.move(session, lease)

    def parked(self, parked: placement_pb2.SessionParked) -> None:
        """A session is on no actor; see `gateway.placement.PoolNews`."""
        session = self._sessions.get(parked.session_id)
        if session is not None:
            session.parked(parked.epoch, parked.host, restoring=parked.restoring)

    # -- placing ----------------------------------------------------------------------------

    def _make(self, session_id: str, model: str, principal: Principal) -> GatewaySession:
        session = self._sessions[session_id] = GatewaySession(
            session_id,
            model,
            principal,
            self,
            max_connections=self._max_connections,
            pacing=self._pacing,
        )
        return session

    async def _placing(self, session: GatewaySession) -> None:
        """Begins to place a session.

        Raises:
            RequestError: The scheduler does not take it: it never was.
        """
        self._seeking.begin(session)
        try:
            await self._seeking.answered(session)
        except RequestError:
            self._sessions.pop(session.session_id, None)
            raise

    async def _adopt(self, principal: Principal, session_id: str) -> GatewaySession:
        """Takes part in a session that another gateway made."""
        try:
            lease = await self._lease(session_id)
        except NotReadyError:
            if not await self._is_kept(principal, session_id):
                raise
            return await self._adopt_kept(principal, session_id)
        if lease.principal.tenant != principal.tenant:
            raise UnknownSessionError("no such session")
        known = self._sessions.get(session_id)
        if known is not None:
            return known
        owner = Principal(lease.principal.tenant, frozenset(lease.principal.scopes))
        session = self._make(session_id, lease.model, owner)
        session.existed = True
        self._adopted.add(session_id)
        self._seeking.move(session, lease)
        return session

    async def _adopt_kept(self, principal: Principal, session_id: str) -> GatewaySession:
        """Takes part in a session that is on no actor: somebody needs it now."""
        known = self._sessions.get(session_id)
        if known is not None:
            return known
        session = self._make(session_id, ITS_MODEL, principal)
        session.existed = True
        self._adopted.add(session_id)
        await self._placing(session)
        return session

    async def _is_kept(self, principal: Principal, session_id: str) -> bool:
        """Tells whether a session of a tenant is kept on no actor."""
        try:
            pool = await self._placement.describe_pool()
        except SchedulerAwayError:
            return False
        return any(
            each.session_id == session_id
            and each.tenant == principal.tenant
            and each.state in KEPT_STATES
            for each in pool.sessions
        )

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

    async def _fork(self, session: GatewaySession, copies: int) -> list[GatewaySession]:
        ids = [self._new_session_id() for _ in range(copies)]
        copied = await session.copy(ids, COPY_S)
        snapshot = copied.snapshot
        clips = {each.upload_id: each for each in (snapshot.clip.video, snapshot.probe)}
        clips.pop("", None)
        made = [each for each in ids if each in set(copied.copies)]
        await self._on_copied(session.session_id, list(clips.values()), made)
        sessions = [self._make(each, session.model, session.principal) for each in made]
        for copy in sessions:
            copy.begin_from(_as_of(snapshot, copy.session_id))
        answers = await asyncio.gather(
            *(self._placing(copy) for copy in sessions), return_exceptions=True
        )
        refusals = [each for each in answers if isinstance(each, BaseException)]
        if refusals:
            for copy in sessions:
                if copy.session_id in self._sessions:
                    await self._end(copy, "not all copies found a place")
                else:
                    self._on_ended(copy.session_id)
            raise refusals[0]
        log.info("session.forked", session_id=session.session_id, copies=len(sessions))
        return sessions

    def _forked(
        self, key: tuple[str, str], task: asyncio.Task[list[GatewaySession]], *, keep: bool
    ) -> None:
        failed = task.cancelled() or task.exception() is not None
        if failed or not keep:
            self._forks.pop(key, None)
        while len(self._forks) > REQUEST_IDS_KEPT and next(iter(self._forks.values())).done():
            self._forks.popitem(last=False)

    # -- ending -----------------------------------------------------------------------------

    def _refuse_stopping(self) -> None:
        if self._stopping:
            raise NoCapacityError("this gateway is shutting down; try again", retry_after_s=1.0)

    async def _end(self, session: GatewaySession, reason: str) -> None:
        self._forget(session, reason)
        await self._placement.release(session.session_id, reason)

    def _forget(self, session: GatewaySession, reason: str) -> None:
        if self._sessions.pop(session.session_id, None) is None:
            return
        self._seeking.give_up(session)
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
                # One that existed is not ours alone: clients may be connected elsewhere.
                new = session.is_fork or not session.existed
                if (
                    waiting
                    and new
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


def _as_of(snapshot: snapshot_pb2.ControlSnapshot, session_id: str) -> snapshot_pb2.ControlSnapshot:
    """Returns what a copy begins from: nobody has heard anything of it yet."""
    own = snapshot_pb2.ControlSnapshot()
    own.CopyFrom(snapshot)
    own.session_id, own.epoch, own.revision = session_id, 0, 0
    del own.handled[:]
    del own.due[:]
    return own
