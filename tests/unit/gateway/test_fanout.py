"""From an output's packets to its viewers."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from gateway.fanout import EARLY_PACKETS, JOIN_CACHE_S, MAX_BITRATE, MIN_BITRATE, OutputFanout
from gateway.playout import Due
from gateway.ports import EncodedFrame
from sana_gateway.v1 import media_pb2
from sana_gateway_internal.v1 import stream_pb2

pytestmark = pytest.mark.unit


@dataclass(eq=False)
class Watcher:
    """A viewer that remembers."""

    frames: list[EncodedFrame] = field(default_factory=list)

    def frame(self, frame: EncodedFrame) -> None:
        self.frames.append(frame)

    @property
    def numbers(self) -> list[int]:
        return [frame.frame for frame in self.frames]


class Bench:
    """An output with a hand-moved clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.demands: list[tuple[bool, bool, int]] = []
        self.output = OutputFanout(media_pb2.CODEC_VP8, self._demand, lambda: self.now)
        self.run = 1

    def _demand(self, *, wanted: bool, keyframe: bool = False, bitrate: int = 0) -> None:
        self.demands.append((wanted, keyframe, bitrate))

    def packet(self, frame: int, *, key: bool = False, held: bool = False) -> None:
        self.output.packet(
            stream_pb2.VideoPacket(
                run=self.run, frame=frame, keyframe=key, held=held, data=b"x%d" % frame
            )
        )

    def due(self, frame: int) -> bool:
        due = Due(self.run, 0, frame, self.now, frame * 1000, last_of_chunk=False)
        return self.output.due(
            due, (self.run, frame), lambda packet: packet.frame * 1000 + 500_000 * packet.held
        )

    def late(self, reached: int) -> None:
        self.output.due(
            None, (self.run, reached), lambda packet: packet.frame * 1000 + 500_000 * packet.held
        )


def test_a_packet_waits_until_its_frame_is_due() -> None:
    bench, watcher = Bench(), Watcher()
    bench.output.join(watcher)
    bench.packet(0, key=True)
    bench.packet(1)
    assert watcher.numbers == []
    assert bench.due(0)
    assert watcher.numbers == [0]
    assert bench.due(1)
    assert watcher.numbers == [0, 1]


def test_a_late_packet_leaves_at_once_with_the_time_it_was_due() -> None:
    bench, watcher = Bench(), Watcher()
    bench.output.join(watcher)
    assert not bench.due(0)
    bench.packet(0, key=True)
    bench.late(reached=0)
    assert [frame.timestamp_us for frame in watcher.frames] == [0]


def test_a_viewer_sees_nothing_before_a_keyframe() -> None:
    bench, watcher = Bench(), Watcher()
    bench.output.join(watcher)
    assert bench.demands[-1] == (True, True, 0)
    for number, key in enumerate((False, False, True, False)):
        bench.packet(number, key=key)
        bench.due(number)
    assert watcher.numbers == [2, 3]


def test_a_joiner_gets_the_packets_since_a_fresh_keyframe_and_nobody_pays() -> None:
    bench, first, second = Bench(), Watcher(), Watcher()
    bench.output.join(first)
    for number in range(3):
        bench.packet(number, key=number == 0)
        bench.due(number)
    bench.now += JOIN_CACHE_S / 2
    bench.output.join(second)
    assert second.numbers == [0, 1, 2]
    assert bench.demands[-1] == (True, False, 0)


def test_a_joiner_asks_for_a_keyframe_when_the_last_one_is_old() -> None:
    bench, first, second = Bench(), Watcher(), Watcher()
    bench.output.join(first)
    bench.packet(0, key=True)
    bench.due(0)
    bench.now += JOIN_CACHE_S * 2
    bench.packet(1)
    bench.due(1)
    bench.output.join(second)
    assert second.numbers == []
    assert bench.demands[-1] == (True, True, 0)


def test_a_held_picture_leaves_at_once_and_timestamps_keep_rising() -> None:
    bench, watcher = Bench(), Watcher()
    bench.output.join(watcher)
    bench.packet(5, key=True)
    bench.due(5)
    bench.packet(5, key=True, held=True)
    bench.late(reached=5)
    assert watcher.numbers == [5, 5]
    assert [frame.timestamp_us for frame in watcher.frames] == [5_000, 505_000]


def test_after_an_abandoned_run_only_a_keyframe_goes_out() -> None:
    bench, watcher = Bench(), Watcher()
    bench.output.join(watcher)
    bench.packet(0, key=True)
    bench.due(0)
    bench.packet(1)
    asked = len(bench.demands)
    bench.output.abandon()
    bench.run = 2
    bench.packet(0)
    bench.due(0)
    bench.packet(1, key=True)
    bench.due(1)
    assert [(frame.run, frame.frame) for frame in watcher.frames] == [(1, 0), (2, 1)]
    assert len(bench.demands) == asked, "the actor begins a run with a keyframe by itself"


def test_nobody_who_joins_after_an_abandoned_run_is_shown_what_it_left() -> None:
    bench, first, second = Bench(), Watcher(), Watcher()
    bench.output.join(first)
    bench.packet(0, key=True)
    bench.due(0)
    bench.output.abandon()
    bench.output.join(second)
    assert second.numbers == []
    assert bench.demands[-1] == (True, True, 0)


def test_too_many_early_packets_are_dropped_up_to_the_next_keyframe() -> None:
    bench, watcher = Bench(), Watcher()
    bench.output.join(watcher)
    bench.packet(0, key=True)
    bench.due(0)
    for number in range(1, EARLY_PACKETS + 2):
        bench.packet(number)
    assert bench.demands[-1] == (True, True, 0)
    bench.due(EARLY_PACKETS + 1)
    assert watcher.numbers == [0]
    bench.packet(EARLY_PACKETS + 2, key=True)
    bench.due(EARLY_PACKETS + 2)
    assert watcher.numbers == [0, EARLY_PACKETS + 2]


def test_the_output_is_not_wanted_once_nobody_watches() -> None:
    bench, first, second = Bench(), Watcher(), Watcher()
    bench.output.join(first)
    bench.output.join(second)
    bench.output.leave(first)
    assert bench.demands[-1][0]
    bench.output.leave(second)
    assert bench.demands[-1] == (False, False, 0)


def test_the_best_viewer_sets_the_rate_within_its_bounds() -> None:
    bench, poor, rich = Bench(), Watcher(), Watcher()
    bench.output.join(poor)
    bench.output.join(rich)
    bench.output.estimate(poor, 100_000)
    assert bench.demands[-1] == (True, False, MIN_BITRATE)
    bench.output.estimate(rich, 3_000_000)
    assert bench.demands[-1] == (True, False, 3_000_000)
    bench.output.estimate(rich, 3_100_000)
    assert bench.demands[-1] == (True, False, 3_000_000)
    bench.output.estimate(rich, 90_000_000)
    assert bench.demands[-1] == (True, False, MAX_BITRATE)


def test_a_viewer_that_leaves_while_it_is_served_harms_nobody() -> None:
    bench, other = Bench(), Watcher()

    class Leaver(Watcher):
        def frame(self, frame: EncodedFrame) -> None:
            super().frame(frame)
            bench.output.leave(self)

    leaver = Leaver()
    bench.output.join(leaver)
    bench.output.join(other)
    bench.packet(0, key=True)
    bench.due(0)
    bench.packet(1)
    bench.due(1)
    assert leaver.numbers == [0]
    assert other.numbers == [0, 1]
