"""The sessions of this gateway: created, found again, copied, ended."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Any

import structlog

from gateway.auth import ANY_MODEL, Access
from gateway.links import ActorLinks
from gateway.moderation.asking import Moderation
from gateway.once import Once
from gateway.pacing import Pacing
from gateway.placement import PlacementClient, SchedulerAwayError
from gateway.ports import Clip
from gateway.recording.errors import ClipFailedError
from gateway.recording.recordings import Recordings
from gateway.seeking import Seeking
from gateway.session import GatewaySession
from gateway.usage.telling import UsageTelling
from sana_gateway.v1 import command_pb2, pool_pb2, session_pb2
from sana_gateway_internal.v1 import placement_pb2, snapshot_pb2, stream_pb2
from scheduler import wire
from scheduler.core.errors import (
    BadArgumentError,
    NoCapacityError,
    NotReadyError,
    RequestError,
    SessionClosedError,
    UnknownModelError,
    UnknownSessionError,
)
from scheduler.core.ids import Grant, Principal

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
LATE_S = 30.0
"""How long an actor that did not copy in time is waited for, to have its copies removed."""
MOST_COPIES = 16
"""Copies of one fork."""
MOST_RELEASES = 32
"""Sessions over their time that the scheduler is told of at once."""
MOST_NAME = 128
"""Characters of a model's name and of a session's id."""
RETRY_S = 0.25
NO_COPY = "not all copies could be made"
UNKNOWN = "there is no such session"
"""What the scheduler says, too: nobody can tell another tenant's session from none at all."""
OVERTIME = "the session has reached the longest time that its key or token allows"
KEPT_STATES = (pool_pb2.LEASE_STATE_PARKED, pool_pb2.LEASE_STATE_LOST)
"""Sessions on no actor that any gateway may ask a place for."""
RequestKey = tuple[str, ...]
"""What is asked for, of whom, by which token if it is narrowed to its own sessions, and, last,
the request id."""


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
        recordings: Recordings | None = None,
        uploaded: Callable[[str], int] = lambda _: 0,
        moderation: Moderation | None = None,
    ) -> None:
        """Prepares; `run` keeps it going.

        Args:
            placement: The scheduler.
            links: The actors.
            max_connections: Connections of one session at once.
            on_ended: Called with the id of every session that has ended.
            on_copied: Called with a session, its uploads that copies need, and the copies.
            new_session_id: Draws an unguessable id that belongs to this process.
            recordings: Records all sessions; None: nothing is recorded.
            uploaded: Returns how many bytes were uploaded to a session here.
            moderation: Whom connections ask about prompts; None: nobody.
        """
        self._moderation = moderation
        self._recordings = recordings
        self._on_ended = on_ended
        self._on_copied = on_copied
        self._new_session_id = new_session_id
        self._placement = placement
        self._seeking = Seeking(placement, links, self._forget)
        self._access = Access(lambda: placement.pool)
        self.max_connections = max_connections
        """Connections of one session at once; a change holds for sessions to come."""
        self._pacing = Pacing()
        self._sessions: dict[str, GatewaySession] = {}
        self._usage = placement.usage = UsageTelling(self._sessions.values, uploaded)
        self._ended: OrderedDict[str, GatewaySession] = OrderedDict()
        self._requests = Once[RequestKey, list[str]](REQUEST_IDS_KEPT)
        """The sessions that were made under request ids."""
        self._adoptions = Once[tuple[str, str], GatewaySession]()
        """Sessions of other gateways on their way here, by tenant and id."""
        self._discarding: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def run(self) -> None:
        """Reports presence, learns what is served, gives up stale tickets; until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._placement.run_presence(self._counts, self))
            group.create_task(self._placement.run_poll())
            group.create_task(self._sweep(group))

    async def stop(self, reason: str) -> None:
        """Tells all connections; the sessions themselves live on for their window."""
        self._stopping = True
        for session in list(self._sessions.values()):
            self._usage.ended(session)
            session.close(reason)
        self._sessions.clear()
        await self._requests.stop()
        await self._adoptions.stop()
        await self._seeking.stop()
        while self._discarding:
            await asyncio.gather(*self._discarding, return_exceptions=True)

    async def tell_usage(self) -> None:
        """Has the scheduler told what was used, before this process ends."""
        await self._usage.sent(self._placement.report_now)

    def served_models(self) -> Sequence[str]:
        """Names that clients may ask for."""
        return self._placement.served

    def capabilities(self, model: str) -> session_pb2.Capabilities | None:
        """Returns what a model can do; see `gateway.ports.Hub`."""
        pool = self._placement.pool
        actors = () if pool is None else pool.actors
        return next((each.capabilities for each in actors if model in each.names), None)

    @property
    def sessions(self) -> Collection[GatewaySession]:
        """Sessions that this process takes part in."""
        return self._sessions.values()

    @property
    def session_count(self) -> int:
        """Sessions that this process takes part in."""
        return len(self._sessions)

    async def create(
        self, principal: Principal, model: str, request_id: str = ""
    ) -> GatewaySession:
        """Creates a session; see `gateway.ports.Hub`."""
        self._refuse_stopping()
        if len(model) > MOST_NAME:
            # Nothing has such a name; asking for it would fill the stream to the scheduler.
            raise UnknownModelError(tuple(self.served_models()))
        self._access.may_create(principal, model)
        key = ("create", principal.tenant, principal.grant.own, model, request_id)
        owner = _owner(principal)
        (session,) = await self._once(key, principal, lambda: self._create(owner, model))
        return session

    async def find(self, principal: Principal, session_id: str) -> GatewaySession:
        """Returns a session; see `gateway.ports.Hub`."""
        if len(session_id) > MOST_NAME:
            raise UnknownSessionError("no such session")
        session, key = self._known(session_id), (principal.tenant, session_id)
        lease = None
        if session is None and key not in self._adoptions:
            lease = await self._lease_for(principal, session_id)
        if session is None or key in self._adoptions:
            adopt = partial(self._adopt, principal, session_id, lease)
            session = await self._adoptions.do(key, adopt)
        if session.principal.tenant != principal.tenant:
            raise UnknownSessionError(UNKNOWN)
        self._access.may_use(principal, session_id, session.principal, session.model)
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
        self._access.may_create(principal, session.model)
        key = ("fork", session_id, principal.grant.own, request_id)
        owner = _owner(principal, session.principal.ends_at)
        made = await self._once(key, principal, lambda: self._fork(session, owner, copies))
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
        if self._recordings is not None:
            self._recordings.opened(session)

    def clip(self, session: GatewaySession, duration_s: float | None) -> Clip:
        """Somebody wants a part of its recording."""
        if self._recordings is None:
            # By exactly this text the clients know why.
            raise ClipFailedError("recorder disabled")
        return self._recordings.clip(session.session_id, duration_s)

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

    async def _once(
        self,
        key: RequestKey,
        principal: Principal,
        make: Callable[[], Coroutine[Any, Any, list[GatewaySession]]],
    ) -> list[GatewaySession]:
        """Makes sessions; a repeat under one request id returns the same ones.

        Raises:
            ForbiddenError: Somebody else made them, and the caller may not use them.
        """
        if not key[-1]:
            return await make()

        async def ids() -> list[str]:
            return [each.session_id for each in await make()]

        while True:
            known = [self._known(each) for each in await self._requests.do(key, ids)]
            made = [each for each in known if each is not None]
            if len(made) == len(known):
                for each in made:
                    self._access.may_use(principal, each.session_id, each.principal, each.model)
                return made
            # They ended so long ago that nothing is known of them.
            self._requests.forget(key)

    async def _create(self, principal: Principal, model: str) -> list[GatewaySession]:
        session = self._make(self._new_session_id(), model, principal)
        await self._placing(session)
        log.info("session.created", session_id=session.session_id, tenant=principal.tenant)
        return [session]

    def _make(self, session_id: str, model: str, principal: Principal) -> GatewaySession:
        session = self._sessions[session_id] = GatewaySession(
            session_id,
            model,
            principal,
            self,
            max_connections=self.max_connections,
            pacing=self._pacing,
            moderation=self._moderation,
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
        except RequestError as error:
            self._sessions.pop(session.session_id, None)
            session.close(str(error))
            raise

    async def _lease_for(self, principal: Principal, session_id: str) -> placement_pb2.Lease | None:
        """Returns the lease of a session that the caller may use, as far as that is known of it;
        None for one that is kept on no actor.

        Raises:
            UnknownSessionError: There is none of its tenant.
            ForbiddenError: The caller may not use it: nothing is done for it.
            NotReadyError: It waits at another gateway.
        """
        try:
            lease = await self._lease(principal.tenant, session_id)
        except NotReadyError:
            if not await self._is_kept(principal, session_id):
                raise
            self._access.may_wake(principal, session_id)
            return None
        if lease.principal.tenant != principal.tenant:
            raise UnknownSessionError(UNKNOWN)
        self._access.may_use(principal, session_id, wire.principal_in(lease.principal), lease.model)
        return lease

    async def _adopt(
        self, principal: Principal, session_id: str, lease: placement_pb2.Lease | None
    ) -> GatewaySession:
        """Takes part in a session that another gateway made.

        Waits a moment for its journal: who reconnects is told from it what was missed, and would
        else be told of a gap.
        """
        session = self._sessions.get(session_id)
        if session is None and lease is not None:
            session = self._take_over(session_id, lease)
        elif session is None:
            session = await self._wake(principal, session_id)
        with contextlib.suppress(TimeoutError, SessionClosedError):
            async with asyncio.timeout(JOIN_S):
                await session.wait_ready()
        return session

    def _take_over(self, session_id: str, lease: placement_pb2.Lease) -> GatewaySession:
        session = self._make(session_id, lease.model, wire.principal_in(lease.principal))
        session.existed = True
        self._seeking.move(session, lease)
        return session

    async def _wake(self, principal: Principal, session_id: str) -> GatewaySession:
        """Takes part in a session that is on no actor: somebody needs it now."""
        # Its lease says what was granted with it.
        owner = Principal(principal.tenant, principal.scopes)
        session = self._make(session_id, ANY_MODEL, owner)
        session.existed = True
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

    async def _lease(self, tenant: str, session_id: str) -> placement_pb2.Lease:
        """Asks for a lease; a scheduler that has just restarted is given a moment."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            try:
                return await self._placement.find(session_id, tenant)
            except SchedulerAwayError:
                if time.monotonic() > deadline:
                    raise UnknownSessionError(UNKNOWN) from None
            await asyncio.sleep(RETRY_S)

    # -- copies -----------------------------------------------------------------------------

    async def _fork(
        self, session: GatewaySession, owner: Principal, copies: int
    ) -> list[GatewaySession]:
        """Copies a session; all copies are made, or nothing stays of any."""
        ids = [self._new_session_id() for _ in range(copies)]
        copying = asyncio.create_task(session.copy(ids))
        try:
            made = await self._copies(session, owner, ids, copying)
        except BaseException:
            for each in ids:
                if (copy := self._sessions.get(each)) is not None:
                    self._forget(copy, NO_COPY)
                else:
                    self._on_ended(each)
            task = asyncio.create_task(self._discard(ids, copying))
            self._discarding.add(task)
            task.add_done_callback(self._discarding.discard)
            raise
        log.info("session.forked", session_id=session.session_id, copies=len(made))
        return made

    async def _copies(
        self,
        session: GatewaySession,
        owner: Principal,
        ids: list[str],
        copying: asyncio.Task[stream_pb2.Copied],
    ) -> list[GatewaySession]:
        try:
            async with asyncio.timeout(COPY_S):
                snapshot = (await asyncio.shield(copying)).snapshot
        except TimeoutError:
            text = "the session was not copied in time; try again"
            raise NotReadyError(text, retry_after_s=1.0) from None
        clips = {each.upload_id: each for each in (snapshot.clip.video, snapshot.probe)}
        clips.pop("", None)
        await self._on_copied(session.session_id, list(clips.values()), ids)
        made = [self._make(each, session.model, owner) for each in ids]
        for copy in made:
            copy.begin_from(_as_of(snapshot, copy.session_id))
        answers = await asyncio.gather(
            *(self._placing(copy) for copy in made), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return made

    async def _discard(self, ids: list[str], copying: asyncio.Task[stream_pb2.Copied]) -> None:
        """Has removed what is kept for copies that are not to be, once it cannot come any more."""
        await asyncio.wait([copying], timeout=LATE_S)
        copying.cancel()
        await asyncio.gather(*(self._placement.release(each, NO_COPY) for each in ids))

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
        self._usage.ended(session)
        session.close(reason)
        if self._recordings is not None:
            self._recordings.ended(session.session_id)
        self._on_ended(session.session_id)

    async def _sweep(self, tasks: asyncio.TaskGroup) -> None:
        releases = asyncio.Semaphore(MOST_RELEASES)
        while True:
            await asyncio.sleep(SWEEP_S)
            now = time.monotonic()
            for session in list(self._sessions.values()):
                ends_at = session.principal.ends_at
                if ends_at is not None and now >= ends_at:
                    # All of them in time: the scheduler may take seconds to hear of one.
                    self._forget(session, OVERTIME)
                    tasks.create_task(self._release(session, OVERTIME, releases))
                    continue
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

    async def _release(
        self, session: GatewaySession, reason: str, turns: asyncio.Semaphore
    ) -> None:
        async with turns:
            await self._placement.release(session.session_id, reason)

    def _known(self, session_id: str) -> GatewaySession | None:
        return self._sessions.get(session_id) or self._ended.get(session_id)

    def _counts(self) -> dict[str, int]:
        return {
            session_id: session.connection_count for session_id, session in self._sessions.items()
        }


def _owner(principal: Principal, latest: float | None = None) -> Principal:
    """Returns who a session belongs to that a caller creates now.

    Args:
        principal: The caller.
        latest: When the session ends that it is a copy of; copying it does not prolong it.
    """
    most = principal.grant.max_session_s
    ends = [] if most is None else [time.monotonic() + most]
    ends += [] if latest is None else [latest]
    return dataclasses.replace(principal, grant=Grant(), ends_at=min(ends, default=None))


def _as_of(snapshot: snapshot_pb2.ControlSnapshot, session_id: str) -> snapshot_pb2.ControlSnapshot:
    """Returns what a copy begins from: nobody has heard anything of it yet."""
    own = snapshot_pb2.ControlSnapshot()
    own.CopyFrom(snapshot)
    own.session_id, own.epoch, own.revision = session_id, 0, 0
    del own.handled[:]
    del own.due[:]
    own.ClearField("usage")
    own.ClearField("journal")
    return own
