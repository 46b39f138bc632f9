"""One session on this actor: its machine, its sources, its frames, its outputs.

Everything here runs on the actor's event loop. The machine decides; this file carries
out what it says, and tells it what happened in the world.

When several gateways take part, the one that takes part longest owns the session's
play-out clock (`participants.py`): only its `Playout` and `Commit` count. A gateway that
joins beside it is told of the chunks from the first frame on that is not yet due; one
that becomes the owner is told of all that wait, and commits what it has shown; one that
joins when nobody was left goes on where the clock stood (`showing.py`). The camera of
the gateway that said first that it has one counts (`publishers.py`).

A session is a snapshot plus a lease: how it is kept, leaves and comes is told in `keeping.py`,
`handover.py` and `shells.py`. One that was handed over decides nothing any more (`over`): it
only shows what it has made.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from model_actor.engine.participants import parting
from model_actor.engine.session_body import SessionBody
from model_actor.engine.session_outputs import GatewayLink
from model_actor.engine.tracing import ANSWERED, Answers, WindowTiming, tracer
from model_actor.media.frames import FrameBlock
from model_actor.plugin import Frames
from sana_gateway_internal.v1 import placement_pb2, stream_pb2
from scheduler import wire
from scheduler.core import effects as fx
from scheduler.core.chunks import Candidate
from scheduler.core.commands import NAMES, Command, Invalid, Mode, RejectReason, SetPrompt
from scheduler.core.effects import Effect
from scheduler.core.run import WindowPlan
from scheduler.process.telemetry import context_from

NO_TRANSITIONS: Final = "this model changes prompts at once: it takes no transition_chunks"


class LiveSession(SessionBody):
    """A session that this actor holds."""

    # -- gateways ---------------------------------------------------------------------------

    def keep_content(self) -> None:
        """Its client wants prompts and pictures in its journal, where one is kept."""
        if self._journal is not None:
            self._journal.keep_content()

    def open(self, link: GatewayLink, *, revision: int = 0) -> None:
        """Lets a gateway take part.

        It is sent the journal, the chunks that wait to be shown, and a fresh state.

        Args:
            link: The gateway.
            revision: Of the last message that its clients have seen.
        """
        if self.over:
            self._refuse(link)
            return
        now, run = _now(), self._machine.run
        self._machine.hear_revision(revision)
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

    def stand_by(self, link: GatewayLink) -> None:
        """Lets a gateway send its camera before it takes part: another one brought the session."""
        if self.over:
            self._refuse(link)
        else:
            self._gateways.stand_by(link, self.placement.epoch)

    def catch_up(self, revision: int) -> None:
        """Clients have seen more than this session has told since it goes on: it tells them on
        from there what it is.
        """
        if self._machine.hear_revision(revision):
            self._apply(self._machine.connected(_now()))

    def has_gateway(self, gateway_id: str) -> bool:
        """Tells whether a gateway takes part, or is about to."""
        return self._gateways.reach(gateway_id) is not None

    def leave(self, gateway_id: str) -> None:
        """A gateway takes part no longer."""
        owner = self._gateways.owner
        self._camera.unpublished(gateway_id)
        if not self._gateways.leave(gateway_id):
            return
        self._outputs.leave(gateway_id)
        heir = self._gateways.owner
        if heir is None and self.over:
            self._departure.abandoned()
        elif heir is None:
            self._showing.stand(self._machine.run, _now())
            self._keeper.keep(again=True)
        elif heir is not owner:
            # What it had shown before it became the owner, it commits when it hears of it again.
            for chunk in self._showing.announcements(_now()):
                heir.control(stream_pb2.ControlResponse(chunk=chunk))

    def command(self, gateway_id: str, request: stream_pb2.SessionCommand) -> None:
        """Handles a command of a client; one that was handed over leaves them to its heir."""
        if self.over:
            return
        kind = request.WhichOneof("content")
        if kind == "invalid":
            command_id = request.invalid.command_id
            command: Command = wire.invalid_in(request.invalid)
            name = "invalid"
        else:
            command_id = request.command.command_id
            command = self._understood(wire.command_in(request.command))
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
            if self._journal is not None and _took_effect(effects):
                self._journal.command(name, command, self._machine.run)
            if isinstance(command, SetPrompt) and command.prompt == self._machine.prompt:
                self._read_prompt()
            if name in ANSWERED and _took_effect(effects):
                self._unanswered.add(arrived_at, span)
            self._apply(effects)

    def _understood(self, command: Command) -> Command:
        """Returns a command that the model has; another one is none."""
        name = NAMES.get(type(command))
        if name is not None and name not in self._info.commands:
            return Invalid(name, "this model has no such command", RejectReason.UNKNOWN_COMMAND)
        slowly = isinstance(command, SetPrompt) and command.transition_chunks > 0
        if slowly and not self._info.prompt_transitions:
            return Invalid(NAMES[SetPrompt], NO_TRANSITIONS, RejectReason.BAD_ARGUMENT)
        return command

    def playout(self, gateway_id: str, report: stream_pb2.Playout) -> None:
        """Takes in where the play-out clock stands; the owning gateway's counts."""
        if not self._gateways.owned_by(gateway_id) or report.run < self._machine.run:
            return
        self._showing.report(report, _now())
        if self.over:
            self._showing.show_until(report.run, report.next_frame)
            self._free_frames()
            self._departure.shown()
        self._outputs.wake()
        self._services.states.wake()

    def commit(self, gateway_id: str, commit: stream_pb2.Commit) -> None:
        """The owning gateway has handed out the last frame of a chunk."""
        mine = self._gateways.owned_by(gateway_id) and commit.run == self._machine.run
        if mine and not self.over:
            self._committed(commit.run, commit.chunk)

    def demand(self, gateway_id: str, demand: stream_pb2.OutputDemand) -> None:
        """Takes in what a gateway wants of an output."""
        self._outputs.demand(gateway_id, demand)

    def camera_status(self, gateway_id: str, status: stream_pb2.CameraStatus) -> None:
        """A camera was published at a gateway, or is gone; the first one counts."""
        if status.published:
            self._camera.published(gateway_id)
        else:
            self._camera.unpublished(gateway_id)

    def camera_packet(self, gateway_id: str, packet: stream_pb2.CameraPacket) -> None:
        """Takes in an encoded frame of a camera."""
        self._camera.packet(gateway_id, packet)

    def hand_over(self, request: stream_pb2.HandOver) -> None:
        """A gateway has the session handed over to its new actor."""
        self._departure.hand_over(request)

    def copy(self, gateway_id: str, request: stream_pb2.Copy) -> None:
        """A gateway has the session copied."""
        self._departure.copy(gateway_id, request.copies)

    async def close(self, reason: str, *, tell: bool = True, goes_on: bool = False) -> None:
        """Ends the session here and releases what it held.

        Args:
            reason: Why, for people.
            tell: Whether its gateways are told; not where the scheduler does it.
            goes_on: Whether they are to have it placed elsewhere, rather than believe it over.
        """
        self._closed = True
        if tell and not self.over:
            self._gateways.tell(parting(self.placement.session_id, reason, goes_on=goes_on))
        self._gateways.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._controls.close()
        self._showing.close()
        self._outputs.close()
        await self._departure.close()
        await self._keeper.close()
        await self._bookings.close()
        await self._sources.close()
        if self._journal is not None:
            await self._journal.close()

    # -- the scheduler ----------------------------------------------------------------------

    async def park(self, *, store: bool) -> str:
        """Keeps the session so that it can end here; returns why it could not."""
        return await self._departure.park(store=store)

    def awaits_room(self, awaits: bool) -> None:
        """Whether the actor is being emptied while there is no room for it elsewhere."""
        self.awaiting_room = awaits
        self._apply(self._machine.awaiting_room(awaits, _now()))

    def take_chunks(self) -> tuple[int, int]:
        """Returns the chunks finished, and the late ones among them, since the last call."""
        chunks, self._chunks = self._chunks, (0, 0)
        return chunks

    def take_usage(self) -> placement_pb2.SessionUsage | None:
        """Returns all that it has used; None while that is what was returned last."""
        placement = self.placement
        meter = self._meter
        if self._closed:
            meter.settled()  # a window under way is nobody's any more
        if not meter.changed:
            return None
        return placement_pb2.SessionUsage(
            session_id=placement.session_id,
            tenant=placement.principal.tenant,
            model=placement.model,
            tally=meter.take(),
            term=placement.epoch,
            spent_us=meter.spent_us,
        )

    def take_encoded(self) -> float:
        """Returns the seconds of its picture that were encoded since the last call."""
        return self._outputs.take_encoded()

    @property
    def kept_size(self) -> int:
        """Bytes of the model's state when it was last kept; 0 when it never was."""
        return self._keeper.size

    # -- compute ----------------------------------------------------------------------------

    @property
    def source_clip(self) -> str:
        """The clip that its windows are of; empty: they are a camera's."""
        clip = self._machine.clip
        filed = clip is not None and self._machine.mode is Mode.FILE
        return clip.video.upload_id if clip is not None and filed else ""

    def candidate(self, now: float, cost_s: float) -> Candidate | None:
        """Returns the next window as the deadline rule sees it; None when there is none."""
        plan = self._machine.next_window
        if plan is None or self._closed or not self._gateways or self._keeper.busy or self.over:
            return None
        wait = self._sources.ready_in(plan)
        if wait is None:
            return None
        if self._ready_since is None and not wait:
            self._ready_since = now
        deadline, ahead = self._showing.deadline(plan, now)
        return Candidate(
            key=self.placement.session_id,
            ready_at=now + wait if self._ready_since is None else self._ready_since,
            deadline=deadline,
            live=self._machine.mode is Mode.LIVE,
            cost_s=cost_s,
            ahead=ahead,
            first=plan.index == 0,
            steps=self.quality.steps,
            period_s=self._info.geometry.window / self._info.frame_rate,
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
        timing = WindowTiming(wall - waited, wall)
        self._meter.began(timing)
        if self._journal is not None:
            block = self._journal.began(block)
        answers = self._unanswered.take()
        self._keeper.began()
        self._apply(self._machine.dispatched(now))
        return plan, block, timing, answers

    def latch(self, plan: WindowPlan) -> tuple[WindowPlan, Answers] | None:
        """The model is about to look at the prompt of a window: the present one counts."""
        latched = self._machine.latched(plan.run, plan.index, _now())
        if latched is None:
            return None
        self._controls.changed()
        return latched, self._unanswered.take()

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
        self._meter.made(plan)
        if self._journal is not None:
            steps, clip = self.quality.steps, self._machine.clip
            clip = clip if self._machine.mode is Mode.FILE else None
            self._journal.window(plan, frames, timing, steps=steps, clip=clip)
        source_us = self._source_times(plan, source_us)
        late = self._showing.late(plan, _now() - (time.time() - timing.ready_at), _now())
        slack_s = self._showing.slack_s(plan, _now())
        chunks = self._showing.finished(plan, frames, source_us, timing, answers, _now())
        self._services.chunks.made(
            chunks,
            late=late,
            timing=timing,
            slack_s=slack_s,
        )
        made, missed = self._chunks
        self._chunks = made + len(chunks), missed + (len(chunks) if late else 0)
        self._controls.changed()
        self._gateways.announce(chunks)
        # Once they are written: the encoder's thread may take this one's core for as long as
        # it encodes, and the gateway sets its clock by the announcement.
        asyncio.get_running_loop().call_soon(self._outputs.wake)
        self._apply(self._machine.generated(plan.run, plan.index, _now()))

    def _source_times(self, plan: WindowPlan, own_us: Sequence[int]) -> Sequence[int]:
        """Returns when the source frames were that a window answers, those owed before first.

        Of a window that was made elsewhere nothing is known but that it came before: its frames
        are counted back at the usual rate.
        """
        before, self._owed_us = self._owed_us, tuple(own_us[len(own_us) - plan.owed :])
        if len(before) != plan.carried:
            period_us = 1e6 / self._info.frame_rate
            back = range(plan.carried, 0, -1)
            before = tuple(max(0, own_us[0] - round(each * period_us)) for each in back)
        return (*before, *own_us)[: plan.made]

    def fail_window(self, plan: WindowPlan) -> None:
        """A window failed: the run ends, the session goes on."""
        self._keeper.failed()
        self._meter.settled()
        if not self._closed and plan.run == self._machine.run:
            self._apply(self._machine.failed(plan.run, plan.index, _now()))

    def settled(self, plan: WindowPlan) -> None:
        """All stages of a window are over."""
        self._keeper.settled(plan)
        self._meter.made(plan)
        self._meter.settled()
        if not self._gateways:
            self._keeper.keep()
        self._keep_if_paused()

    def _refuse(self, link: GatewayLink) -> None:
        gone = "the session was handed over"
        refused = stream_pb2.Refused(session_id=self.placement.session_id, reason=gone)
        link.control(stream_pb2.ControlResponse(refused=refused))


def _took_effect(effects: Sequence[Effect]) -> bool:
    """Tells whether a command was accepted, and not for the second time."""
    return len(effects) > 1 and any(isinstance(each, fx.Ack) and each.accepted for each in effects)


def _now() -> float:
    return asyncio.get_running_loop().time()
