"""The part that a gateway takes in a session at its actor, or at two while it moves.

What the session is (`ControlSnapshot`) is kept here as the actor tells it, unread: whoever
goes on with the session is given it. `gateway.moving` decides, this module carries out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from gateway.links import ActorLink, LinkDeadError
from gateway.moving import Act, Event, Move, Stage
from gateway.playout import MAX_CHUNKS
from gateway.publishing import Publishing
from gateway.showing import Showing
from sana_gateway.v1 import command_pb2, message_pb2
from sana_gateway_internal.v1 import placement_pb2, snapshot_pb2, stream_pb2

log = structlog.get_logger(__name__)

Control = stream_pb2.ControlResponse
Handler = Callable[["Attending", "Seat", Control], None]


class Attendee(Protocol):
    """The session, as far as its actors go."""

    @property
    def revision(self) -> int:
        """Revision of the last message that clients have seen."""

    @property
    def is_running(self) -> bool:
        """Whether windows are being made, as last heard."""

    def opened(self, response: Control) -> None:
        """The actor takes part: commands are answered from here on."""

    def said(self, response: Control) -> None:
        """The actor has said something to the session's connections."""

    def unplaced(self, *, refused: bool) -> None:
        """No actor is left: the session has to be placed anew."""

    def waits(self) -> None:
        """For a while no actor answers."""

    def handed_over(self) -> None:
        """The session was handed over, and this gateway does not know where to."""

    def over(self, reason: str) -> None:
        """The actor says that the session has ended."""


class Seat:
    """The part taken at one actor under one lease."""

    def __init__(
        self, session_id: str, lease: placement_pb2.Lease, link: ActorLink, attending: Attending
    ) -> None:
        """Takes no part yet; see `open`."""
        self.lease = lease
        self.opened = False
        """Whether the actor has taken the gateway in."""
        self.offered = False
        """Whether all that there is to go on from was offered."""
        self.packet: Callable[[stream_pb2.VideoPacket], None] = attending.packet
        """Takes a frame of an output."""
        self._session_id = session_id
        self._link = link
        self._attending = attending
        self._fed = False

    def open(self, restore: stream_pb2.Restore | None = None, *, standby: bool = False) -> None:
        """Takes part.

        Raises:
            LinkDeadError: The actor is gone.
        """
        self.opened = False
        self._link.join(self._session_id, self, self.lease.token, restore, standby=standby)

    def leave(self) -> None:
        """Takes part no longer."""
        self._link.leave(self._session_id, self)

    def send(self, request: stream_pb2.ControlRequest, *, urgent: bool = True) -> None:
        """Sends on the control stream."""
        self._link.send(request, urgent=urgent)

    def camera(self, packet: stream_pb2.CameraPacket) -> bool:
        """Sends a camera frame; False when there was no room for it."""
        sent = self._link.camera(packet)
        if sent and not self._fed:
            self._fed = True
            self._attending.fed(self)
        return sent

    def control(self, response: Control) -> None:
        """Something happened at the actor."""
        self._attending.control(self, response)

    def link_lost(self) -> None:
        """The actor's streams ended."""
        self._attending.lost(self)


class Attending:
    """The seats of a session of this gateway, and what it is to go on from."""

    def __init__(
        self,
        session_id: str,
        session: Attendee,
        showing: Showing,
        publishing: Publishing,
        clock: Callable[[], float],
    ) -> None:
        """Begins without an actor.

        Args:
            session_id: Which session.
            session: Hears what is for its connections.
            showing: Its media on their way out.
            publishing: Its camera.
            clock: The time of the event loop.
        """
        self.snapshot: snapshot_pb2.ControlSnapshot | None = None
        """What the session was when its actor told it last."""
        self.packet = showing.packet
        self._blank = False
        """Whether that is no more than a word for nothing being known."""
        self._session_id = session_id
        self._session = session
        self._showing = showing
        self._publishing = publishing
        self._clock = clock
        self._log = log.bind(session_id=session_id)
        self._move = Move()
        self._timer: asyncio.TimerHandle | None = None
        self._seat: Seat | None = None
        """At the actor that does all, or goes on."""
        self._next: Seat | None = None
        """At the actor that is to go on."""
        self._old: Seat | None = None
        """At the actor that shows the rest."""
        self._commits: deque[stream_pb2.ControlRequest] = deque(maxlen=MAX_CHUNKS)
        """Chunks shown while the actor that goes on did not take part yet."""

    @property
    def epoch(self) -> int:
        """Epoch of the newest lease; 0 without one."""
        seats = (self._seat, self._next, self._old)
        return max((each.lease.epoch for each in seats if each is not None), default=0)

    @property
    def present(self) -> bool:
        """Whether there is an actor to send to."""
        return self._seat is not None

    @property
    def answers(self) -> bool:
        """Whether there is an actor that takes part."""
        return self._seat is not None and self._seat.opened

    # -- what the session asks ------------------------------------------------------------------

    def send(self, request: stream_pb2.ControlRequest, *, urgent: bool = True) -> None:
        """Sends to the actor. Lost without one, but for what it has to hear in the end:
        commands are kept by their connections, demands are repeated, commits wait here.
        """
        seat, old = self._seat, self._old
        if seat is not None and seat.opened:
            seat.send(request, urgent=urgent)
        elif request.HasField("commit"):
            self._commits.append(request)
        if old is not None and request.WhichOneof("request") in _SHOWS:
            old.send(request, urgent=urgent)

    def join(self, lease: placement_pb2.Lease, link: ActorLink) -> None:
        """Takes part at the actor where the session was placed.

        Raises:
            LinkDeadError: It is gone.
        """
        if self._old is not None and self._seat is None:
            # It was handed over before this gateway knew where to.
            self._next = Seat(self._session_id, lease, link, self)
            self._tell(Event.TOLD)
            return
        self.leave()
        self._take(Seat(self._session_id, lease, link, self))

    def move(self, lease: placement_pb2.Lease, link: ActorLink) -> None:
        """The session is to move to another actor.

        Raises:
            LinkDeadError: There is none to move from, and that one is gone.
        """
        if self._old is not None and self._seat is not None:
            self._tell(Event.SHOWN)  # the move before was all but over
        if self._seat is None:
            self.join(lease, link)
            return
        if self._next is not None:
            self._next.leave()
        self._next = Seat(self._session_id, lease, link, self)
        self._tell(Event.TOLD)

    def abandon(self) -> None:
        """Takes part nowhere any more: the scheduler says that the actor has not the session."""
        self._rewind()
        self.leave()

    def leave(self) -> None:
        """Takes part nowhere any more: the session ended or is placed anew."""
        seats = (self._seat, self._next, self._old)
        self._seat = self._next = self._old = None
        self._move = Move()
        self._commits.clear()
        self._arm()
        self._publishing.linked()
        self._showing.lost()
        for seat in seats:
            if seat is not None:
                seat.leave()

    # -- what the seats tell --------------------------------------------------------------------

    def control(self, seat: Seat, response: Control) -> None:
        """An actor has said something."""
        kind = response.WhichOneof("response") or ""
        if seat is self._seat:
            handler = self._HANDLERS.get(kind)
            if handler is not None:
                handler(self, seat, response)
            else:
                self._session.said(response)
        elif seat is self._next and kind in self._STANDBY:
            self._STANDBY[kind](self, seat, response)
        elif seat is self._old and kind == "copied":
            self._session.said(response)  # it was asked before it handed the session over

    def lost(self, seat: Seat) -> None:
        """The streams of an actor ended."""
        if seat is self._seat:
            self._gone()
        elif seat is self._next:
            self._tell(Event.NEW_LOST)
        elif seat is self._old:
            self._old = None
            self._tell(Event.OLD_LOST)
            if self._seat is None:
                self._showing.lost()  # what it had to show is made again
            else:
                self._showing.left_alone()

    def fed(self, seat: Seat) -> None:
        """An actor was sent the camera's first keyframe."""
        if seat is self._next:
            self._move.fed(self._clock())
            self._arm()

    def _opened(self, seat: Seat, response: Control) -> None:
        if response.opened.standby:
            return  # it crossed the request to go on
        seat.opened = True
        self._publishing.opened(seat)
        if self._old is None:
            self._showing.opened()
        else:
            self._showing.opened_beside(seat.send)
        while self._commits:
            seat.send(self._commits.popleft())
        self._session.opened(response)

    def _refused(self, seat: Seat, response: Control) -> None:
        if response.refused.needs_snapshot and not seat.offered:
            # Nothing is kept anywhere: it begins anew, above what clients have seen.
            seat.offered = True
            self.snapshot, self._blank = self._nothing(seat.lease.epoch - 1), True
            seat.open(self._restore(handed_over=False))
            return
        self._log.warning("session.refused", reason=response.refused.reason)
        self._gone(refused=True)

    def _snapshot_taken(self, _: Seat, response: Control) -> None:
        self._keep(response.snapshot.snapshot)

    def _handed_over(self, _: Seat, response: Control) -> None:
        told = response.handed_over
        if told.HasField("snapshot"):
            self._keep(told.snapshot)
            self._tell(Event.HANDED_OVER)
        else:
            self._tell(Event.KEPT)

    def _closed(self, _: Seat, response: Control) -> None:
        if self._move.stage is not Stage.STAYING:
            self._gone()
            return
        self.leave()
        self._session.over(response.closed.reason)

    def _standby_opened(self, seat: Seat, _: Control) -> None:
        self._publishing.opened(seat)
        self._move.answered(self._clock())
        self._arm()

    def _standby_gone(self, _: Seat, __: Control) -> None:
        self._tell(Event.NEW_LOST)

    def _camera_keyframe(self, _: Seat, __: Control) -> None:
        self._publishing.ask_keyframe()

    def _chunk(self, _: Seat, response: Control) -> None:
        self._showing.chunk(response.chunk)
        if self._next is not None:
            self._carry_out(self._move.announced(self._clock()))

    def _abandoned(self, _: Seat, response: Control) -> None:
        self._showing.abandon(response.abandoned.next_run)

    _HANDLERS: Final[dict[str, Handler]] = {
        "opened": _opened,
        "refused": _refused,
        "snapshot": _snapshot_taken,
        "handed_over": _handed_over,
        "closed": _closed,
        "camera_keyframe": _camera_keyframe,
        "chunk": _chunk,
        "abandoned": _abandoned,
    }
    """What the actor that does all may say, but for what is the connections'."""
    _STANDBY: Final[dict[str, Handler]] = {
        "opened": _standby_opened,
        "refused": _standby_gone,
        "closed": _standby_gone,
        "camera_keyframe": _camera_keyframe,
    }
    """What the actor may say that is to go on."""

    # -- what is to be done ---------------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        self._carry_out(self._move.tell(event, self._clock()))

    def _gone(self, *, refused: bool = False) -> None:
        """The actor that did all, or went on, does no more."""
        overlapping = self._move.stage is Stage.OVERLAPPING
        acts = self._move.tell(Event.NEW_LOST if overlapping else Event.OLD_LOST, self._clock())
        if Act.RESTORE in acts:
            self.abandon()
            self._session.unplaced(refused=refused)
        else:
            self._carry_out(acts)

    def _carry_out(self, acts: tuple[Act, ...]) -> None:
        for act in acts:
            self._ACTS[act](self)
        self._arm()

    def _stand_by(self) -> None:
        new = self._next
        assert new is not None  # noqa: S101 - told of just now
        try:
            # It cannot begin yet, but can see to what it will need.
            new.open(self._restore(handed_over=False) if self.snapshot else None, standby=True)
        except LinkDeadError:
            self._tell(Event.NEW_LOST)
            return
        self._publishing.linked(*(each for each in (self._seat, new) if each))
        running = self._session.is_running
        live = self._publishing.is_live and running
        self._move.prepare(self._clock(), live=live, running=running)

    def _hand_over(self) -> None:
        if self._seat is not None and self._next is not None:
            old, new = self._seat.lease, self._next.lease
            wanted = stream_pb2.HandOver(
                session_id=self._session_id,
                epoch=new.epoch,
                store=_host_of(old.address) != _host_of(new.address),
            )
            self._seat.send(stream_pb2.ControlRequest(hand_over=wanted))

    def _go_on(self) -> None:
        new, self._next = self._next, None
        assert new is not None  # noqa: S101 - the table sees to it
        self._old, self._seat = self._old or self._seat, new
        self._publishing.linked(new)
        self._showing.handed_over(new.lease.epoch, self._last_shown)
        try:
            new.open(self._restore(handed_over=True))
        except LinkDeadError:
            self._gone()

    def _take_over(self) -> None:
        new, self._next = self._next, None
        self.abandon()
        assert new is not None  # noqa: S101 - the table sees to it
        self._session.waits()
        try:
            self._take(new)
        except LinkDeadError:
            self._session.unplaced(refused=False)

    def _seek(self) -> None:
        self._old, self._seat = self._seat, None
        self._session.handed_over()

    def _leave_old(self) -> None:
        self._showing.follow()
        old, self._old = self._old, None
        if old is not None:
            old.leave()

    def _leave_new(self) -> None:
        new, self._next = self._next, None
        if new is not None:
            new.leave()
        self._publishing.linked(*(each for each in (self._seat,) if each))

    _ACTS: Final[dict[Act, Callable[[Attending], None]]] = {
        Act.STAND_BY: _stand_by,
        Act.HAND_OVER: _hand_over,
        Act.GO_ON: _go_on,
        Act.TAKE_OVER: _take_over,
        Act.SEEK: _seek,
        Act.LEAVE_OLD: _leave_old,
        Act.LEAVE_NEW: _leave_new,
    }

    def _take(self, seat: Seat) -> None:
        """Takes part at the only actor."""
        self._seat = seat
        self._showing.joined(seat.lease.epoch)
        self._publishing.linked(seat)
        seat.offered = self.snapshot is not None
        try:
            seat.open(self._restore(handed_over=False) if seat.offered else None)
        except LinkDeadError:
            self.leave()
            raise

    def _restore(self, *, handed_over: bool) -> stream_pb2.Restore:
        run, next_frame = self._showing.position
        return stream_pb2.Restore(
            snapshot=self.snapshot,
            run=run,
            next_frame=next_frame,
            revision=self._session.revision,
            handed_over=handed_over,
            blank=self._blank,
            # While it plays, the old actor's pictures are not over yet.
            held=None if handed_over and self._session.is_running else self._showing.held,
        )

    def _rewind(self) -> None:
        """Has made again what the actor that died had still to send."""
        if self.snapshot is not None and self.snapshot.run.unshown:
            run = self.snapshot.run
            self._showing.rewind(run.number, run.unshown[0].first_frame)

    def _nothing(self, epoch: int) -> snapshot_pb2.ControlSnapshot:
        """Returns what a session is of which nothing is known but that it was there."""
        run, _ = self._showing.position
        return snapshot_pb2.ControlSnapshot(
            session_id=self._session_id,
            epoch=epoch,
            revision=self._session.revision,
            phase=message_pb2.PHASE_IDLE,
            mode=command_pb2.MODE_LIVE,
            run_number=run,
        )

    def _keep(self, snapshot: snapshot_pb2.ControlSnapshot) -> None:
        if self.snapshot is None or snapshot.epoch >= self.snapshot.epoch:
            self.snapshot, self._blank = snapshot, False

    def _last_shown(self) -> None:
        self._move.last_shown(self._clock())
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._move.wake_at is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._move.wake_at, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._carry_out(self._move.wake(max(self._clock(), self._move.wake_at or 0.0)))


def _host_of(address: str) -> str:
    """Returns the host that an address leads to, or what stands for it: two that are equal
    share their memory, two that differ may.
    """
    return "" if address.startswith("unix:") else address.rpartition(":")[0]


_SHOWS: Final = frozenset({"output", "playout"})
"""What concerns an actor that shows the rest, too."""
