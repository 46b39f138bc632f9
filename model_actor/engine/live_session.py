"""One session on this actor: its machine, its sources, its frames, its outputs.

Everything here runs on the actor's event loop. The machine decides; this file carries
out what it says, and tells it what happened in the world.

When several gateways take part, the one that takes part longest owns the session's
play-out clock (`participants.py`): only its `Playout` and `Commit` count. A gateway that
joins beside it is told of the chunks from the first frame on that is not yet due; one
that becomes the owner is told of all that wait, and commits what it has shown; one that
joins when nobody was left goes on where the clock stood (`showing.py`). The camera of
the gateway that said first that it has one counts (`publishers.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link

from model_actor.engine.bookings import Bookings, ComputeLedger
from model_actor.engine.clock import PlayoutClock
from model_actor.engine.encoder_pool import EncoderPool
from model_actor.engine.participants import Participants
from model_actor.engine.session_outputs import GatewayLink, SessionOutputs
from model_actor.engine.session_sources import SessionSources
from model_actor.engine.showing import Showing
from model_actor.engine.store import FrameStore
from model_actor.engine.tracing import ANSWERED, Answers, Unanswered, WindowTiming, tracer
from model_actor.media.frames import FrameBlock
from model_actor.media.workers import DecodeWorkers
from model_actor.plugin import Frames, ModelInfo
from sana_gateway_internal.v1 import stream_pb2
from scheduler import wire
from scheduler.core import effects as fx
from scheduler.core.chunks import Candidate
from scheduler.core.commands import Command, Mode
from scheduler.core.effects import Effect
from scheduler.core.ids import Principal
from scheduler.core.run import WindowPlan
from scheduler.core.session import Session
from scheduler.process.storage import Storage
from scheduler.process.telemetry import context_from


@dataclass(frozen=True, slots=True)
class EngineServices:
    """What all sessions of an actor share."""

    info: ModelInfo
    workers: DecodeWorkers
    storage: Storage
    encoders: EncoderPool
    ledger: ComputeLedger
    wake_compute: Callable[[], None]
    """More may be ready to compute."""
    bitrate: int
    """Bits per second of an output to begin with."""
    start_wait_s: float


@dataclass(frozen=True, slots=True)
class Placement:
    """What the scheduler said of a session."""

    session_id: str
    epoch: int
    principal: Principal
    model: str
    context: Context


class LiveSession:
    """A session that this actor holds."""

    def __init__(self, placement: Placement, services: EngineServices, state: object) -> None:
        """Begins the session in IDLE.

        Args:
            placement: What the scheduler said of it.
            services: What the sessions of the actor share.
            state: What the model's `open` returned.
        """
        self.placement = placement
        self.state = state
        self._services = services
        self._machine = Session(services.info.geometry, start_wait=services.start_wait_s)
        self._gateways = Participants(placement.session_id)
        self._closed = False
        self._placement_links = [
            Link(span.get_span_context())
            for span in [trace.get_current_span(placement.context)]
            if span.get_span_context().is_valid
        ]
        self._showing = Showing(
            placement.session_id, services.info.frame_rate, self._placement_links
        )
        self._unanswered = Unanswered()
        self._sources = SessionSources(
            placement.session_id,
            services.info,
            self._machine,
            self._gateways,
            storage=services.storage,
            workers=services.workers,
            apply=self._apply,
            on_frames=services.wake_compute,
        )
        self._bookings = Bookings(
            services.ledger, placement.session_id, placement.epoch, self._booking_answered
        )
        self._outputs = SessionOutputs(
            placement.session_id,
            placement.epoch,
            services.info,
            self,
            bitrate=services.bitrate,
            encoders=services.encoders,
            link=self._gateways.get,
            span=self._showing.span,
            is_void=lambda run: run < self._machine.run,
            on_encoded=self._free_frames,
        )
        self._timer: asyncio.TimerHandle | None = None
        self._ready_since: float | None = None
        self._carry_out: dict[type[Effect], Callable[[Effect], None]] = {
            fx.Send: cast(Callable[[Effect], None], self._gateways.send),
            fx.Ack: cast(Callable[[Effect], None], self._gateways.ack),
            fx.Probe: cast(Callable[[Effect], None], self._sources.probe),
            fx.Book: cast(Callable[[Effect], None], self._book),
            fx.Unbook: lambda _: self._bookings.unbook(),
            fx.Abandon: cast(Callable[[Effect], None], self._abandon),
        }

    # -- what its outputs show --------------------------------------------------------------

    @property
    def store(self) -> FrameStore:
        """The finished frames."""
        return self._showing.store

    @property
    def clock(self) -> PlayoutClock | None:
        """The play-out clock; None before the first chunk."""
        return self._showing.clock

    # -- gateways ---------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the session has ended here."""
        return self._closed

    @property
    def computing(self) -> bool:
        """Whether the session holds compute."""
        return self._bookings.held

    def open(self, link: GatewayLink) -> None:
        """Lets a gateway take part.

        It is sent the journal, the chunks that wait to be shown, and a fresh state.
        """
        now, run = _now(), self._machine.run
        abandoned = not self._gateways
        unshown = self._showing.unshown(run, now)
        self._gateways.join(link, self.placement.epoch, self._machine.journal)
        if abandoned:
            shown = self._showing.adopt(run, now)
            if shown is not None:
                self._committed(run, shown)
        for chunk in self._showing.announcements(now, unshown=unshown):
            link.control(stream_pb2.ControlResponse(chunk=chunk))
        self._apply(self._machine.connected(now))

    def has_gateway(self, gateway_id: str) -> bool:
        """Tells whether a gateway takes part."""
        return self._gateways.get(gateway_id) is not None

    def leave(self, gateway_id: str) -> None:
        """A gateway takes part no longer."""
        owner = self._gateways.owner
        if not self._gateways.leave(gateway_id):
            return
        self._outputs.leave(gateway_id)
        self._sources.unpublished(gateway_id)
        heir = self._gateways.owner
        if heir is None:
            self._showing.stand(self._machine.run, _now())
        elif heir is not owner:
            # What it had shown before it became the owner, it commits when it hears of it again.
            for chunk in self._showing.announcements(_now()):
                heir.control(stream_pb2.ControlResponse(chunk=chunk))

    def command(self, gateway_id: str, request: stream_pb2.SessionCommand) -> None:
        """Handles a command of a client."""
        kind = request.WhichOneof("content")
        if kind == "invalid":
            command_id = request.invalid.command_id
            command: Command = wire.invalid_in(request.invalid)
            name = "invalid"
        else:
            command_id = request.command.command_id
            command = wire.command_in(request.command)
            name = request.command.WhichOneof("command") or "invalid"
        arrived_at = _now()
        with tracer.start_as_current_span(
            "actor.command",
            context=context_from(request.traceparent),
            links=self._placement_links,
            attributes={"session.id": self.placement.session_id, "command.name": name},
            record_exception=False,
        ) as span:
            asker = self._gateways.asker(gateway_id, request.connection_id, command_id)
            effects = self._machine.command(asker, command, arrived_at)
            if name in ANSWERED and _took_effect(effects):
                self._unanswered.add(arrived_at, span)
            self._apply(effects)

    def playout(self, gateway_id: str, report: stream_pb2.Playout) -> None:
        """Takes in where the play-out clock stands; the owning gateway's counts."""
        if not self._gateways.owned_by(gateway_id) or report.run < self._machine.run:
            return
        self._showing.report(report, _now())
        self._outputs.wake()
        self._services.wake_compute()

    def commit(self, gateway_id: str, commit: stream_pb2.Commit) -> None:
        """The owning gateway has handed out the last frame of a chunk."""
        if self._gateways.owned_by(gateway_id) and commit.run == self._machine.run:
            self._committed(commit.run, commit.chunk)

    def demand(self, gateway_id: str, demand: stream_pb2.OutputDemand) -> None:
        """Takes in what a gateway wants of an output."""
        self._outputs.demand(gateway_id, demand)

    def camera_status(self, gateway_id: str, status: stream_pb2.CameraStatus) -> None:
        """A camera was published at a gateway, or is gone; the first one counts."""
        if status.published:
            self._sources.published(gateway_id)
        else:
            self._sources.unpublished(gateway_id)

    def camera_packet(self, gateway_id: str, packet: stream_pb2.CameraPacket) -> None:
        """Takes in an encoded frame of a camera."""
        self._sources.packet(gateway_id, packet)

    async def close(self, reason: str) -> None:
        """Ends the session here and releases what it held."""
        self._closed = True
        closed = stream_pb2.Closed(session_id=self.placement.session_id, reason=reason)
        self._gateways.tell(stream_pb2.ControlResponse(closed=closed))
        self._gateways.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._showing.close()
        self._outputs.close()
        await self._bookings.close()
        await self._sources.close()

    # -- compute ----------------------------------------------------------------------------

    def candidate(self, now: float, cost_s: float) -> Candidate | None:
        """Returns the next window as the deadline rule sees it; None when there is none."""
        plan = self._machine.next_window
        if plan is None or self._closed or not self._gateways:
            return None
        if not self._sources.ready(plan):
            return None
        if self._ready_since is None:
            self._ready_since = now
        deadline, ahead = self._showing.deadline(plan, now)
        return Candidate(
            key=self.placement.session_id,
            ready_at=self._ready_since,
            deadline=deadline,
            live=self._machine.mode is Mode.LIVE,
            cost_s=cost_s,
            ahead=ahead,
        )

    def begin_window(self) -> tuple[WindowPlan, FrameBlock, WindowTiming, Answers]:
        """Dispatches the next window: its plan, its source frames, and the commands it answers."""
        plan = self._machine.next_window
        assert plan is not None  # noqa: S101 - `candidate` has just said so
        block = self._sources.take(plan)
        now = _now()
        waited = now - (self._ready_since or now)
        self._ready_since = None
        wall = time.time()
        answers = self._unanswered.take()
        self._apply(self._machine.dispatched(now))
        return plan, block, WindowTiming(wall - waited, wall), answers

    def finish_window(
        self,
        plan: WindowPlan,
        frames: Frames,
        source_us: Sequence[int],
        timing: WindowTiming,
        answers: Answers,
    ) -> None:
        """Takes in the frames of a window, unless its run was abandoned meanwhile.

        Waits for nobody: the outputs go on with the frames whether or not a gateway has heard
        of them.
        """
        if self._closed or plan.run != self._machine.run:
            return
        chunks = self._showing.finished(plan, frames, source_us, timing, answers, _now())
        self._gateways.announce(chunks)
        # Once they are written: the encoder's thread may take this one's core for as long as
        # it encodes, and the gateway sets its clock by the announcement.
        asyncio.get_running_loop().call_soon(self._outputs.wake)
        self._apply(self._machine.generated(plan.run, plan.index, _now()))

    def fail_window(self, plan: WindowPlan) -> None:
        """A window failed: the run ends, the session goes on."""
        if not self._closed and plan.run == self._machine.run:
            self._apply(self._machine.failed(plan.run, plan.index, _now()))

    # -- what the machine says --------------------------------------------------------------

    def _apply(self, effects: Sequence[Effect]) -> None:
        if self._closed:
            return
        for effect in effects:
            self._carry_out[type(effect)](effect)
        self._follow()

    def _follow(self) -> None:
        """Brings sources and timer in line with the machine after a step."""
        machine = self._machine
        self._sources.follow()
        plan = machine.next_window
        if plan is None:
            self._ready_since = None
        else:
            self._services.wake_compute()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = machine.deadline()
        if deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._apply(self._machine.tick(_now()))

    def _book(self, effect: fx.Book) -> None:
        self._bookings.book(effect.ticket, trace.get_current_span())

    def _free_frames(self) -> None:
        """Frees what was shown, unless an output that is a little late has still to encode it."""
        run = self._machine.run
        self.store.release(run, self._outputs.reached(run))

    def _booking_answered(self, ticket: int, booked: bool, retry_after_s: float) -> None:
        machine = self._machine
        self._apply(
            machine.compute_booked(ticket, _now())
            if booked
            else machine.compute_refused(ticket, retry_after_s, _now())
        )

    def _abandon(self, effect: fx.Abandon) -> None:
        self._showing.abandon(effect.next_run, _now())
        self._unanswered.clear()
        abandoned = stream_pb2.RunAbandoned(
            session_id=self.placement.session_id, next_run=effect.next_run
        )
        self._gateways.tell(stream_pb2.ControlResponse(abandoned=abandoned))
        if not self._machine.state().has_video:
            self._sources.drop_clip()
        self._outputs.wake()

    def _committed(self, run: int, chunk: int) -> None:
        self._showing.commit(run, chunk)
        self._free_frames()
        self._apply(self._machine.committed(run, chunk, _now()))
        # With the last frame shown the picture may hold from now on.
        self._outputs.wake()


def _took_effect(effects: Sequence[Effect]) -> bool:
    """Tells whether a command was accepted, and not for the second time."""
    return len(effects) > 1 and any(isinstance(each, fx.Ack) and each.accepted for each in effects)


def _now() -> float:
    return asyncio.get_running_loop().time()
