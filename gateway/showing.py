"""What a session shows: its play-out clock, its outputs and who is given what, when.

The hot path of a gateway runs through here, once for every packet and once for every frame
that is due: fields of protocol messages are read once, and nothing is made per viewer.

When a session is handed over, two actors play one sequence: the old one's packets go out up
to its last frame, and the new one's, which begin with a keyframe at the next, wait until
that one was given to all who watch, or does not come.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple, Protocol

import structlog

from gateway.fanout import CODECS, OutputFanout, Packet
from gateway.metrics import observe
from gateway.pacing import Pacing
from gateway.playout import Due, Playout, PlayoutReport
from gateway.ports import EncodedFrame
from gateway.rungs import LOW
from gateway.viewer_stats import ViewerClock
from sana_gateway.v1 import media_pb2
from sana_gateway_internal.v1 import stream_pb2
from scheduler.core.errors import InvariantError
from scheduler.process.instruments import exemplar_of
from scheduler.process.telemetry import context_from, span

log = structlog.get_logger(__name__)

STAMPS = 128
"""Timestamps of frames kept for packets that come late."""
SOON_S = 0.15
"""An actor whose frames are due later than this need not be told of the clock at once: it begins
to encode half of it ahead."""

BESIDE = 512
"""Packets of an actor that goes on which may wait for the other's last frame; past it they
wait no longer, and the rest of the other is void."""

HELD_BYTES = 1 << 20
"""Most that is told of a picture that holds: far below what one message may take."""

LATE_S = 0.25
"""How long the commit of a chunk waits for a last frame that was due and has not come."""


class _Owed(NamedTuple):
    """A commit that waits."""

    at: tuple[int, int]
    """(run, frame) of the last frame of the chunk."""
    chunk: int
    until: float


class Send(Protocol):
    """Sends to the actor."""

    def __call__(self, request: stream_pb2.ControlRequest, *, urgent: bool = True) -> None:
        """What is not urgent may wait some milliseconds for others to go with."""


class Showing:
    """The media of one session on their way to its viewers; see `gateway.fanout.OutputOwner`
    and `gateway.pacing.Paced` for who calls what.
    """

    def __init__(
        self,
        session_id: str,
        send: Send,
        pacing: Pacing,
        times: ViewerClock,
        clock: Callable[[], float],
    ) -> None:
        """Begins with nothing to show and nobody to show it to.

        Args:
            session_id: Whose media.
            send: Sends to the actor.
            pacing: Calls `play` when frames are due.
            times: What viewers are told of where time went.
            clock: The time of the event loop.
        """
        self._session_id = session_id
        self._log = log.bind(session_id=session_id)
        self._send = send
        self._pacing = pacing
        self._times = times
        self._clock = clock
        self._playout = Playout()
        self._outputs = {codec: OutputFanout(codec, self) for codec in CODECS}
        self._bytes_out = 0
        """Of outputs that are closed."""
        self._epoch = 0
        self._first = (0, 0)
        """What comes of this epoch before this (run, frame) was shown by another."""
        self._following = 0
        """Epoch of the actor that goes on after the present one's last frame; 0: there is none."""
        self._beside: list[stream_pb2.VideoPacket] = []
        """Its packets until then."""
        self._switch = (0, 0)
        """(run, frame) with which it begins."""
        self._ended: Callable[[], None] | None = None
        """Hears that the present one's last frame was due."""
        self._awaited: tuple[int, int] | None = None
        """That frame, once it was due."""
        self._owed: _Owed | None = None
        """Of the newest chunk: its actor could not make again what was committed."""
        self._is_alone = False
        """Whether the present one is gone, and sends no more."""
        self._next_run = 0
        self.reached = (0, -1)
        """(run, frame) that was due last."""
        self._newest = (0, -1)
        """(run, frame) of the packet that came last."""
        self._stamps: dict[tuple[int, int], int] = {}
        self._awaited_packet: dict[tuple[int, int], str] = {}
        self._measured = (-1, -1)
        """(run, chunk) whose first frame was measured last."""
        self._underruns = (0, 0)
        """(run, underruns) that are counted."""
        """Trace context of the chunk whose first packet ends a trace."""

    def output(self, codec: media_pb2.Codec.ValueType) -> OutputFanout:
        """Returns the output of a codec."""
        return self._outputs[codec]

    @property
    def held(self) -> stream_pb2.HeldPicture | None:
        """The picture that holds, in any codec; None while none does. Of one that would take
        more than `HELD_BYTES` what mends it in the end is left out.
        """
        for output in self._outputs.values():
            sizes = accumulate(len(frame.data) for frame in output.held)
            packets = [
                frame.data
                for frame, size in zip(output.held, sizes, strict=True)
                if size <= HELD_BYTES
            ]
            if packets:
                last = output.held[-1]
                return stream_pb2.HeldPicture(
                    codec=output.codec,
                    run=last.run,
                    chunk=last.chunk,
                    frame=last.frame,
                    packets=packets,
                )
        return None

    @property
    def bytes_out(self) -> int:
        """Bytes of frames that viewers were handed."""
        return self._bytes_out + sum(output.bytes_out for output in self._outputs.values())

    # -- what the session tells -----------------------------------------------------------------

    @property
    def position(self) -> tuple[int, int]:
        """(run, frame) of what is handed out next."""
        return self._playout.position

    def joined(self, epoch: int) -> None:
        """The session was placed: packets of other epochs are void."""
        self._epoch, self._first = epoch, self._playout.position

    def opened(self) -> None:
        """Its actor takes part: it has to hear what is wanted."""
        for output in self._outputs.values():
            output.demand_again()

    def handed_over(self, epoch: int, ended: Callable[[], None]) -> None:
        """Another actor goes on where what was announced ends; see `follow`.

        Args:
            epoch: Its epoch.
            ended: Called when the last frame of the present one was due.
        """
        self._following, self._ended, self._is_alone = epoch, ended, False
        self._switch = self._playout.end
        if self._playout.next_due() is None:
            self._end()

    def left_alone(self) -> None:
        """The present actor is gone while another goes on: what it has not sent is lost."""
        self._is_alone = True
        self._follow_if_given()

    def follow(self) -> None:
        """What comes next is of the actor that goes on, if there is one."""
        if not self._following:
            return
        self._epoch, self._following, self._awaited = self._following, 0, None
        self._first = self._switch
        beside, self._beside = self._beside, []
        for output in self._outputs.values():
            output.follow()
        for packet in beside:
            self.packet(packet)

    def opened_beside(self, send: Send) -> None:
        """The actor that goes on takes part: it has to hear what is wanted, and when.

        Args:
            send: Sends to it alone.
        """
        for codec, output in self._outputs.items():
            for rung, bitrate, recorded in output.wanted:
                send(
                    self._demand(
                        codec,
                        rung,
                        wanted=True,
                        keyframe=True,
                        bitrate=bitrate,
                        recorded=recorded,
                    )
                )
        send(self._clock_report(self._playout.report(self._clock())))

    def rewind(self, run: int, first: int) -> None:
        """Its actor has died, perhaps a while before that was noticed: what was due and has
        not come is to be made again, if somebody watches and nobody has seen it.

        Args:
            run: A run.
            first: The first frame of it that can be made again.
        """
        present, next_frame = self._playout.position
        given = [output.given for output in self._outputs.values() if output.given is not None]
        if present != run or not given:
            return
        at = max(given)
        seen = at[1] if at[0] == run else -1
        frame = max(seen + 1, first)
        if frame < next_frame:
            self._playout.rewind(frame)
            self.reached = (run, frame - 1)

    def lost(self) -> None:
        """Its actor is gone, and what waited there."""
        self._following, self._awaited, self._owed = 0, None, None
        self._beside = []
        self._playout.withdraw()
        self._arm()

    def hold(self) -> None:
        """It has stopped running: no chunk is expected for a while."""
        self._playout.hold()

    def close(self) -> None:
        """It has ended."""
        self._bytes_out = self.bytes_out
        self._owed = None
        self._playout.withdraw()
        self._arm()
        self._outputs.clear()
        self._stamps.clear()

    def chunk(self, ready: stream_pb2.ChunkReady) -> None:
        """A chunk waits at the actor."""
        now, anchors = self._clock(), self._playout.anchors
        run, chunk, first, frames = ready.run, ready.chunk, ready.first_frame, ready.frames
        if run > self._next_run:
            self.abandon(run)
        try:
            ahead_s = self._playout.chunk(run, chunk, first, frames, ready.frame_rate, now)
        except InvariantError as error:
            self._log.error("chunk.unusable", error=str(error))
            return
        self._times.chunk(ready, now)
        if ready.answers_command and ready.traceparent:
            self._awaited_packet = {(run, chunk): ready.traceparent}
        if self._playout.awaited is not None and self._playout.awaited <= self._newest:
            self._playout.arrived(now)  # before its announcement
        moved = self._playout.anchors != anchors
        played = self._report(now, urgent=moved or ahead_s < SOON_S)
        if (run, first + frames) <= played:
            # An actor that lost our commit, or has found another gateway, announces again
            # what has been shown already.
            self._commit(run, chunk)
        self._arm()

    def abandon(self, next_run: int) -> None:
        """Runs below `next_run` are void."""
        self._next_run = max(self._next_run, next_run)
        self._playout.abandon(next_run)
        self._awaited_packet.clear()
        self._owed = None
        self._times.abandon()
        for output in self._outputs.values():
            output.abandon(next_run)
        if self._following:
            self._end()  # what the present actor had still to show is void
            self.follow()
        self._arm()

    def packet(self, packet: stream_pb2.VideoPacket) -> None:
        """A frame of an output came: it waits for its time, or leaves at once."""
        if packet.epoch != self._epoch:
            self._of_another(packet)
            return
        run, held = packet.run, packet.held
        if run < self._next_run and not held:
            return
        made = packet.output
        output, rung = self._outputs.get(made.codec), made.rung
        if output is None or rung > LOW:
            return
        at = (run, packet.frame)
        if not held:
            self._newest = at
            if at == self._playout.awaited:
                self._playout.arrived(self._clock())
        late = at <= self.reached
        if late and at < self._first and not held:
            return  # shown already, by another actor
        output.packet(
            rung, Packet(at, packet.chunk, packet.keyframe, held, packet.source_us, packet.data)
        )
        if held or late:
            output.due(self.reached)
            if self._owed is not None:
                self._pay()
            if self._awaited is not None:
                self._follow_if_given()

    def _of_another(self, packet: stream_pb2.VideoPacket) -> None:
        """A frame came of an actor that goes on later, or of one that counts no more."""
        if packet.epoch != self._following or not self._following:
            return
        self._beside.append(packet)
        if (packet.run, packet.frame) == self._playout.awaited:
            self._playout.arrived(self._clock())
        if len(self._beside) > BESIDE:
            self.follow()

    def _end(self) -> None:
        """The present actor's last frame was due, while another goes on."""
        ended, self._ended = self._ended, None
        if ended is not None:
            self._awaited = self.reached
            ended()
            self._follow_if_given()

    def _follow_if_given(self) -> None:
        last = self._awaited
        if last is None:
            return
        if self._is_alone or not any(output.lacks(last) for output in self._outputs.values()):
            self.follow()

    # -- what the pacing asks -------------------------------------------------------------------

    def play(self, now: float) -> float | None:
        """Hands out what is due; see `gateway.pacing.Paced`."""
        playout = self._playout
        anchors = playout.anchors
        for due in playout.due(now):
            self._show(due)
        if playout.anchors != anchors:
            self._report(now)
        for output in self._outputs.values():
            if output.review_at <= now:
                output.review(now)
        if self._owed is not None and self._owed.until <= now:
            self._pay(waits=False)
        return self._next_play()

    def _pay(self, *, waits: bool = True) -> None:
        """Commits what is owed, once all who watch were given it."""
        owed = self._owed
        if owed is None:
            return
        if waits and any(output.lacks(owed.at) for output in self._outputs.values()):
            return
        self._owed = None
        self._commit(owed.at[0], owed.chunk)

    def _next_play(self) -> float | None:
        due_at = self._playout.next_due()
        if self._owed is None:
            return due_at
        return self._owed.until if due_at is None else min(due_at, self._owed.until)

    def _show(self, due: Due) -> None:
        at = self.reached = due[0], due[2]
        stamps = self._stamps
        stamps[at] = due.timestamp_us
        if len(stamps) > STAMPS:
            del stamps[next(iter(stamps))]
        for output in self._outputs.values():
            output.due(at)
        if due.last_of_chunk:
            self._pay(waits=False)
            self._owed = _Owed(at, due.chunk, due.due_at + LATE_S)
            self._pay()
            if self._following and (due.run, due.frame + 1) >= self._switch:
                self._end()

    # -- what the outputs ask -------------------------------------------------------------------

    def now(self) -> float:
        """Returns the time of the event loop."""
        return self._clock()

    def position_us(self) -> int:
        """Returns where the play-out clock stands now."""
        return self._playout.position_us(self._clock())

    def stamp_us(self, at: tuple[int, int]) -> int:
        """Returns when a frame that was due belongs on the play-out clock."""
        stamp_us = self._stamps.get(at)
        return self.position_us() if stamp_us is None else stamp_us

    def chunk_begins(self, frame: EncodedFrame) -> media_pb2.ViewerStats:
        """Returns what viewers are told with the first frame of a chunk; ends its trace."""
        traceparent = self._awaited_packet.pop((frame.run, frame.chunk), "")
        if traceparent:
            with span(
                "gateway.first_packet",
                parent=context_from(traceparent),
                attributes={"session.id": self._session_id, "chunk.index": frame.chunk},
            ):
                pass
        now = self._clock()
        report = self._playout.report(now)
        due_at = self._playout.due_at(frame.timestamp_us)
        known = self._times.first_frame(frame, due_at, now, report.buffered, report.underruns)
        at = (frame.run, frame.chunk)
        if at > self._measured:
            # Once a chunk, whichever output and rung is first.
            self._measured = at
            self._underruns = observe(known, exemplar_of(traceparent), self._underruns)
        return known

    def demand(
        self,
        codec: media_pb2.Codec.ValueType,
        rung: int,
        *,
        wanted: bool,
        keyframe: bool = False,
        bitrate: int = 0,
        recorded: bool = False,
    ) -> None:
        """Tells the actor what is wanted of an output."""
        self._send(
            self._demand(
                codec,
                rung,
                wanted=wanted,
                keyframe=keyframe,
                bitrate=bitrate,
                recorded=recorded,
            )
        )

    def _demand(
        self,
        codec: media_pb2.Codec.ValueType,
        rung: int,
        *,
        wanted: bool,
        keyframe: bool,
        bitrate: int,
        recorded: bool,
    ) -> stream_pb2.ControlRequest:
        demand = stream_pb2.OutputDemand(
            session_id=self._session_id,
            output=stream_pb2.Output(codec=codec, rung=rung),
            wanted=wanted,
            keyframe=keyframe,
            bitrate=bitrate,
            recorded=recorded,
        )
        return stream_pb2.ControlRequest(output=demand)

    # -- the actor's view -----------------------------------------------------------------------

    def _arm(self) -> None:
        self._pacing.wake(self, self._next_play())

    def _commit(self, run: int, chunk: int) -> None:
        commit = stream_pb2.Commit(session_id=self._session_id, run=run, chunk=chunk)
        self._send(stream_pb2.ControlRequest(commit=commit), urgent=False)

    def _report(self, now: float, *, urgent: bool = True) -> tuple[int, int]:
        """Tells the actor where the clock stands; returns the (run, frame) that is next."""
        report = self._playout.report(now)
        self._send(self._clock_report(report), urgent=urgent)
        return report.run, report.next_frame

    def _clock_report(self, report: PlayoutReport) -> stream_pb2.ControlRequest:
        playout = stream_pb2.Playout(
            session_id=self._session_id,
            run=report.run,
            next_frame=report.next_frame,
            due_in_us=int(report.due_in_s * 1e6),
            buffered=report.buffered,
            underruns=report.underruns,
        )
        return stream_pb2.ControlRequest(playout=playout)
