"""What one session on this actor consists of, and the carrying out of what its machine says.

`live_session.py` holds what comes from gateways, the scheduler and compute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import av
import structlog
from opentelemetry import trace
from opentelemetry.trace import Link

from model_actor.engine.bookings import Bookings
from model_actor.engine.clock import PlayoutClock
from model_actor.engine.controls import Controls
from model_actor.engine.handover import Departure
from model_actor.engine.held_picture import to_be_kept
from model_actor.engine.keeping import Keeper
from model_actor.engine.metering import Meter
from model_actor.engine.participants import Participants
from model_actor.engine.restoring import Restored, session_info
from model_actor.engine.services import EngineServices, Placement
from model_actor.engine.session_camera import SessionCamera
from model_actor.engine.session_outputs import GatewayLink, SessionOutputs
from model_actor.engine.session_sources import SessionSources
from model_actor.engine.showing import Showing
from model_actor.engine.store import FrameStore
from model_actor.engine.tracing import Unanswered
from sana_gateway_internal.v1 import snapshot_pb2, stream_pb2
from scheduler.core import effects as fx
from scheduler.core.effects import Effect
from scheduler.core.errors import SanaGatewayError
from scheduler.core.messages import Phase
from scheduler.core.quality import FULL, Quality
from scheduler.core.session import Session

log = structlog.get_logger(__name__)


class SessionBody:
    """The parts of a session, and the session machine that they follow."""

    def __init__(
        self,
        placement: Placement,
        services: EngineServices,
        state: object,
        *,
        restored: Restored | None = None,
        gateways: Participants | None = None,
        camera: SessionCamera | None = None,
    ) -> None:
        """Begins the session in IDLE, or where it was elsewhere; then `go_on` is called.

        Args:
            placement: What the scheduler said of it.
            services: What the sessions of the actor share.
            state: What the model keeps of it.
            restored: What it was elsewhere.
            gateways: Who is about to take part.
            camera: Its camera, where it was decoded ahead.
        """
        self.placement = placement
        self.state = state
        self.quality = placement.quality
        """How it runs."""
        self._services = services
        self._info = info = session_info(services.info, placement.quality)
        session_id = placement.session_id
        if restored is None:
            self._machine = Session(
                info.geometry, start_wait=services.start_wait_s, source_wait=services.source_wait_s
            )
        else:
            self._machine = restored.machine
        self._gateways = Participants(session_id) if gateways is None else gateways
        self._meter = Meter(
            placement.epoch,
            services.info.frame_rate,
            None if restored is None else restored.usage,
        )
        self._journal = (
            None
            if services.journals is None
            else services.journals.open(
                placement, services.info, None if restored is None else restored.journal
            )
        )
        self._closed = False
        self.awaiting_room = False
        """Whether its actor is being emptied while there is no room for it elsewhere."""
        self._placement_links = [
            Link(span.get_span_context())
            for span in [trace.get_current_span(placement.context)]
            if span.get_span_context().is_valid
        ]
        self._showing = Showing(
            session_id,
            info.frame_rate,
            self._placement_links,
            follows=restored is not None and restored.follows,
        )
        self._unanswered = Unanswered()
        self._camera = camera or SessionCamera(info, self._gateways, services.workers)
        self._sources = SessionSources(
            session_id,
            info,
            self._machine,
            self._camera,
            storage=services.storage,
            workers=services.workers,
            apply=self._apply,
            on_frames=services.states.wake,
        )
        self._bookings = Bookings(
            services.ledger, session_id, placement.epoch, self._booking_answered
        )
        self._outputs = SessionOutputs(
            session_id,
            placement.epoch,
            info,
            self,
            bitrate=services.bitrate,
            encoders=services.encoders,
            link=self._gateways.get,
            span=self._showing.span,
            is_void=lambda run: run < self._machine.run,
            on_encoded=self._free_frames,
        )
        self._controls = Controls(
            session_id,
            placement.epoch,
            self._machine,
            self._gateways,
            host=lambda: self._keeper.host,
            source_us=lambda: self._camera.taken_us,
            metered=self._add_metered,
        )
        self._keeper = Keeper(
            session_id,
            placement.epoch,
            self._machine,
            services.states,
            services.kept,
            every=services.snapshot_every,
            state=lambda: self.state,
            control=self._controls.snapshot,
            picture=self._held_picture,
            told=self._model_kept,
        )
        self._departure = Departure(
            session_id,
            placement.epoch,
            services,
            self._keeper,
            self._controls,
            self._gateways,
            self._showing,
            over=self._end_deciding,
            departed=lambda: services.departed(session_id, placement.epoch),
        )
        self._timer: asyncio.TimerHandle | None = None
        self._ready_since: float | None = None
        self._chunks = (0, 0)
        self._owed_us: tuple[int, ...] = ()
        """Times of the source frames that the next window answers for the last one."""
        self._carry_out: dict[type[Effect], Callable[[Effect], None]] = {
            fx.Send: cast(Callable[[Effect], None], self._send),
            fx.Ack: cast(Callable[[Effect], None], self._ack),
            fx.Probe: cast(Callable[[Effect], None], self._sources.probe),
            fx.Book: cast(Callable[[Effect], None], self._book),
            fx.Unbook: lambda _: self._bookings.unbook(),
            fx.Abandon: cast(Callable[[Effect], None], self._abandon),
        }
        if restored is not None:
            if placement.computing:
                self._bookings.adopt()
            if self._journal is not None:
                self._journal.restored(*(restored.kept or (self._machine.run, -1)))
            if restored.kept is not None:
                self._keeper.restored(*restored.kept)
            self._camera.skip_to(restored.source_us)
            if restored.picture is not None:
                self.store.hold(restored.picture)

    def go_on(self, links: Iterable[GatewayLink], effects: Sequence[Effect] = ()) -> None:
        """Begins to act, and to tell gateways.

        Args:
            links: Who takes part from the beginning.
            effects: What the machine says and asks for to begin with.
        """
        for link in links:
            self._gateways.join(link, self.placement.epoch, self._machine.journal)
        self._apply(effects)
        if self.quality != FULL:
            self._tell_quality()
        self._sources.begin()
        self._read_prompt()
        self._controls.changed()

    def pace(self, quality: Quality) -> None:
        """From the next window on it runs in another quality."""
        if quality == self.quality:
            return
        paced, self.quality = quality.rate != self.quality.rate, quality
        if paced:
            self._info = info = session_info(self._services.info, quality)
            self._showing.frame_rate = info.frame_rate
            self._sources.pace(info)
            self._outputs.pace(info)
        self._tell_quality()

    # -- what its outputs show --------------------------------------------------------------

    @property
    def store(self) -> FrameStore:
        """The finished frames."""
        return self._showing.store

    @property
    def clock(self) -> PlayoutClock | None:
        """The play-out clock; None before the first chunk."""
        return self._showing.clock

    @property
    def closed(self) -> bool:
        """Whether the session has ended here."""
        return self._closed

    @property
    def computing(self) -> bool:
        """Whether the session holds compute."""
        return self._bookings.held

    @property
    def over(self) -> bool:
        """Whether it was handed over or parked: nothing is decided here any more."""
        return self._departure.over

    # -- what the machine says --------------------------------------------------------------

    def _apply(self, effects: Sequence[Effect]) -> None:
        if self._closed or self.over:
            return
        if effects:
            self._controls.changed()
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
            self._services.states.wake()
        self._keep_if_paused()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = machine.deadline()
        if deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(deadline, self._tick)

    def _read_prompt(self) -> None:
        """Has the model read the present prompt before a window needs it."""
        prompt = self._machine.prompt
        if prompt is not None:
            self._services.states.read_prompt(self.placement.session_id, prompt)

    def _tick(self) -> None:
        self._timer = None
        self._apply(self._machine.tick(_now()))

    def _add_metered(self, message: snapshot_pb2.ControlSnapshot) -> None:
        """Adds to a snapshot what goes with the session beside what it is."""
        message.usage.CopyFrom(self._meter.snapshot())
        if self._journal is not None:
            message.journal.CopyFrom(self._journal.snapshot())

    def _send(self, effect: fx.Send) -> None:
        self._meter.told(self._machine.run, effect)
        self._gateways.send(effect)

    def _ack(self, effect: fx.Ack) -> None:
        # What is acknowledged is in a snapshot that was sent before: it is not lost with us.
        self._controls.flush()
        self._gateways.ack(effect)

    def _keep_if_paused(self) -> None:
        if self._machine.phase is Phase.PAUSED:
            self._keeper.keep()

    def _model_kept(self, run: int, windows: int) -> None:
        self._machine.model_kept(run, windows)
        kept = self._machine.snapshot().run
        if kept is not None and kept.kept is not None:
            self._keeper.prune(run, kept.kept.windows)
        self._controls.changed()

    async def _held_picture(self) -> bytes:
        """Returns the picture that holds, to be kept; what cannot be kept of it is done without."""
        held, services = self.store.held, self._services
        if held is None:
            return b""
        try:
            return await to_be_kept(services.info, held, services.bitrate)
        except (av.FFmpegError, SanaGatewayError) as error:
            kind = type(error).__name__
            log.warning("picture.not_kept", session_id=self.placement.session_id, error=kind)
            return b""

    def _end_deciding(self) -> None:
        """Others decide from now on; what was made is shown, and no picture holds here."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._bookings.part()
        self._controls.close()
        self.store.hold_no_more()

    def _book(self, effect: fx.Book) -> None:
        self._bookings.book(effect.ticket, trace.get_current_span())

    def _free_frames(self) -> None:
        """Frees what was shown, unless an output that is a little late has still to encode it."""
        run = self._machine.run
        self.store.release(run, self._outputs.reached(run))

    def _booking_answered(self, ticket: int, quality: Quality, retry_after_s: float) -> None:
        machine = self._machine
        if quality:
            self.pace(quality)
            self._apply(machine.compute_booked(ticket, _now()))
        else:
            self._apply(machine.compute_refused(ticket, retry_after_s, _now()))

    def _tell_quality(self) -> None:
        rate = 0.0 if self.quality.rate == FULL.rate else self._info.frame_rate
        self._apply(self._machine.degraded(rate, self.quality.steps, _now()))

    def _abandon(self, effect: fx.Abandon) -> None:
        self._showing.abandon(effect.next_run, _now())
        self._meter.abandon(effect.next_run)
        if self._journal is not None:
            self._journal.abandoned(effect.next_run)
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


def _now() -> float:
    return asyncio.get_running_loop().time()
