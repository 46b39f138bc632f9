"""From the packets of an output to its viewers, at the moment each is due.

Packets come from the actor up to about 120 ms before they are due and leave in order.
One that comes late leaves at once; one encoded anew while the picture holds too.

An output has two rungs (`gateway.rungs`), each one encode however many watch it. A viewer
changes rungs at a keyframe of the new one and is given the old one until then.

A recorder (`gateway.recording`) is a viewer of `main` that has no network: it never changes
rungs, says nothing about rates, and is given frames from a keyframe on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, Protocol

import structlog

from gateway.playout import STEP_US
from gateway.ports import EncodedFrame, Viewer
from gateway.rungs import LOW, MAIN, NOMINAL_BITRATE, Rungs
from sana_gateway.v1 import media_pb2
from scheduler.process.instruments import QUEUES

log = structlog.get_logger(__name__)

CODECS: Final = (media_pb2.CODEC_H264, media_pb2.CODEC_VP8)
"""What outputs are made in."""
JOIN_CACHE_US: Final = 500_000
"""Packets since the last keyframe are kept while younger than this, for who joins; those of
a picture that holds, for as long as it holds."""
HELD_PACKETS: Final = 64
"""Most packets of a held picture that are kept: a keyframe and what mends it."""
EARLY_PACKETS: Final = 128
"""Packets that may wait for their time; past it all are dropped up to the next keyframe,
which is asked for. An actor encodes about three ahead."""
BITRATE_STEP: Final = 0.15
"""Smallest relative change of a rate that is passed on; each may cost the encoder a keyframe."""
ASK_AGAIN_S: Final = 0.5
"""A keyframe that was asked for and has not come is asked for again after this."""


_EARLY: Final = QUEUES.kind("output_packets", EARLY_PACKETS)


class Packet(NamedTuple):
    """A packet of an output, out of its envelope."""

    at: tuple[int, int]
    """(run, frame) of the picture."""
    chunk: int
    keyframe: bool
    held: bool
    """Made of a picture that was shown before: to be handed out at once."""
    source_us: int
    data: bytes


class OutputOwner(Protocol):
    """What an output asks of its session."""

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
        """Tells the actor whether anybody watches a rung, whether a keyframe is needed, the
        rate in bits per second (0: as it is), and whether it is recorded here.
        """

    def now(self) -> float:
        """Returns seconds, monotonic."""

    def position_us(self) -> int:
        """Returns where the play-out clock stands now."""

    def stamp_us(self, at: tuple[int, int]) -> int:
        """Returns when a (run, frame) that was due belongs on the play-out clock."""

    @property
    def reached(self) -> tuple[int, int]:
        """(run, frame) that was due last: the picture, while it holds."""

    def chunk_begins(self, frame: EncodedFrame) -> media_pb2.ViewerStats:
        """Returns what viewers are told with the first frame of a chunk on a rung."""


@dataclass(slots=True)
class _Rung:
    """One encode, and who is given it."""

    number: int
    watching: tuple[Viewer, ...] = ()
    """Who is given every packet. Replaced, never changed: it may be being served."""
    waiting: tuple[Viewer, ...] = ()
    """Who is given it from its next keyframe on; who changes rungs watches the other."""
    wanted: bool = False
    bitrate: int = 0
    """Bits per second passed on last; 0: as the actor has it."""
    early: deque[Packet] = field(default_factory=lambda: _EARLY.watch(deque[Packet]()))
    skip_to_key: bool = False
    cache: list[EncodedFrame] = field(default_factory=list)
    """What was handed out since the last keyframe, while it is good to begin with."""
    last_us: int = -STEP_US
    """Timestamp of what was handed out last."""
    given: Packet | None = None
    """What was handed out last, but for pictures shown before."""
    asked_at: float = float("-inf")
    """When a keyframe was asked for that has not come."""

    @property
    def holds(self) -> bool:
        """Whether the cache is all that there is of a picture that holds."""
        return bool(self.cache) and self.cache[-1].held

    @property
    def has_viewers(self) -> bool:
        """Whether anybody watches it or waits for it."""
        return bool(self.watching or self.waiting)

    def remove(self, viewer: Viewer) -> None:
        """Forgets a viewer."""
        self.watching = _without(self.watching, viewer)
        self.waiting = _without(self.waiting, viewer)

    def clear(self) -> None:
        """Forgets what waits to be handed out, and what was."""
        self.early.clear()
        self.cache = []
        self.asked_at = float("-inf")

    def clear_but_held(self) -> None:
        """Forgets the same but for the picture that holds, which may be all that there is."""
        holding = self.cache if self.holds else []
        self.clear()
        self.cache = holding


class OutputFanout:
    """The output of one codec and its viewers."""

    def __init__(self, codec: media_pb2.Codec.ValueType, owner: OutputOwner) -> None:
        """Prepares an output without viewers.

        Args:
            codec: What its packets are encoded with.
            owner: The session.
        """
        self.codec = codec
        self._owner = owner
        self._choice: Rungs[Viewer] = Rungs()
        self._rungs = (_Rung(MAIN), _Rung(LOW))
        self._made: tuple[_Rung, ...] = ()
        """The rungs that are wanted; `LOW` first, so that who goes down at a frame is not
        given that frame twice."""
        self._recorder: Viewer | None = None
        self.bytes_out = 0
        """Bytes of frames that viewers were handed, each viewer counted; a recorder is none."""

    # -- viewers ------------------------------------------------------------------------------

    def join(self, viewer: Viewer) -> None:
        """Adds a viewer: from what is at hand if that is fresh, else from a new keyframe."""
        main = self._rungs[MAIN]
        if any(viewer in (*rung.watching, *rung.waiting) for rung in self._rungs):
            return
        self._choice.join(viewer)
        frames = self._at_hand(main)
        if frames:
            main.watching = (*main.watching, viewer)
            self.bytes_out += sum(len(frame.data) for frame in frames)
            for frame in frames:
                viewer.frame(frame)
        else:
            main.waiting = (*main.waiting, viewer)
        self._want(main, keyframe=not frames)

    def record(self, recorder: Viewer) -> None:
        """Adds the recorder: it is given `main` from its next keyframe on."""
        main = self._rungs[MAIN]
        self._recorder = recorder
        main.waiting = (*main.waiting, recorder)
        if main.wanted:
            self._demand(main, keyframe=True)
        else:
            self._want(main, keyframe=True)

    def refresh(self) -> None:
        """Asks for a keyframe of `main` that nobody needs to go on; see `ASK_AGAIN_S`."""
        self._want(self._rungs[MAIN], keyframe=True)

    def leave(self, viewer: Viewer) -> None:
        """Removes a viewer, or the recorder; a rung without any is no longer wanted."""
        self._choice.leave(viewer)
        for rung in self._rungs:
            rung.remove(viewer)
        self._settle()
        if viewer is self._recorder:
            self._recorder = None
            main = self._rungs[MAIN]
            if main.wanted:
                self._demand(main)

    def keyframe(self, viewer: Viewer) -> None:
        """A viewer has lost the picture: it is given nothing until a keyframe."""
        main, low = self._rungs
        # Who is changing rungs goes on with the new one, whose keyframe is on its way.
        if viewer in (*low.waiting, *low.watching) and viewer not in main.waiting:
            rung, other = low, main
        elif viewer in (*main.waiting, *main.watching):
            rung, other = main, low
        else:
            return
        other.remove(viewer)
        rung.remove(viewer)
        rung.waiting = (*rung.waiting, viewer)
        self._want(rung, keyframe=True)
        self._settle()

    def estimate(self, viewer: Viewer, bits_per_second: int) -> None:
        """Takes in what a viewer's network carries; acts on it at once."""
        self._change(self._choice.estimate(viewer, bits_per_second, self._owner.now()))

    @property
    def review_at(self) -> float:
        """When `review` is to be called."""
        return self._choice.review_at

    def review(self, now: float) -> None:
        """Moves the viewers whose networks have been unfit for their rung for long enough."""
        self._change(self._choice.review(now))

    # -- packets ------------------------------------------------------------------------------

    @property
    def given(self) -> tuple[int, int] | None:
        """(run, frame) of the furthest picture that a viewer who watches was given."""
        given = [rung.given.at for rung in self._made if rung.watching and rung.given is not None]
        return max(given, default=None)

    def lacks(self, at: tuple[int, int]) -> bool:
        """Tells whether viewers watch who were not given the picture (run, frame)."""
        return any(
            rung.watching and (rung.given is None or rung.given.at < at) for rung in self._made
        )

    @property
    def held(self) -> Sequence[EncodedFrame]:
        """The picture that holds, as it was handed out: a keyframe and what mends it; empty
        while none does, or none was made in this codec.
        """
        holding = (rung.cache for rung in self._rungs if rung.holds)
        reached = self._owner.reached
        return next((held for held in holding if (held[-1].run, held[-1].frame) == reached), ())

    @property
    def wanted(self) -> tuple[tuple[int, int, bool], ...]:
        """The rungs that somebody watches, each with its rate in bits per second (0: any) and
        whether it is recorded.
        """
        return tuple((rung.number, rung.bitrate, self._is_recorded(rung)) for rung in self._made)

    def demand_again(self) -> None:
        """Tells a new actor what is wanted. What it makes follows on from nothing but a
        keyframe; until then who joins is given the picture that holds.
        """
        for rung in self._made:
            rung.clear_but_held()
            rung.skip_to_key = True
            rung.asked_at = self._owner.now()
            self._demand(rung, keyframe=True, bitrate=rung.bitrate)

    def packet(self, rung_number: int, packet: Packet) -> None:
        """Keeps a packet for its time; none of a rung that nobody watches."""
        rung = self._rungs[rung_number]
        if not rung.wanted or (rung.skip_to_key and not packet.keyframe):
            return
        rung.skip_to_key = False
        if packet.keyframe:
            rung.asked_at = float("-inf")
        rung.early.append(packet)
        if len(rung.early) > EARLY_PACKETS:
            _EARLY.overflowed()
            rung.clear()
            rung.skip_to_key = True
            self._want(rung, keyframe=True)

    def follow(self) -> None:
        """Says that from now on packets are another actor's, which begin at a keyframe."""
        for rung in self._made:
            rung.skip_to_key = True

    def abandon(self, next_run: int) -> None:
        """Drops what waits of runs below `next_run`, and what may still come of them. The next
        run begins with a keyframe without being asked: asked for now, it would be made of
        the held picture, which every viewer has.
        """
        for rung in self._rungs:
            # Packets may overtake the announcement of their run.
            begun = [packet for packet in rung.early if packet.at[0] >= next_run]
            rung.clear_but_held()
            rung.early.extend(begun)
            rung.skip_to_key = not begun and not rung.cache

    def due(self, reached: tuple[int, int]) -> None:
        """Hands out what is due.

        Args:
            reached: (run, frame) of the last frame that was due.
        """
        for rung in self._made:
            early = rung.early
            while early and (early[0].held or early[0].at <= reached):
                self._give(rung, early.popleft())

    def _give(self, rung: _Rung, packet: Packet) -> None:
        if packet.keyframe and rung.waiting:
            self._admit(rung)
        at, held = packet.at, packet.held
        stamp_us = self._owner.position_us() if held else self._owner.stamp_us(at)
        rung.last_us = stamp_us = max(stamp_us, rung.last_us + STEP_US)
        frame = EncodedFrame(
            data=packet.data,
            keyframe=packet.keyframe,
            codec=self.codec,
            timestamp_us=stamp_us,
            run=at[0],
            chunk=packet.chunk,
            frame=at[1],
            source_us=packet.source_us,
            held=held,
            rung=rung.number,
        )
        cache = rung.cache
        if packet.keyframe:
            rung.cache = [frame]
        elif cache:
            first = cache[0]
            if (
                len(cache) < HELD_PACKETS
                if held and first.held
                else stamp_us - first.timestamp_us <= JOIN_CACHE_US
            ):
                cache.append(frame)
            else:
                rung.cache = []
        viewers = len(rung.watching) - (self._recorder in rung.watching)
        self.bytes_out += len(frame.data) * viewers
        for viewer in rung.watching:
            try:
                viewer.frame(frame)
            except Exception as error:  # one viewer's affair must not cost others their picture
                log.error("viewer.failed", error=type(error).__name__)
                self.leave(viewer)
        if not held:
            before, rung.given = rung.given, packet
            if before is None or before.chunk != packet.chunk or before.at[0] != at[0]:
                self._tell(rung, frame)

    def _tell(self, rung: _Rung, frame: EncodedFrame) -> None:
        """Gives every viewer of a rung its own copy of what is known of a chunk."""
        known = self._owner.chunk_begins(frame)
        known.rung = rung.number
        known.bitrate = rung.bitrate or NOMINAL_BITRATE
        for viewer in rung.watching:
            stats = media_pb2.ViewerStats()
            stats.CopyFrom(known)
            viewer.stats(stats)

    def _admit(self, rung: _Rung) -> None:
        """Lets who waits begin at the keyframe that is about to be handed out."""
        (other,) = (each for each in self._rungs if each is not rung)
        changing = [viewer for viewer in rung.waiting if viewer in other.watching]
        if changing:
            rung.last_us = max(rung.last_us, other.last_us)
            for viewer in changing:
                other.remove(viewer)
        rung.watching, rung.waiting = (*rung.watching, *rung.waiting), ()
        self._settle()

    def _at_hand(self, rung: _Rung) -> list[EncodedFrame]:
        """Returns what a viewer can begin with now, stamped after all that it may have had."""
        frames = rung.cache
        if frames and rung.holds and (frames[-1].run, frames[-1].frame) != self._owner.reached:
            # Others were shown since, while nobody watched.
            frames = rung.cache = []
        if not frames:
            return []
        begin_us, position_us = rung.last_us, self._owner.position_us()
        if rung.holds:
            begin_us = max(begin_us, position_us - STEP_US * len(frames))
        elif position_us - frames[0].timestamp_us > JOIN_CACHE_US:
            return []
        again = [
            replace(frame, timestamp_us=begin_us + STEP_US * number)
            for number, frame in enumerate(frames, start=1)
        ]
        rung.last_us = again[-1].timestamp_us
        return again

    # -- rungs --------------------------------------------------------------------------------

    def _change(self, rungs: dict[Viewer, int]) -> None:
        """Sends viewers to their new rungs, and passes on what rates follow."""
        for viewer, number in rungs.items():
            new, old = self._rungs[number], self._rungs[1 - number]
            if viewer in old.waiting:
                old.waiting = _without(old.waiting, viewer)
            if viewer not in new.watching:
                new.waiting = (*new.waiting, viewer)
                self._want(new, keyframe=True)
        self._settle()
        for rung in self._made:
            target = self._choice.bitrate(rung.number)
            if target and abs(target - rung.bitrate) > BITRATE_STEP * rung.bitrate:
                rung.bitrate = target
                self._demand(rung, bitrate=target)

    def _want(self, rung: _Rung, *, keyframe: bool) -> None:
        """Wants a rung; asks for a keyframe unless one is on its way."""
        first = not rung.wanted
        if first:
            rung.wanted = True
            rung.bitrate = self._choice.bitrate(rung.number)
            self._made = tuple(each for each in reversed(self._rungs) if each.wanted)
        now = self._owner.now()
        asked = now - rung.asked_at < ASK_AGAIN_S
        coming = asked or any(packet.keyframe for packet in rung.early)
        if first or (keyframe and not coming):
            rung.asked_at = now
            self._demand(rung, keyframe=True, bitrate=rung.bitrate if first else 0)

    def _demand(self, rung: _Rung, *, keyframe: bool = False, bitrate: int = 0) -> None:
        """Tells the actor what is wanted of a rung that somebody watches."""
        self._owner.demand(
            self.codec,
            rung.number,
            wanted=True,
            keyframe=keyframe,
            bitrate=bitrate,
            recorded=self._is_recorded(rung),
        )

    def _is_recorded(self, rung: _Rung) -> bool:
        return self._recorder is not None and rung.number == MAIN

    def _settle(self) -> None:
        """Wants no more the rungs that nobody watches."""
        for rung in self._made:
            if not rung.has_viewers:
                rung.wanted = False
                rung.bitrate = 0
                rung.clear_but_held()
                self._owner.demand(self.codec, rung.number, wanted=False)
        self._made = tuple(rung for rung in self._made if rung.wanted)


def _without(viewers: tuple[Viewer, ...], viewer: Viewer) -> tuple[Viewer, ...]:
    return tuple(each for each in viewers if each is not viewer)
