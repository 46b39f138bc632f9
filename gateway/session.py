"""A session as this gateway sees it: its lease, its journal, who is connected.

The gateway stores the latest snapshot and never decides from it: commands go to the
actor, whose session machine is the only authority. Which actor that is, and how the session
gets from one to another, is the affair of `gateway.attending`; what the session shows that
of `gateway.showing`, its camera of `gateway.publishing`.

A session that has had its place stays ready, with or without an actor: while it is placed
anew or parked the picture holds, and commands wait.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from typing import Protocol

import structlog
from google.protobuf import duration_pb2, timestamp_pb2

from gateway.attending import Attending
from gateway.client_connection import ClientConnection
from gateway.connection import Event
from gateway.fanout import OutputFanout
from gateway.journal import Journal
from gateway.links import ActorLink
from gateway.moderation.asking import Moderation
from gateway.pacing import Pacing
from gateway.ports import Clip, Sink
from gateway.publishing import Publishing
from gateway.showing import Showing
from gateway.usage.telling import next_term
from gateway.viewer_stats import ViewerClock
from sana_gateway.v1 import command_pb2, media_pb2, message_pb2, session_pb2
from sana_gateway_internal.v1 import placement_pb2, snapshot_pb2, stream_pb2
from scheduler import wire
from scheduler.core.errors import (
    CommandRefusedError,
    LimitError,
    NotReadyError,
    RequestError,
    SessionClosedError,
)
from scheduler.core.ids import Principal

log = structlog.get_logger(__name__)

FIRST_CONNECTION = 1002
"""Connections are numbered from here; 1001 belongs to the oldest Reactor clients."""
LAST_CONNECTION = 9999


class SessionEvents(Protocol):
    """Whom a session tells what."""

    def connections_changed(self, session: GatewaySession) -> None:
        """A connection came or went."""

    def opened(self, session: GatewaySession) -> None:
        """Its actor takes part."""

    def unplaced(self, session: GatewaySession, *, refused: bool) -> None:
        """It has no actor: it died, or has refused the session."""

    def handed_over(self, session: GatewaySession) -> None:
        """It was handed over to an actor that the scheduler knows."""

    def wanted(self, session: GatewaySession) -> None:
        """Somebody needs it while it is parked."""

    def over(self, session: GatewaySession, reason: str) -> None:
        """The actor says that it has ended."""

    def clip(self, session: GatewaySession, duration_s: float | None) -> Clip:
        """Somebody wants a part of its recording; see `gateway.ports.HubSession`."""


class GatewaySession:
    """One session of this gateway."""

    def __init__(
        self,
        session_id: str,
        model: str,
        principal: Principal,
        events: SessionEvents,
        *,
        max_connections: int,
        pacing: Pacing,
        moderation: Moderation | None = None,
    ) -> None:
        """Begins waiting for a place.

        Args:
            session_id: Its id.
            model: The model that was asked for.
            principal: Who created it.
            events: Who hears of it.
            max_connections: Connections at once.
            pacing: What paces the sessions of this process.
            moderation: Whom its connections ask about prompts; None: nobody.
        """
        self.model = model
        self.moderation = moderation
        """Whom its connections ask about prompts."""
        self.status: session_pb2.SessionStatus.ValueType = session_pb2.SESSION_STATUS_WAITING
        self.created_at = time.time()
        self.last_connected_at = time.monotonic()
        self.lease: placement_pb2.Lease | None = None
        self._keeps_content = False
        self.term = next_term()
        """Number of the part that is taken in it, for who meters it."""
        self.is_parked = False
        """Whether it is on no actor because nobody needs it."""
        self.existed = False
        """Whether it is more than a wish: it has been at an actor, or is a copy."""
        self.is_fork = False
        """Whether it is a copy that was at no actor yet."""
        self._session_id = session_id
        self._principal = principal
        self._events = events
        self._max_connections = max_connections
        self._log = log.bind(session_id=session_id)
        self._queue = (0, 0.0)
        self._close_reason = ""
        self._settled = asyncio.Event()
        self._host = ""
        self._one_copying = asyncio.Lock()
        self._copying: asyncio.Future[stream_pb2.Copied] | None = None
        self._connections: dict[int, ClientConnection] = {}
        self._next_connection = FIRST_CONNECTION
        self._journal = Journal()
        clock, times = asyncio.get_running_loop().time, ViewerClock()
        self._showing = Showing(session_id, self.send, pacing, times, clock)
        self.publishing = Publishing(session_id, times, clock)
        self._attending = Attending(session_id, self, self._showing, self.publishing, clock)

    # -- what is metered ------------------------------------------------------------------------

    @property
    def shown(self) -> snapshot_pb2.UsageTally | None:
        """What was shown of it, as its actor told it last; None: nothing was told."""
        snapshot = self._attending.snapshot
        known = snapshot is not None and snapshot.HasField("usage")
        return snapshot.usage.tally if snapshot is not None and known else None

    @property
    def bytes_out(self) -> int:
        """Bytes of encoded video handed to its viewers here."""
        return self._showing.bytes_out

    @property
    def bytes_in(self) -> int:
        """Bytes of encoded video that its camera sent here."""
        return self.publishing.bytes_in

    # -- what wires see -------------------------------------------------------------------------

    @property
    def session_id(self) -> str:
        """Its id."""
        return self._session_id

    @property
    def principal(self) -> Principal:
        """Who created it."""
        return self._principal

    @property
    def connection_count(self) -> int:
        """Connections to it here."""
        return len(self._connections)

    @property
    def state(self) -> message_pb2.State | None:
        """Its newest snapshot; see `gateway.ports.HubSession`."""
        newest = self._journal.state
        return None if newest is None else newest.state

    def describe(self) -> session_pb2.Session:
        """Returns it as the public contract shows it."""
        session = session_pb2.Session(
            session_id=self._session_id,
            model=self.model,
            status=self.status,
            queue_position=self._queue[0],
            create_time=timestamp_pb2.Timestamp(seconds=int(self.created_at)),
            close_reason=self._close_reason,
        )
        if self._queue[1] > 0:
            wait = duration_pb2.Duration()
            wait.FromMicroseconds(int(self._queue[1] * 1e6))
            session.estimated_wait.CopyFrom(wait)
        if self.lease is not None and self.status == session_pb2.SESSION_STATUS_READY:
            session.capabilities.CopyFrom(self.lease.capabilities)
        return session

    async def wait_ready(self) -> None:
        """Returns once the session is placed.

        Raises:
            SessionClosedError: It ended first.
        """
        await self._settled.wait()
        self._must_live()

    def connect(
        self, sink: Sink, *, resume_after: int | None = None
    ) -> tuple[ClientConnection, bool]:
        """Adds a connection; see `gateway.ports.HubSession`."""
        self._must_live()
        if len(self._connections) >= self._max_connections:
            raise LimitError(f"a session has at most {self._max_connections} connections")
        connection = ClientConnection(self._take_number(), self, sink, resume_after)
        self._connections[connection.connection_id] = connection
        self._connections_changed()
        if self.status == session_pb2.SESSION_STATUS_READY:
            if self._attending.answers:
                connection.told(Event.OPENED)
            self._greet(connection)
            self.wake()
        if self._queue[0]:
            sink.queued(*self._queue)
        return connection, self._journal.lacks(resume_after)

    def keep_journal_content(self) -> None:
        """Has its journal have content; see `gateway.ports.HubSession`."""
        self._keeps_content = True
        if self._attending.answers:
            self._ask_for_content()

    def _ask_for_content(self) -> None:
        wanted = stream_pb2.KeepContent(session_id=self._session_id)
        self.send(stream_pb2.ControlRequest(keep_content=wanted))

    def request_clip(self, duration_s: float | None) -> Clip:
        """Returns a part of its recording; see `gateway.ports.HubSession`."""
        return self._events.clip(self, duration_s)

    # -- what connections ask -------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether commands are answered."""
        return self.status == session_pb2.SESSION_STATUS_READY

    def send(self, request: stream_pb2.ControlRequest, *, urgent: bool = True) -> None:
        """Sends to the actor; see `Attending.send`."""
        self._attending.send(request, urgent=urgent)

    def wake(self) -> None:
        """Somebody needs the session: one that is parked is placed."""
        if self.is_parked:
            self.is_parked = False
            self._events.wanted(self)

    def output(self, codec: media_pb2.Codec.ValueType) -> OutputFanout:
        """Returns the output of a codec."""
        return self._showing.output(codec)

    def disconnect(self, connection: ClientConnection) -> None:
        """Removes a connection."""
        if self._connections.pop(connection.connection_id, None) is None:
            return
        if self.publishing.publisher is connection:
            self.publishing.publish(None)
        self._connections_changed()

    # -- what the hub tells ---------------------------------------------------------------------

    def queued(self, position: int, estimated_wait_s: float) -> None:
        """The session moved in the queue."""
        self._queue = (position, estimated_wait_s)
        for connection in list(self._connections.values()):
            connection.sink.queued(position, estimated_wait_s)

    @property
    def epoch(self) -> int:
        """Epoch of its newest lease; 0 before the first."""
        return self._attending.epoch

    @property
    def has_actor(self) -> bool:
        """Whether it is at an actor, or was asked to be."""
        return self._attending.present

    @property
    def near_host(self) -> str:
        """Host that keeps its state, as last heard; empty: none, or not known."""
        snapshot = self._attending.snapshot
        return self._host or ("" if snapshot is None else snapshot.host)

    def join(self, lease: placement_pb2.Lease, link: ActorLink) -> None:
        """The session was placed; takes part in it at its actor, unless it has ended.

        Raises:
            LinkDeadError: The actor is gone.
        """
        if self.status != session_pb2.SESSION_STATUS_CLOSED:
            self._leased(lease)
            self._attending.join(lease, link)

    def move(self, lease: placement_pb2.Lease, link: ActorLink) -> None:
        """The session is to move to another actor.

        Raises:
            LinkDeadError: There is no other, and that one is gone.
        """
        if self.status != session_pb2.SESSION_STATUS_CLOSED and lease.epoch > self.epoch:
            self._leased(lease)
            self._attending.move(lease, link)

    def parked(self, epoch: int, host: str, *, restoring: bool = False) -> None:
        """The session is on no actor any more. The picture holds.

        Args:
            epoch: Of the lease that ended.
            host: Host that keeps the state in its memory.
            restoring: Whether that was not meant: it is to go on at once.
        """
        if self.status != session_pb2.SESSION_STATUS_READY or epoch < self.epoch:
            return
        if not self.has_actor and self.epoch == 0 and not self.is_parked:
            return  # it is being placed already
        self._host = host
        self._attending.abandon()
        self.waits()
        self.is_parked = True
        if restoring or any(connection.is_unanswered for connection in self._connections.values()):
            self.wake()  # it crossed a command

    def begin_from(self, snapshot: snapshot_pb2.ControlSnapshot) -> None:
        """Says what a copy of another session is."""
        self._attending.snapshot = snapshot
        self.existed = self.is_fork = True

    async def copy(self, copies: list[str]) -> stream_pb2.Copied:
        """Has the actor copy the session; one copying at a time, whoever waits for it.

        Args:
            copies: Ids of the copies.

        Raises:
            SessionClosedError: It has ended.
            NotReadyError: No actor answers just now.
            CommandRefusedError: The session cannot be copied.
        """
        async with self._one_copying:
            copied = await self._copied_by_actor(copies)
        if not copied.HasField("snapshot") or list(copied.copies) != copies:
            raise CommandRefusedError(copied.failure or "it cannot be copied", command="fork")
        return copied

    async def _copied_by_actor(self, copies: list[str]) -> stream_pb2.Copied:
        self._must_live()
        if not self._attending.answers:
            self.wake()
            raise NotReadyError("the session is being placed; try again", retry_after_s=1.0)
        self._copying = asyncio.get_running_loop().create_future()
        wanted = stream_pb2.Copy(session_id=self._session_id, copies=copies)
        self.send(stream_pb2.ControlRequest(copy=wanted))
        try:
            return await self._copying
        finally:
            self._copying = None

    def close(self, reason: str) -> None:
        """The session has ended."""
        if self.status == session_pb2.SESSION_STATUS_CLOSED:
            return
        self.status = session_pb2.SESSION_STATUS_CLOSED
        self.is_parked = False
        self._close_reason = reason
        self._queue = (0, 0.0)
        self._settled.set()
        self._attending.leave()
        self._attending.snapshot = None
        self._copied_no_more()
        for connection in list(self._connections.values()):
            connection.sink.ended(reason)
            connection.close()
        # An ended session is still answered for, but keeps nothing of its content.
        self._journal.clear()
        self._showing.close()
        self._log.info("session.closed", reason=reason)

    # -- what the actors tell -------------------------------------------------------------------

    @property
    def revision(self) -> int:
        """Revision of the last message that clients have seen."""
        return self._journal.revision

    @property
    def is_running(self) -> bool:
        """Whether windows are being made, as last heard."""
        state = self._journal.state
        return state is not None and state.state.running

    def opened(self, response: stream_pb2.ControlResponse) -> None:
        """The actor takes part."""
        first = self.status == session_pb2.SESSION_STATUS_WAITING
        self.status = session_pb2.SESSION_STATUS_READY
        self.existed = True
        self.is_parked = self.is_fork = False
        self._queue = (0, 0.0)
        known = self._journal.revision
        missed = [message for message in response.opened.journal if message.revision > known]
        for message in missed:
            self._remember(message)
        self._settled.set()
        if self._keeps_content:
            self._ask_for_content()
        for connection in list(self._connections.values()):
            connection.told(Event.OPENED)
            if first:
                self._greet(connection)
            else:
                for message in missed:
                    connection.sink.message(message)
            connection.resend()
        self._events.opened(self)

    def said(self, response: stream_pb2.ControlResponse) -> None:
        """The actor has said something to the connections, or has copied the session."""
        handler = self._HANDLERS.get(response.WhichOneof("response") or "")
        if handler is not None:
            handler(self, response)

    def waits(self) -> None:
        """For a while no actor answers."""
        self._copied_no_more()
        for connection in self._connections.values():
            connection.told(Event.LOST)

    def unplaced(self, *, refused: bool) -> None:
        """No actor is left."""
        self.waits()
        self._events.unplaced(self, refused=refused)

    def handed_over(self) -> None:
        """The session was handed over, and this gateway does not know where to."""
        self._events.handed_over(self)

    def over(self, reason: str) -> None:
        """The actor says that the session has ended."""
        self.waits()
        self._events.over(self, reason)

    def _message(self, response: stream_pb2.ControlResponse) -> None:
        told = response.message
        message = told.message
        if message.WhichOneof("payload") == "command_error" and told.connection_id:
            asker = self._connections.get(told.connection_id)
            if asker is not None:
                asker.sink.message(message)
            return
        anonymous = message
        if message.command_id:
            anonymous = message_pb2.Message()
            anonymous.CopyFrom(message)
            anonymous.command_id = ""
        self._remember(anonymous)
        if message.HasField("state") and not message.state.running:
            self._showing.hold()
        for number, connection in list(self._connections.items()):
            connection.sink.message(message if number == told.connection_id else anonymous)

    def _ack(self, response: stream_pb2.ControlResponse) -> None:
        connection = self._connections.get(response.ack.connection_id)
        if connection is not None:
            connection.acked(response.ack.command_id, response.ack.accepted)

    def _copied(self, response: stream_pb2.ControlResponse) -> None:
        if self._copying is not None and not self._copying.done():
            self._copying.set_result(response.copied)

    def _copied_no_more(self) -> None:
        """Whoever waits for copies waits in vain: the actor is gone, or the session over."""
        if self._copying is not None and not self._copying.done():
            error: RequestError = NotReadyError(
                "the session is being placed; try again", retry_after_s=1.0
            )
            if self.status == session_pb2.SESSION_STATUS_CLOSED:
                error = self._ended()
            self._copying.set_exception(error)

    _HANDLERS: dict[str, Callable[[GatewaySession, stream_pb2.ControlResponse], None]] = {  # noqa: RUF012
        "message": _message,
        "ack": _ack,
        "copied": _copied,
    }

    # -- the rest -------------------------------------------------------------------------------

    def _must_live(self) -> None:
        if self.status == session_pb2.SESSION_STATUS_CLOSED:
            raise self._ended()

    def _ended(self) -> SessionClosedError:
        return SessionClosedError(f"the session has ended: {self._close_reason}")

    def _greet(self, connection: ClientConnection) -> None:
        connection.sink.ready()
        resume_after, journal = connection.resume_after, self._journal
        if resume_after is not None and not journal.lacks(resume_after):
            for message in journal.after(resume_after):
                replay = message_pb2.Message()
                replay.CopyFrom(message)
                replay.replayed = True
                connection.sink.message(replay)
        elif journal.state is not None:
            connection.sink.message(journal.state)

    def _leased(self, lease: placement_pb2.Lease) -> None:
        self.lease = lease
        self.model = lease.model or self.model
        own = self._principal
        if lease.HasField("principal"):
            told = wire.principal_in(lease.principal)
            if not own.holders and own.ends_at is None:
                # Another gateway made it: what was granted with it stands in the lease.
                self._principal = told
            elif told.ends_at is not None and (own.ends_at is None or told.ends_at < own.ends_at):
                # What its tenant is entitled to is known to the scheduler alone.
                self._principal = dataclasses.replace(own, ends_at=told.ends_at)
        self._host = ""
        self.is_parked = False

    def _remember(self, message: message_pb2.Message) -> None:
        self._journal.add(message)
        if message.HasField("state"):
            self.publishing.is_live = message.state.mode != command_pb2.MODE_FILE

    def _take_number(self) -> int:
        for _ in range(LAST_CONNECTION - FIRST_CONNECTION + 1):
            number = self._next_connection
            self._next_connection = number + 1 if number < LAST_CONNECTION else FIRST_CONNECTION
            if number not in self._connections:
                return number
        raise LimitError("no connection number is free")

    def _connections_changed(self) -> None:
        self.last_connected_at = time.monotonic()
        self._events.connections_changed(self)
