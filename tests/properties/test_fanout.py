"""Viewers of an output under any order of joins, losses, estimates, holds and late packets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fanout import OutputFanout, Packet
from gateway.ports import EncodedFrame
from gateway.rungs import LOW, MAIN
from sana_gateway.v1 import media_pb2

pytestmark = pytest.mark.properties

PERIOD_US = 41_667


@dataclass(eq=False)
class Decoder:
    """A viewer that fails when it is given what it cannot decode."""

    last: EncodedFrame | None = None
    given: int = 0

    def frame(self, frame: EncodedFrame) -> None:
        last, self.last = self.last, frame
        self.given += 1
        if last is not None:
            assert frame.timestamp_us > last.timestamp_us, "timestamps strictly rise"
        if not frame.keyframe:
            assert last is not None, "the first frame is a keyframe"
            assert frame.rung == last.rung, "rungs change at keyframes"
            assert int(frame.data) == int(last.data) + 1, "no frame of a rung is left out"

    def stats(self, stats: media_pb2.ViewerStats) -> None:
        assert self.last is not None
        assert (stats.run, stats.frame) == (self.last.run, self.last.frame)
        assert stats.rung == self.last.rung


@dataclass
class Actor:
    """Makes the rungs that are wanted, and keyframes that were asked for."""

    us: int = 0
    run: int = 1
    frame: int = -1
    wanted: set[int] = field(default_factory=set)
    asked: set[int] = field(default_factory=set)
    made: dict[int, int] = field(default_factory=lambda: {MAIN: 0, LOW: 0})
    late: list[tuple[int, Packet]] = field(default_factory=list)

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
        (self.wanted.add if wanted else self.wanted.discard)(rung)
        if keyframe:
            self.asked.add(rung)
        assert wanted or not keyframe

    @property
    def reached(self) -> tuple[int, int]:
        return self.run, self.frame

    def now(self) -> float:
        return self.us / 1e6

    def position_us(self) -> int:
        return self.us

    def stamp_us(self, at: tuple[int, int]) -> int:
        return at[1] * PERIOD_US

    def chunk_begins(self, frame: EncodedFrame) -> media_pb2.ViewerStats:
        return media_pb2.ViewerStats(run=frame.run, frame=frame.frame)

    def packet(self, rung: int, *, held: bool = False, first: bool = False) -> Packet:
        self.made[rung] += 1
        key = first or rung in self.asked
        self.asked.discard(rung)
        data = str(self.made[rung]).encode()
        return Packet((self.run, self.frame), self.frame // 24, key, held, 0, data)


class Scene:
    """An output, its actor and four viewers; every method is a step of the test."""

    def __init__(self) -> None:
        self.actor = Actor()
        self.output = OutputFanout(media_pb2.CODEC_VP8, self.actor)
        self.viewers = [Decoder() for _ in range(4)]
        self.recorder = Decoder()
        self.is_recorded = False
        self.opened: set[int] = set()
        """Rungs that have an encoder in this run."""

    def join(self, who: int, bits: int, count: int) -> None:
        self.output.join(self.viewers[who])

    def leave(self, who: int, bits: int, count: int) -> None:
        self.output.leave(self.viewers[who])

    def record(self, who: int, bits: int, count: int) -> None:
        (self.output.leave if self.is_recorded else self.output.record)(self.recorder)
        self.is_recorded = not self.is_recorded

    def refresh(self, who: int, bits: int, count: int) -> None:
        if self.is_recorded:
            self.output.refresh()

    def lose(self, who: int, bits: int, count: int) -> None:
        self.output.keyframe(self.viewers[who])

    def estimate(self, who: int, bits: int, count: int) -> None:
        self.output.estimate(self.viewers[who], bits)

    def start(self, who: int, bits: int, count: int) -> None:
        self.actor.late.clear()
        self.actor.run += 1
        self.output.abandon(self.actor.run)
        self.opened.clear()

    def hold(self, who: int, bits: int, count: int) -> None:
        actor = self.actor
        self.deliver()
        for rung in sorted(actor.wanted & self.opened):
            self.output.packet(rung, actor.packet(rung, held=True, first=True))
            for _ in range(count % 4):
                actor.us += PERIOD_US
                self.output.packet(rung, actor.packet(rung, held=True))
        self.output.due((actor.run, actor.frame))

    def play(self, who: int, bits: int, count: int) -> None:
        for _ in range(count):
            self.next_frame(late=bool(self.actor.late))
            if len(self.actor.late) > who:
                self.deliver()

    def lag(self, who: int, bits: int, count: int) -> None:
        for _ in range(who + 1):
            self.next_frame(late=True)

    def next_frame(self, *, late: bool) -> None:
        actor = self.actor
        actor.frame += 1
        actor.us = max(actor.us, actor.frame * PERIOD_US)
        self.opened &= actor.wanted
        for rung in sorted(actor.wanted):
            packet = actor.packet(rung, first=rung not in self.opened)
            self.opened.add(rung)
            if late:
                actor.late.append((rung, packet))
            else:
                self.output.packet(rung, packet)
        self.output.due((actor.run, actor.frame))
        if self.output.review_at <= actor.now():
            self.output.review(actor.now())

    def deliver(self) -> None:
        """The packets that are late come now."""
        late, self.actor.late = self.actor.late, []
        for rung, packet in late:
            self.output.packet(rung, packet)
        self.output.due((self.actor.run, self.actor.frame))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [Scene.play] * 4
            + [Scene.join] * 2
            + [Scene.estimate] * 2
            + [Scene.leave, Scene.lose, Scene.lag, Scene.hold, Scene.start]
            + [Scene.record, Scene.refresh]
        ),
        st.integers(0, 3),
        st.sampled_from([200_000, 900_000, 1_700_000, 5_000_000]),
        st.integers(1, 90),
    ),
    max_size=60,
)


@given(STEPS)
@settings(deadline=None, max_examples=200)
def test_every_viewer_is_given_what_it_can_decode_in_rising_time(
    steps: list[tuple[Callable[[Scene, int, int, int], None], int, int, int]],
) -> None:
    scene = Scene()
    for step, who, bits, count in steps:
        step(scene, who, bits, count)
    scene.deliver()
    for viewer in (*scene.viewers, scene.recorder):
        scene.output.leave(viewer)
    assert scene.actor.wanted == set(), "nothing is wanted when everybody has left"
