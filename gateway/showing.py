"""What a session shows: its play-out clock, its outputs and who is given what, when.

The hot path of a gateway runs through here, once for every packet and once for every frame
that is due: fields of protocol messages are read once, and nothing is made per viewer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog

from gateway.fanout import CODECS, OutputFanout, Packet
from gateway.pacing import Pacing
from gateway.playout import Due, Playout
from gateway.ports import EncodedFrame
from gateway.rungs import LOW
from gateway.viewer_stats import ViewerClock
from sana_gateway.v1 import media_pb2
from sana_gateway_internal.v1 import stream_pb2
from scheduler.core.errors import InvariantError
from scheduler.process.telemetry import context_from, span

log = structlog.get_logger(__name__)

STAMPS = 128
"""Timestamps of frames kept for packets that come late."""


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
        self._epoch = 0
        self._next_run = 0
        self._reached = (0, -1)
        self._newest = (0, -1)
        """(run, frame) of the packet that came last."""
        self._stamps: dict[tuple[int, int], int] = {}
        self._awaited_packet: dict[tuple[int, int], str] = {}
        """Trace context of the chunk whose first packet ends a trace."""

    def output(self, codec: media_pb2.Codec.ValueType) -> OutputFanout:
        """Returns the output of a codec."""
        return self._outputs[codec]

    # -- what the session tells -----------------------------------------------------------------

    def joined(self, epoch: int) -> None:
        """The session was placed: packets of lower epochs are void."""
        self._epoch = epoch

    def opened(self) -> None:
        """Its actor takes part: it has to hear what is wanted."""
        for output in self._outputs.values():
            output.demand_again()

    def lost(self) -> None:
        """Its actor is gone, and what waited there."""
        self._playout.withdraw()
        self._arm()

    def hold(self) -> None:
        """It has stopped running: no chunk is expected for a while."""
        self._playout.hold()

    def close(self) -> None:
        """It has ended."""
        self._playout.withdraw()
        self._arm()
        self._outputs.clear()
        self._stamps.clear()

    def chunk(self, ready: stream_pb2.ChunkReady) -> None:
        """A chunk waits at the actor."""
        now = self._clock()
        run, chunk, first, frames = ready.run, ready.chunk, ready.first_frame, ready.frames
        if run > self._next_run:
            self.abandon(run)
        try:
            self._playout.chunk(run, chunk, first, frames, ready.frame_rate, now)
        except InvariantError as error:
            self._log.error("chunk.unusable", error=str(error))
            return
        self._times.chunk(ready, now)
        if ready.answers_command and ready.traceparent:
            self._awaited_packet = {(run, chunk): ready.traceparent}
        if self._playout.awaited is not None and self._playout.awaited <= self._newest:
            self._playout.arrived(now)  # before its announcement
        played = self._report(now)
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
        self._times.abandon()
        for output in self._outputs.values():
            output.abandon(next_run)
        self._arm()

    def packet(self, packet: stream_pb2.VideoPacket) -> None:
        """A frame of an output came: it waits for its time, or leaves at once."""
        run, held = packet.run, packet.held
        if packet.epoch < self._epoch or (run < self._next_run and not held):
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
        output.packet(
            rung, Packet(at, packet.chunk, packet.keyframe, held, packet.source_us, packet.data)
        )
        if held or at <= self._reached:
            output.due(self._reached)

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
        return playout.next_due()

    def _show(self, due: Due) -> None:
        at = self._reached = due[0], due[2]
        stamps = self._stamps
        stamps[at] = due.timestamp_us
        if len(stamps) > STAMPS:
            del stamps[next(iter(stamps))]
        for output in self._outputs.values():
            output.due(at)
        if due.last_of_chunk:
            self._commit(due.run, due.chunk)

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
        return self._times.first_frame(frame, due_at, now, report.buffered, report.underruns)

    def demand(
        self,
        codec: media_pb2.Codec.ValueType,
        rung: int,
        *,
        wanted: bool,
        keyframe: bool = False,
        bitrate: int = 0,
    ) -> None:
        """Tells the actor what is wanted of an output."""
        demand = stream_pb2.OutputDemand(
            session_id=self._session_id,
            output=stream_pb2.Output(codec=codec, rung=rung),
            wanted=wanted,
            keyframe=keyframe,
            bitrate=bitrate,
        )
        self._send(stream_pb2.ControlRequest(output=demand))

    # -- the actor's view -----------------------------------------------------------------------

    def _arm(self) -> None:
        self._pacing.wake(self, self._playout.next_due())

    def _commit(self, run: int, chunk: int) -> None:
        commit = stream_pb2.Commit(session_id=self._session_id, run=run, chunk=chunk)
        self._send(stream_pb2.ControlRequest(commit=commit), urgent=False)

    def _report(self, now: float) -> tuple[int, int]:
        """Tells the actor where the clock stands; returns the (run, frame) that is next."""
        report = self._playout.report(now)
        playout = stream_pb2.Playout(
            session_id=self._session_id,
            run=report.run,
            next_frame=report.next_frame,
            due_in_us=int(report.due_in_s * 1e6),
            buffered=report.buffered,
            underruns=report.underruns,
        )
        self._send(stream_pb2.ControlRequest(playout=playout))
        return report.run, report.next_frame
