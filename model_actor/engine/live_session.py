"""One session on this actor: its machine, its sources, its frames, its outputs.

Everything here runs on the actor's event loop. The machine decides; this file carries
out what it says, and tells it what happened in the world.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, cast

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link

from model_actor.engine.askers import Askers
from model_actor.engine.bookings import Bookings, ComputeLedger
from model_actor.engine.clock import PlayoutClock
from model_actor.engine.outputs import LEAD_S
from model_actor.engine.session_outputs import CODECS, GatewayLink, SessionOutputs
from model_actor.engine.sources import CameraSource, ClipSource, StagedClip, open_clip
from model_actor.engine.store import FinishedWindow, FrameStore
from model_actor.engine.tracing import ChunkSpan, WindowTiming, tracer
from model_actor.media.camera import CameraPacket
from model_actor.media.errors import ClipRefusedError
from model_actor.media.frames import FrameBlock
from model_actor.media.workers import DecodeWorkers
from model_actor.plugin import Frames, ModelInfo
from sana_gateway.v1 import message_pb2
from sana_gateway_internal.v1 import stream_pb2
from scheduler import wire
from scheduler.core import effects as fx
from scheduler.core.chunks import Candidate
from scheduler.core.commands import Command, FileRef, Mode
from scheduler.core.effects import Asker, Effect
from scheduler.core.errors import LimitError
from scheduler.core.ids import Principal
from scheduler.core.messages import CommandError, Phase
from scheduler.core.run import WindowPlan
from scheduler.core.session import Session
from scheduler.process.storage import Storage, StorageError
from scheduler.process.telemetry import context_from

log = structlog.get_logger(__name__)

PROBE_S = 10.0
"""Longest time to fetch and probe a clip; probing alone may take 8 s."""
JOURNAL_BYTES = 1024 * 1024
"""Most bytes of journal that a gateway is sent when it opens a session; a client that asks
for older messages is told of a gap."""
_CAMERA_PHASES = frozenset({Phase.AWAITING_COMPUTE, Phase.RUNNING, Phase.PAUSING})
_TRACED = frozenset({"set_prompt", "start", "resume"})
"""Commands whose trace ends with the first packet of the chunk they took effect in."""


@dataclass(frozen=True, slots=True)
class EngineServices:
    """What all sessions of an actor share."""

    info: ModelInfo
    workers: DecodeWorkers
    storage: Storage
    encoders: Executor
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
        self.store = FrameStore()
        self.clock: PlayoutClock | None = None
        self._services = services
        self._machine = Session(services.info.geometry, start_wait=services.start_wait_s)
        self._log = log.bind(session_id=placement.session_id)
        self._gateways: dict[str, GatewayLink] = {}
        self._askers = Askers()
        self._closed = False
        self._clip = ClipSource(self._clip_read)
        self._camera = CameraSource(
            services.workers,
            services.info,
            on_frames=services.wake_compute,
            on_keyframe_needed=self._ask_camera_keyframe,
            on_flow=self._camera_flow,
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
            threads=services.encoders,
            link=self._gateways.get,
            span=lambda run, chunk: self._spans.get((run, chunk)),
            is_void=lambda run: run < self._machine.run,
            on_encoded=self._free_frames,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._probing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ready_since: float | None = None
        self._answering: list[Context] = []
        self._spans: dict[tuple[int, int], ChunkSpan] = {}
        self._waiting: dict[tuple[int, int], stream_pb2.ChunkReady] = {}
        self._placement_links = [
            Link(span.get_span_context())
            for span in [trace.get_current_span(placement.context)]
            if span.get_span_context().is_valid
        ]
        self._carry_out: dict[type[Effect], Callable[[Effect], None]] = {
            fx.Send: cast(Callable[[Effect], None], self._send),
            fx.Ack: cast(Callable[[Effect], None], self._ack),
            fx.Probe: cast(Callable[[Effect], None], self._probe),
            fx.Book: cast(Callable[[Effect], None], self._book),
            fx.Unbook: lambda _: self._bookings.unbook(),
            fx.Abandon: cast(Callable[[Effect], None], self._abandon),
        }

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
        journal = [wire.message_out(message) for message in self._machine.journal]
        while len(journal) > 1 and sum(map(_size, journal)) > JOURNAL_BYTES:
            journal = journal[len(journal) // 2 :]
        self._gateways[link.gateway_id] = link
        opened = stream_pb2.Opened(
            session_id=self.placement.session_id, epoch=self.placement.epoch, journal=journal
        )
        link.control(stream_pb2.ControlResponse(opened=opened))
        for chunk in self._waiting.values():
            link.control(stream_pb2.ControlResponse(chunk=chunk))
        self._apply(self._machine.connected(_now()))

    @property
    def _owner(self) -> GatewayLink | None:
        """The gateway whose play-out clock counts: the one that takes part longest."""
        return next(iter(self._gateways.values()), None)

    def _is_owner(self, gateway_id: str) -> bool:
        return self._owner is not None and self._owner.gateway_id == gateway_id

    def has_gateway(self, gateway_id: str) -> bool:
        """Tells whether a gateway takes part."""
        return gateway_id in self._gateways

    def leave(self, gateway_id: str) -> None:
        """A gateway takes part no longer."""
        owner = self._owner
        if self._gateways.pop(gateway_id, None) is None:
            return
        self._outputs.leave(gateway_id)
        if self._owner is not None and self._owner is not owner:
            # What it had shown before it became the owner, it commits when it hears of it again.
            for chunk in self._waiting.values():
                self._owner.control(stream_pb2.ControlResponse(chunk=chunk))

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
        context = context_from(request.traceparent)
        with tracer.start_as_current_span(
            "actor.command",
            context=context,
            links=self._placement_links,
            attributes={"session.id": self.placement.session_id, "command.name": name},
            record_exception=False,
        ) as span:
            if name in _TRACED and span.is_recording():
                self._answering = [*self._answering[-7:], trace.set_span_in_context(span)]
            asker = Asker(self._askers.number(gateway_id, request.connection_id), command_id)
            self._apply(self._machine.command(asker, command, _now()))

    def playout(self, gateway_id: str, report: stream_pb2.Playout) -> None:
        """Takes in where the play-out clock stands; the owning gateway's counts."""
        if not self._is_owner(gateway_id) or report.run < self._machine.run:
            return
        rate = self._services.info.frame_rate
        self.clock = PlayoutClock(
            run=report.run,
            next_frame=report.next_frame,
            due_at=_now() + report.due_in_us / 1e6,
            frame_rate=rate,
            underruns=report.underruns,
            end=report.next_frame + report.buffered,
        )
        self._outputs.wake()
        self._services.wake_compute()

    def commit(self, gateway_id: str, commit: stream_pb2.Commit) -> None:
        """The owning gateway has handed out the last frame of a chunk."""
        if not self._is_owner(gateway_id) or commit.run != self._machine.run:
            return
        shown = [key for key in self._waiting if key <= (commit.run, commit.chunk)]
        for key in shown:
            chunk = self._waiting.pop(key)
            self.store.shown(commit.run, chunk.first_frame + chunk.frames - 1)
            span = self._spans.pop(key, None)
            if span is not None:
                span.end(time.time())
        self._free_frames()
        self._apply(self._machine.committed(commit.run, commit.chunk, _now()))

    def demand(self, gateway_id: str, demand: stream_pb2.OutputDemand) -> None:
        """Takes in what a gateway wants of an output."""
        self._outputs.demand(gateway_id, demand)

    def camera_status(self, status: stream_pb2.CameraStatus) -> None:
        """The camera was published, or is gone."""
        if not status.published:
            self._camera.gone()
        self._apply(self._machine.camera_published(status.published, _now()))

    def camera_packet(self, packet: stream_pb2.CameraPacket) -> None:
        """Takes in an encoded frame of the camera."""
        codec = CODECS.get(packet.codec)
        if codec is not None:
            self._camera.packet(
                CameraPacket(
                    codec, packet.keyframe, packet.timestamp_us, packet.data, packet.discontinuity
                )
            )

    async def close(self, reason: str) -> None:
        """Ends the session here and releases what it held."""
        self._closed = True
        closed = stream_pb2.Closed(session_id=self.placement.session_id, reason=reason)
        for link in self._gateways.values():
            link.control(stream_pb2.ControlResponse(closed=closed))
        self._gateways.clear()
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for span in self._spans.values():
            span.end(time.time(), outcome="closed")
        self._spans.clear()
        await self._outputs.close()
        await self._bookings.close()
        await self._camera.close()
        await self._clip.close()

    # -- compute ----------------------------------------------------------------------------

    def candidate(self, now: float, cost_s: float) -> Candidate | None:
        """Returns the next window as the deadline rule sees it; None when there is none."""
        plan = self._machine.next_window
        if plan is None or self._closed or not self._gateways:
            return None
        live = self._machine.mode is Mode.LIVE
        ready = self._camera.available >= plan.source_frames if live else self._clip.is_ready(plan)
        if not ready:
            return None
        if self._ready_since is None:
            self._ready_since = now
        deadline, ahead = self._deadline(plan, now)
        return Candidate(
            key=self.placement.session_id,
            ready_at=self._ready_since,
            deadline=deadline,
            live=live,
            cost_s=cost_s,
            ahead=ahead,
        )

    def begin_window(self) -> tuple[WindowPlan, FrameBlock, WindowTiming, list[Context]]:
        """Dispatches the next window: its plan, its source frames, and the commands it answers."""
        plan = self._machine.next_window
        assert plan is not None  # noqa: S101 - `candidate` has just said so
        block = (
            self._camera.take(plan.source_frames)
            if self._machine.mode is Mode.LIVE
            else self._clip.take()
        )
        now = _now()
        waited = now - (self._ready_since or now)
        self._ready_since = None
        wall = time.time()
        answering, self._answering = self._answering, []
        self._apply(self._machine.dispatched(now))
        return plan, block, WindowTiming(wall - waited, wall), answering

    def finish_window(
        self,
        plan: WindowPlan,
        frames: Frames,
        source_us: Sequence[int],
        timing: WindowTiming,
        answering: list[Context],
    ) -> None:
        """Takes in the frames of a window, unless its run was abandoned meanwhile."""
        if self._closed or plan.run != self._machine.run:
            return
        self.store.add(
            FinishedWindow(
                run=plan.run,
                first_frame=plan.first_frame,
                frames=frames[: plan.frames],
                source_us=tuple(source_us[: plan.frames]),
                chunk_starts=tuple((chunk.index, chunk.first_frame) for chunk in plan.chunks),
            )
        )
        parent = answering[-1] if answering else Context()
        for chunk in plan.chunks:
            key = (plan.run, chunk.index)
            span = self._spans[key] = ChunkSpan(
                self.placement.session_id,
                plan.run,
                chunk.index,
                chunk.frames,
                parent,
                self._placement_links,
                timing,
            )
            ready = self._waiting[key] = stream_pb2.ChunkReady(
                session_id=self.placement.session_id,
                run=plan.run,
                chunk=chunk.index,
                first_frame=chunk.first_frame,
                frames=chunk.frames,
                frame_rate=self._services.info.frame_rate,
                traceparent=span.traceparent,
                answers_command=bool(answering) and chunk is plan.chunks[0],
            )
            self._broadcast(stream_pb2.ControlResponse(chunk=ready))
        self._apply(self._machine.generated(plan.run, plan.index, _now()))
        self._outputs.wake()

    def fail_window(self, plan: WindowPlan) -> None:
        """A window failed: the run ends, the session goes on."""
        if not self._closed and plan.run == self._machine.run:
            self._apply(self._machine.failed(plan.run, plan.index, _now()))

    def _deadline(self, plan: WindowPlan, now: float) -> tuple[float, int]:
        """Returns when the window's first frame is due and how many frames are made ahead."""
        clock = self.clock
        if plan.index == 0:
            return float("-inf"), 0
        if clock is None or clock.run != plan.run:
            # The gateway has not told yet when the first window plays.
            ahead = plan.first_frame
            return now + ahead / self._services.info.frame_rate, ahead
        return clock.due(plan.first_frame) - LEAD_S, plan.first_frame - clock.played(now)

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
        live = machine.mode is Mode.LIVE
        self._camera.want(wanted=live and machine.phase in _CAMERA_PHASES)
        plan = machine.next_window
        if plan is not None and not live:
            self._clip.want(plan.first_frame, plan.source_frames)
        elif machine.phase is Phase.IDLE and machine.clip is not None:
            # Read ahead of `start`, so that its first window need not wait for the decoder.
            self._clip.want(0, self._services.info.geometry.first_window)
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

    def _send(self, effect: fx.Send) -> None:
        message = wire.message_out(effect.message)
        gateway_id, connection_id = self._askers.connection(
            effect.asker.connection_id if effect.asker else 0
        )
        if effect.asker is not None and isinstance(effect.message.payload, CommandError):
            targets = [link for g, link in self._gateways.items() if g == gateway_id]
        else:
            targets = list(self._gateways.values())
        for link in targets:
            wired = stream_pb2.SessionMessage(session_id=self.placement.session_id, message=message)
            if effect.asker is not None and link.gateway_id == gateway_id:
                wired.connection_id = connection_id
                wired.message.command_id = effect.asker.command_id
            link.control(stream_pb2.ControlResponse(message=wired))

    def _ack(self, effect: fx.Ack) -> None:
        gateway_id, connection_id = self._askers.connection(effect.asker.connection_id)
        link = self._gateways.get(gateway_id)
        if link is not None:
            ack = stream_pb2.SessionAck(
                session_id=self.placement.session_id,
                connection_id=connection_id,
                command_id=effect.asker.command_id,
                accepted=effect.accepted,
            )
            link.control(stream_pb2.ControlResponse(ack=ack))

    def _probe(self, effect: fx.Probe) -> None:
        # A probe that was superseded, or forgotten by reset, is of no use to anybody.
        if self._probing is not None:
            self._probing.cancel()
        self._probing = self._own(self._run_probe(effect.ticket, effect.video))

    async def _run_probe(self, ticket: int, video: FileRef) -> None:
        services = self._services
        key = f"{self.placement.session_id}/{video.upload_id}"
        try:
            async with asyncio.timeout(PROBE_S):
                clip = await open_clip(services.storage, services.workers, key, services.info)
        except (ClipRefusedError, LimitError) as error:
            reason = str(error)
        except TimeoutError:
            reason = f"fetching and probing took longer than {PROBE_S:.0f} s"
        except StorageError:
            reason = "the upload is unknown or not complete; upload the file again"
        except Exception as error:  # the client must have an answer, whatever it was
            self._log.warning("probe.failed", error=type(error).__name__)
            reason = "the clip cannot be decoded"
        else:
            await self._accept(ticket, clip)
            return
        self._apply(self._machine.probe_refused(ticket, reason, _now()))

    async def _accept(self, ticket: int, clip: StagedClip) -> None:
        facts = clip.facts
        answer = self._machine.probe_accepted(
            ticket, facts.width, facts.height, facts.num_frames, _now()
        )
        if answer and not self._closed:
            self._clip.stage(clip)
            self._apply(answer)
        else:
            await clip.decoder.close()

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
        clock = self.clock
        if clock is not None:
            # The picture that holds is the one on the screens, in the middle of a chunk.
            self.store.shown(clock.run, min(clock.played(_now()), self.store.end) - 1)
        self.store.abandon(effect.next_run)
        for key in [key for key in self._spans if key[0] < effect.next_run]:
            self._spans.pop(key).end(time.time(), outcome="abandoned")
        self._waiting = {
            key: chunk for key, chunk in self._waiting.items() if key[0] >= effect.next_run
        }
        abandoned = stream_pb2.RunAbandoned(
            session_id=self.placement.session_id, next_run=effect.next_run
        )
        self._broadcast(stream_pb2.ControlResponse(abandoned=abandoned))
        if not self._machine.state().has_video:
            self._clip.stage(None)
        self._outputs.wake()

    # -- the world --------------------------------------------------------------------------

    def _clip_read(self) -> None:
        """The clip's next window was read, or cannot be: then the run that needs it ends."""
        failed, self._clip.failed = self._clip.failed, False
        plan = self._machine.next_window
        if failed and plan is not None:
            self._apply(self._machine.failed(plan.run, plan.index, _now()))
        self._services.wake_compute()

    def _camera_flow(self, flowing: bool) -> None:
        machine = self._machine
        self._apply(machine.source_flowing(_now()) if flowing else machine.source_stalled(_now()))

    def _ask_camera_keyframe(self) -> None:
        asked = stream_pb2.CameraKeyframe(session_id=self.placement.session_id)
        self._broadcast(stream_pb2.ControlResponse(camera_keyframe=asked))

    def _broadcast(self, response: stream_pb2.ControlResponse) -> None:
        for link in self._gateways.values():
            link.control(response)

    def _own(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._disown)
        return task

    def _disown(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("task.failed", error=type(error).__name__)


def _size(message: message_pb2.Message) -> int:
    return message.ByteSize()


def _now() -> float:
    return asyncio.get_running_loop().time()
