"""From an output's packets to its viewers."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from gateway.fanout import ASK_AGAIN_S, EARLY_PACKETS, JOIN_CACHE_US, OutputFanout, Packet
from gateway.ports import EncodedFrame
from gateway.rungs import BITRATES, GOOD_FOR_S, LOW, MAIN, NOMINAL_BITRATE, POOR_FOR_S
from sana_gateway.v1 import media_pb2

pytestmark = pytest.mark.unit

PERIOD_US = 40_000


@dataclass(eq=False)
class Watcher:
    """A viewer that remembers."""

    frames: list[EncodedFrame] = field(default_factory=list)
    told: list[media_pb2.ViewerStats] = field(default_factory=list)

    def frame(self, frame: EncodedFrame) -> None:
        assert not self.frames or frame.timestamp_us > self.frames[-1].timestamp_us
        self.frames.append(frame)

    def stats(self, stats: media_pb2.ViewerStats) -> None:
        self.told.append(stats)

    @property
    def numbers(self) -> list[int]:
        return [frame.frame for frame in self.frames]

    @property
    def rungs(self) -> list[int]:
        return [frame.rung for frame in self.frames]


@dataclass(frozen=True)
class Demand:
    """What the actor was told of a rung."""

    rung: int
    wanted: bool
    keyframe: bool = False
    bitrate: int = 0
    recorded: bool = False


class Bench:
    """An output and its session, with a hand-moved clock: frame *n* is due 40 ms after *n* - 1."""

    def __init__(self) -> None:
        self.demands: list[Demand] = []
        self.output = OutputFanout(media_pb2.CODEC_VP8, self)
        self.run = 1
        self.us = 0
        self.reached = (0, -1)

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
        assert codec == media_pb2.CODEC_VP8
        self.demands.append(
            Demand(rung, wanted=wanted, keyframe=keyframe, bitrate=bitrate, recorded=recorded)
        )

    def now(self) -> float:
        return 100.0 + self.us / 1e6

    def position_us(self) -> int:
        return self.us

    def stamp_us(self, at: tuple[int, int]) -> int:
        return at[1] * PERIOD_US

    def chunk_begins(self, frame: EncodedFrame) -> media_pb2.ViewerStats:
        return media_pb2.ViewerStats(run=frame.run, chunk=frame.chunk, frame=frame.frame)

    def packet(
        self, frame: int, *, key: bool = False, held: bool = False, rung: int = MAIN
    ) -> None:
        at = (self.run, frame)
        self.output.packet(rung, Packet(at, frame // 10, key, held, 0, b"x%d" % frame))

    def due(self, frame: int) -> None:
        self.us = max(self.us, frame * PERIOD_US)
        self.reached = (self.run, frame)
        self.output.due(self.reached)

    def show(self, *frames: int, key: int = -1, rung: int = MAIN) -> None:
        """Frames that come in time; `key` is the keyframe among them."""
        for number in frames:
            self.packet(number, key=number == key, rung=rung)
            self.due(number)

    def asked(self) -> list[int]:
        """Returns the rungs of which a keyframe was asked for since, and forgets it."""
        asked = [demand.rung for demand in self.demands if demand.keyframe]
        self.demands.clear()
        return asked

    def poor(self, watcher: Watcher, bits_per_second: int = 500_000) -> None:
        """A viewer is poor for long enough to be sent to the low rung."""
        self.output.estimate(watcher, bits_per_second)
        self.us += round(POOR_FOR_S * 1e6) + 1
        self.output.review(self.now())


def test_a_packet_waits_until_its_frame_is_due() -> None:
    bench, watcher = Bench(), Watcher()
    bench.output.join(watcher)
    bench.packet(0, key=True)
    bench.packet(1)
    assert watcher.numbers == []
    bench.due(0)
    assert watcher.numbers == [0]
    bench.due(1)
    assert watcher.numbers == [0, 1]


def test_a_late_packet_leaves_at_once_with_the_time_it_was_due() -> None:
    bench, watcher = Bench(), Watcher()
    bench.output.join(watcher)
    bench.due(0)
    bench.us += 30_000
    bench.packet(0, key=True)
    bench.output.due((1, 0))
    assert [frame.timestamp_us for frame in watcher.frames] == [0]


def test_a_viewer_sees_nothing_before_a_keyframe() -> None:
    bench, watcher = Bench(), Watcher()
    bench.output.join(watcher)
    assert bench.demands == [Demand(MAIN, wanted=True, keyframe=True)]
    bench.show(0, 1, 2, 3, key=2)
    assert watcher.numbers == [2, 3]


def test_packets_of_a_rung_that_nobody_watches_are_not_kept() -> None:
    bench, watcher = Bench(), Watcher()
    bench.packet(0, key=True)
    bench.output.join(watcher)
    bench.packet(1, key=True, rung=LOW)
    bench.due(1)
    assert watcher.numbers == []


def test_a_joiner_gets_the_packets_since_a_fresh_keyframe_and_nobody_pays() -> None:
    bench, first, second = Bench(), Watcher(), Watcher()
    bench.output.join(first)
    bench.show(0, 1, 2, key=0)
    bench.asked()
    bench.us += JOIN_CACHE_US // 2
    bench.output.join(second)
    assert second.numbers == [0, 1, 2]
    assert bench.demands == []
    span_us = second.frames[-1].timestamp_us - second.frames[0].timestamp_us
    assert span_us < PERIOD_US, "it is to catch up, not to be half a second behind"
    bench.show(10)
    assert first.numbers == [0, 1, 2, 10]
    assert second.numbers == [0, 1, 2, 10]


def test_who_comes_back_is_given_nothing_with_a_time_it_has_had() -> None:
    bench, watcher, other = Bench(), Watcher(), Watcher()
    bench.output.join(watcher)
    bench.output.join(other)
    bench.show(0, 1, 2, key=0)
    bench.output.leave(watcher)
    bench.output.join(watcher)
    assert watcher.numbers == [0, 1, 2, 0, 1, 2], "the watcher checks the times"


def test_a_joiner_asks_for_a_keyframe_when_the_last_one_is_old() -> None:
    bench, first, second = Bench(), Watcher(), Watcher()
    bench.output.join(first)
    bench.show(0, 14, key=0)
    bench.asked()
    bench.output.join(second)
    assert second.numbers == []
    assert bench.asked() == [MAIN]
    bench.show(15, 16, key=15)
    assert first.numbers == [0, 14, 15, 16], "the others get that keyframe, and that is all"
    assert second.numbers == [15, 16]


def test_a_keyframe_that_is_on_its_way_is_not_asked_for_again_until_it_is_overdue() -> None:
    bench, watcher = Bench(), Watcher()
    bench.output.join(watcher)
    bench.show(0, 1, key=0)
    bench.asked()
    bench.output.keyframe(watcher)
    bench.output.keyframe(watcher)
    assert bench.asked() == [MAIN]
    bench.us += round(ASK_AGAIN_S * 1e6)
    bench.output.keyframe(watcher)
    assert bench.asked() == [MAIN]
    bench.packet(20, key=True)
    bench.output.keyframe(watcher)
    assert bench.asked() == [], "it is here and waits for its time"
    bench.due(20)
    assert watcher.numbers == [0, 1, 20]


def test_a_viewer_that_lost_the_picture_is_given_nothing_until_a_keyframe() -> None:
    bench, watcher, other = Bench(), Watcher(), Watcher()
    bench.output.join(watcher)
    bench.output.join(other)
    bench.show(0, 1, key=0)
    bench.output.keyframe(watcher)
    bench.show(2, 3, 4, key=3)
    assert watcher.numbers == [0, 1, 3, 4]
    assert other.numbers == [0, 1, 2, 3, 4]


def test_a_held_picture_leaves_at_once_and_timestamps_keep_rising() -> None:
    bench, watcher = Bench(), Watcher()
    bench.output.join(watcher)
    bench.show(5, key=5)
    bench.us += 500_000
    bench.packet(5, key=True, held=True)
    bench.output.due((1, 5))
    assert watcher.numbers == [5, 5]
    assert [frame.held for frame in watcher.frames] == [False, True]
    assert [frame.timestamp_us for frame in watcher.frames] == [200_000, 700_000]
    assert len(watcher.told) == 1, "a held picture begins no chunk"


def test_a_held_picture_waits_behind_the_frames_before_it() -> None:
    bench, watcher = Bench(), Watcher()
    bench.output.join(watcher)
    bench.show(0, key=0)
    bench.packet(1)
    bench.packet(1, key=True, held=True)
    bench.output.due((1, 0))
    assert watcher.numbers == [0]
    bench.due(1)
    assert watcher.numbers == [0, 1, 1]


def test_a_joiner_gets_the_held_picture_at_once_however_old_and_nobody_pays() -> None:
    bench, first, second = Bench(), Watcher(), Watcher()
    bench.output.join(first)
    bench.show(0, key=0)
    bench.packet(0, key=True, held=True)
    bench.output.due((1, 0))
    bench.us += 60_000_000
    bench.asked()
    bench.output.join(second)
    assert [(frame.frame, frame.held) for frame in second.frames] == [(0, True)]
    assert second.frames[0].timestamp_us == bench.us, "it is shown from now on"
    assert bench.demands == []
    bench.output.leave(second)
    bench.output.join(second)
    assert second.numbers == [0, 0]
    bench.us += 1_000_000
    bench.show(1600)
    bench.output.join(third := Watcher())
    assert third.numbers == [], "the picture holds no more"


def test_a_joiner_gets_all_of_a_held_picture_that_was_mended_and_then_what_follows() -> None:
    bench, first, second = Bench(), Watcher(), Watcher()
    bench.output.join(first)
    bench.show(0, key=0)
    for number in range(20):
        bench.us += PERIOD_US
        bench.packet(0, key=number == 0, held=True)
        bench.output.due((1, 0))
    bench.us += 5_000_000
    bench.asked()
    bench.output.join(second)
    assert [frame.keyframe for frame in second.frames] == [True] + [False] * 19
    assert second.frames[-1].timestamp_us == pytest.approx(bench.us, abs=1000)
    assert bench.demands == []
    bench.show(200)
    assert first.numbers[-1] == second.numbers[-1] == 200


def test_the_picture_that_holds_is_at_hand_also_once_nobody_watches() -> None:
    bench, watcher = Bench(), Watcher()
    bench.output.join(watcher)
    bench.show(0, 1, key=0)
    assert bench.output.held == ()
    for number in range(3):
        bench.packet(1, key=number == 0, held=True)
        bench.output.due((1, 1))
    bench.output.leave(watcher)
    assert [(each.frame, each.keyframe) for each in bench.output.held] == [
        (1, True),
        (1, False),
        (1, False),
    ]
    bench.due(2)
    assert bench.output.held == (), "another one is shown"


def test_a_reset_while_the_picture_holds_leaves_it_to_joiners() -> None:
    bench, first, second = Bench(), Watcher(), Watcher()
    bench.output.join(first)
    bench.show(0, key=0)
    bench.packet(0, key=True, held=True)
    bench.output.due((1, 0))
    bench.output.abandon(2)
    bench.packet(0, held=True)
    bench.output.due((1, 0))
    bench.output.join(second)
    assert second.numbers == [0, 0]
    assert first.numbers == [0, 0, 0]


def test_after_an_abandoned_run_only_a_keyframe_goes_out() -> None:
    bench, watcher = Bench(), Watcher()
    bench.output.join(watcher)
    bench.show(0, key=0)
    bench.packet(1)
    asked = len(bench.demands)
    bench.output.abandon(2)
    bench.run = 2
    bench.show(1, 2, key=2)
    assert [(frame.run, frame.frame) for frame in watcher.frames] == [(1, 0), (2, 2)]
    assert len(bench.demands) == asked, "the actor begins a run with a keyframe by itself"


def test_packets_of_the_next_run_that_came_before_the_end_of_the_last_are_kept() -> None:
    bench, watcher = Bench(), Watcher()
    bench.output.join(watcher)
    bench.show(0, key=0)
    bench.packet(1)
    bench.run = 2
    bench.packet(2, key=True)
    bench.packet(3)
    bench.output.abandon(2)
    bench.due(3)
    assert [(frame.run, frame.frame) for frame in watcher.frames] == [(1, 0), (2, 2), (2, 3)]


def test_nobody_who_joins_after_an_abandoned_run_is_shown_what_it_left() -> None:
    bench, first, second = Bench(), Watcher(), Watcher()
    bench.output.join(first)
    bench.show(0, key=0)
    bench.output.abandon(2)
    bench.asked()
    bench.output.join(second)
    assert second.numbers == []
    assert bench.asked() == [MAIN]


def test_too_many_early_packets_are_dropped_up_to_the_next_keyframe() -> None:
    bench, watcher = Bench(), Watcher()
    bench.output.join(watcher)
    bench.show(0, key=0)
    bench.asked()
    for number in range(1, EARLY_PACKETS + 2):
        bench.packet(number)
    assert bench.asked() == [MAIN]
    bench.due(EARLY_PACKETS + 1)
    assert watcher.numbers == [0]
    bench.show(EARLY_PACKETS + 2, key=EARLY_PACKETS + 2)
    assert watcher.numbers == [0, EARLY_PACKETS + 2]


def test_the_output_is_not_wanted_once_nobody_watches() -> None:
    bench, first, second = Bench(), Watcher(), Watcher()
    bench.output.join(first)
    bench.output.join(second)
    bench.output.leave(first)
    assert all(demand.wanted for demand in bench.demands)
    bench.output.leave(second)
    assert bench.demands[-1] == Demand(MAIN, wanted=False)


def test_a_rate_is_passed_on_at_once_when_it_changes_enough() -> None:
    bench, poor, rich = Bench(), Watcher(), Watcher()
    bench.output.join(poor)
    bench.output.join(rich)
    bench.demands.clear()
    for estimate in (3_000_000, 3_100_000, 90_000_000):
        bench.output.estimate(rich, estimate)
    assert bench.demands == [
        Demand(MAIN, wanted=True, bitrate=3_000_000),
        Demand(MAIN, wanted=True, bitrate=BITRATES[MAIN][1]),
    ]


def test_a_poor_viewer_changes_to_the_low_rung_at_its_keyframe_without_a_gap() -> None:
    bench, poor, rich = Bench(), Watcher(), Watcher()
    bench.output.join(poor)
    bench.output.join(rich)
    bench.output.estimate(rich, 4_000_000)
    bench.show(0, key=0)
    bench.poor(poor)
    assert bench.demands[-1] == Demand(LOW, wanted=True, keyframe=True, bitrate=500_000)
    bench.show(76, 77)
    bench.packet(78)
    bench.packet(78, key=True, rung=LOW)
    bench.due(78)
    bench.packet(79)
    bench.packet(79, rung=LOW)
    bench.due(79)
    assert rich.numbers == poor.numbers == [0, 76, 77, 78, 79]
    assert rich.rungs == [0, 0, 0, 0, 0]
    assert poor.rungs == [0, 0, 0, 1, 1]


def test_a_late_keyframe_of_the_new_rung_repeats_a_picture_but_mixes_none() -> None:
    bench, poor, rich = Bench(), Watcher(), Watcher()
    bench.output.join(poor)
    bench.output.join(rich)
    bench.output.estimate(rich, 4_000_000)
    bench.show(0, key=0)
    bench.poor(poor)
    bench.show(76, 77)
    bench.packet(76, key=True, rung=LOW)
    bench.packet(77, rung=LOW)
    bench.output.due((1, 77))
    bench.show(78)
    bench.show(78, rung=LOW)
    assert poor.numbers == [0, 76, 77, 76, 77, 78]
    assert poor.rungs == [0, 0, 0, 1, 1, 1]
    assert poor.frames[-1].timestamp_us == 78 * PERIOD_US, "times are even again"


def test_a_rung_that_a_lone_viewer_has_left_is_wanted_no_more_and_wanted_again() -> None:
    bench, watcher = Bench(), Watcher()
    bench.output.join(watcher)
    bench.show(0, key=0)
    bench.poor(watcher)
    bench.demands.clear()
    bench.show(76, key=76, rung=LOW)
    assert bench.demands == [Demand(MAIN, wanted=False)]
    bench.output.estimate(watcher, 1_700_000)
    bench.us += round(GOOD_FOR_S * 1e6) + 1
    bench.output.review(bench.now())
    assert Demand(MAIN, wanted=True, keyframe=True, bitrate=1_700_000) in bench.demands
    bench.show(250, rung=LOW)
    bench.show(251, key=251)
    assert bench.demands[-1] == Demand(LOW, wanted=False)
    assert watcher.numbers == [0, 76, 250, 251]
    assert watcher.rungs == [0, 1, 1, 0]


def test_who_loses_the_picture_while_changing_rungs_goes_on_with_the_new_one() -> None:
    bench, watcher = Bench(), Watcher()
    bench.output.join(watcher)
    bench.show(0, key=0)
    bench.poor(watcher)
    bench.output.keyframe(watcher)
    bench.show(76, 77, key=77)
    assert watcher.numbers == [0]
    bench.show(78, 79, key=78, rung=LOW)
    assert watcher.numbers == [0, 78, 79]


def test_who_leaves_while_changing_rungs_leaves_both() -> None:
    bench, watcher = Bench(), Watcher()
    bench.output.join(watcher)
    bench.show(0, key=0)
    bench.poor(watcher)
    bench.demands.clear()
    bench.output.leave(watcher)
    assert {(demand.rung, demand.wanted) for demand in bench.demands} == {
        (MAIN, False),
        (LOW, False),
    }


def test_a_new_actor_is_told_of_both_rungs_and_their_rates() -> None:
    bench, poor, rich = Bench(), Watcher(), Watcher()
    bench.output.join(poor)
    bench.output.join(rich)
    bench.output.estimate(rich, 4_000_000)
    bench.poor(poor)
    bench.demands.clear()
    bench.output.demand_again()
    assert sorted(bench.demands, key=lambda demand: demand.rung) == [
        Demand(MAIN, wanted=True, keyframe=True, bitrate=4_000_000),
        Demand(LOW, wanted=True, keyframe=True, bitrate=500_000),
    ]


def test_every_viewer_is_told_of_every_chunk_right_after_its_first_frame() -> None:
    bench, poor, rich = Bench(), Watcher(), Watcher()
    bench.output.join(poor)
    bench.output.join(rich)
    bench.show(0, 1, key=0)
    bench.output.estimate(rich, 4_000_000)
    bench.poor(poor)
    bench.packet(90)
    bench.packet(90, key=True, rung=LOW)
    bench.due(90)
    bench.show(91)
    assert [(told.chunk, told.rung, told.bitrate) for told in rich.told] == [
        (0, MAIN, NOMINAL_BITRATE),
        (9, MAIN, 4_000_000),
    ]
    assert [(told.chunk, told.rung, told.bitrate) for told in poor.told] == [
        (0, MAIN, NOMINAL_BITRATE),
        (9, LOW, 500_000),
    ]
    assert rich.told[0] is not poor.told[0], "each completes its own"


def test_a_viewer_that_leaves_while_it_is_served_harms_nobody() -> None:
    bench, other = Bench(), Watcher()

    class Leaver(Watcher):
        def frame(self, frame: EncodedFrame) -> None:
            super().frame(frame)
            bench.output.leave(self)

    leaver = Leaver()
    bench.output.join(leaver)
    bench.output.join(other)
    bench.show(0, 1, key=0)
    assert leaver.numbers == [0]
    assert other.numbers == [0, 1]


def test_the_picture_that_holds_is_kept_while_nobody_watches() -> None:
    bench, first, second = Bench(), Watcher(), Watcher()
    bench.output.join(first)
    bench.show(0, 1, key=0)
    bench.packet(1, key=True, held=True)
    bench.due(1)
    bench.output.leave(first)
    bench.output.join(second)
    assert [(frame.frame, frame.held) for frame in second.frames] == [(1, True)]


def test_a_picture_that_held_once_is_not_shown_for_another() -> None:
    bench, first, second = Bench(), Watcher(), Watcher()
    bench.output.join(first)
    bench.show(0, 1, key=0)
    bench.packet(1, key=True, held=True)
    bench.due(1)
    bench.output.leave(first)
    bench.due(2)
    bench.asked()
    bench.output.join(second)
    assert second.frames == []
    assert bench.asked() == [MAIN]


def test_a_new_actor_begins_at_a_keyframe_and_takes_nothing_from_who_joins() -> None:
    bench, watcher, late = Bench(), Watcher(), Watcher()
    bench.output.join(watcher)
    bench.show(0, key=0)
    bench.packet(0, key=True, held=True)
    bench.due(0)
    bench.output.demand_again()
    bench.output.join(late)
    assert [frame.held for frame in late.frames] == [True]
    bench.show(1, 2, 3, key=2)
    assert watcher.numbers == [0, 0, 2, 3]


def test_what_follows_from_another_actor_begins_at_a_keyframe() -> None:
    bench, watcher = Bench(), Watcher()
    bench.output.join(watcher)
    bench.show(0, key=0)
    bench.output.follow()
    bench.show(1, 2, key=2)
    assert watcher.numbers == [0, 2]


def test_an_output_lacks_what_a_rung_that_is_watched_was_not_given() -> None:
    bench, watcher = Bench(), Watcher()
    assert not bench.output.lacks((1, 0)), "nobody watches"
    bench.output.join(watcher)
    bench.show(0, 1, key=0)
    assert bench.output.given == (1, 1)
    assert not bench.output.lacks((1, 1))
    assert bench.output.lacks((1, 2))
    bench.output.leave(watcher)
    assert bench.output.given is None
    assert bench.output.wanted == ()
