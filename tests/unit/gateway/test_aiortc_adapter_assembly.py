"""From packets to frames."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.webrtc.assembly import (
    CAPACITY,
    CLOCK_RATE,
    MAX_FRAME_BYTES,
    PATIENCE_S,
    AssembledFrame,
    FrameAssembler,
    MediaClock,
    RtpPayload,
    is_keyframe,
)
from sana_gateway.v1 import media_pb2

pytestmark = pytest.mark.unit

H264, VP8 = media_pb2.CODEC_H264, media_pb2.CODEC_VP8
VP8_KEY = b"\x10\x02\x00\x9d\x01\x2a" + bytes(10)
VP8_DELTA = b"\x11\x02\x00" + bytes(10)
SPS, PPS, SEI, IDR, SLICE = (b"\x00\x00\x00\x01" + bytes([n]) + b"x" for n in (7, 8, 6, 0x65, 0x41))
TICKS = CLOCK_RATE // 25
PERIOD_S = 0.04


def packets(
    frames: list[bytes], *, parts: int = 3, first: int = 65_530, ssrc: int = 1, start: int = 0
) -> list[RtpPayload]:
    """Cuts frames into packets; sequence numbers wrap, timestamps too."""
    sequence = itertools.count(first)
    cut = []
    for index, data in enumerate(frames):
        size = -(-len(data) // parts)
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        for number, piece in enumerate(pieces):
            timestamp = (2**32 - 3 * TICKS + (start + index) * TICKS) % 2**32
            cut.append(
                RtpPayload(
                    ssrc=ssrc,
                    sequence=next(sequence) % 2**16,
                    timestamp=timestamp,
                    marker=number == len(pieces) - 1,
                    codec=VP8,
                    data=piece,
                )
            )
    return cut


def feed(
    assembler: FrameAssembler, given_packets: list[RtpPayload], now: float = 0.0
) -> list[AssembledFrame]:
    return [frame for packet in given_packets for frame in assembler.add(packet, now)]


@pytest.mark.parametrize(
    ("codec", "data", "expected"),
    [
        (VP8, VP8_KEY, True),
        (VP8, VP8_DELTA, False),
        (VP8, VP8_KEY[:5], False),
        (VP8, b"\x10\x02\x00" + bytes(10), False),
        (VP8, b"", False),
        (H264, SPS + PPS + IDR, True),
        (H264, SPS + PPS + SEI + IDR + IDR, True),
        (H264, SPS.replace(b"\x00\x00\x00\x01", b"\x00\x00\x01") + PPS + IDR, True),
        (H264, IDR, False),
        (H264, SPS + IDR, False),
        (H264, SPS + PPS, False),
        (H264, SLICE, False),
        (H264, SLICE + SPS + PPS + IDR, False),
        (H264, b"\x00\x00\x01", False),
        (H264, b"", False),
    ],
)
def test_a_keyframe_is_what_a_new_decoder_can_begin_with(
    codec: media_pb2.Codec.ValueType, data: bytes, expected: bool
) -> None:
    assert is_keyframe(codec, data) is expected


def test_a_frame_is_released_with_its_last_packet() -> None:
    assembler = FrameAssembler()
    *begin, last = packets([VP8_KEY])
    assert feed(assembler, begin) == []
    (frame,) = assembler.add(last, 0.0)
    assert frame == AssembledFrame(
        data=VP8_KEY, keyframe=True, codec=VP8, timestamp_us=0, discontinuity=False
    )


def test_frames_follow_across_the_wrap_of_sequence_and_timestamp() -> None:
    frames = feed(FrameAssembler(), packets([VP8_KEY] + [VP8_DELTA] * 20))
    assert [frame.timestamp_us for frame in frames] == [40_000 * n for n in range(21)]
    assert [frame.keyframe for frame in frames] == [True] + [False] * 20


def test_a_sender_without_marker_bits_is_understood_one_frame_later() -> None:
    cut = packets([VP8_KEY, VP8_DELTA], parts=2)
    cut = [each._replace(marker=False) for each in cut]
    assembler = FrameAssembler()
    assert feed(assembler, cut[:2]) == []
    assert [frame.data for frame in feed(assembler, cut[2:])] == [VP8_KEY]


def test_a_stream_joined_in_the_middle_begins_at_its_next_keyframe() -> None:
    assembler = FrameAssembler()
    cut = packets([VP8_KEY, VP8_DELTA, VP8_KEY])
    assert feed(assembler, cut[2:6]) == []
    assert assembler.keyframe_wanted
    (frame,) = feed(assembler, cut[6:])
    assert frame.keyframe
    assert not frame.discontinuity
    assert not assembler.keyframe_wanted


def test_packets_that_overtake_each_other_are_put_in_order() -> None:
    cut = packets([VP8_KEY, VP8_DELTA, VP8_DELTA])
    late = [cut[0], *cut[3:], cut[2], cut[1], cut[2]]
    frames = feed(FrameAssembler(), late)
    assert [frame.data for frame in frames] == [VP8_KEY, VP8_DELTA, VP8_DELTA]
    assert not any(frame.discontinuity for frame in frames)


def test_what_follows_a_loss_is_discarded_up_to_a_keyframe() -> None:
    assembler = FrameAssembler()
    cut = packets([VP8_KEY, VP8_DELTA, VP8_DELTA, VP8_DELTA, VP8_KEY, VP8_DELTA])
    assert len(feed(assembler, cut[:3])) == 1
    del cut[4]
    assert feed(assembler, cut[3:11], 1.0) == []
    assert not assembler.keyframe_wanted, "the packet may still come"
    frames = feed(assembler, cut[11:], 1.0 + PATIENCE_S)
    assert [frame.keyframe for frame in frames] == [True, False]
    assert [frame.discontinuity for frame in frames] == [True, False]
    assert [frame.timestamp_us for frame in frames] == [160_000, 200_000]


def test_a_long_round_trip_is_waited_for() -> None:
    assembler = FrameAssembler()
    assembler.patience_s = 1.0
    cut = packets([VP8_KEY, VP8_DELTA, VP8_DELTA])
    feed(assembler, cut[:3])
    feed(assembler, cut[4:8], 1.0)
    assert feed(assembler, cut[8:], 1.9) == []
    assert len(assembler.add(cut[3], 1.95)) == 2


def test_a_packet_costs_the_same_however_many_wait() -> None:
    """Every second packet is lost, and all gaps are given up at once: no gap is searched twice."""
    assembler = FrameAssembler()
    cut = packets([VP8_DELTA] * (CAPACITY // 2 + 1), parts=2, first=0)
    looked = 0

    class Counting(dict[int, object]):
        def __contains__(self, key: object) -> bool:
            nonlocal looked
            looked += 1
            return super().__contains__(key)

        def __iter__(self) -> Iterator[int]:
            nonlocal looked
            looked += 1
            return super().__iter__()

    assembler._waiting = Counting()
    assembler.add(cut[0], 0.0)
    for packet in cut[2:CAPACITY:2]:
        assembler.add(packet, 0.0)
        assert looked <= 4
        looked = 0
    assembler.add(cut[CAPACITY], PATIENCE_S)
    assert looked <= 3 * CAPACITY


def test_a_loss_wants_a_keyframe_once_it_is_given_up() -> None:
    assembler = FrameAssembler()
    cut = packets([VP8_KEY, VP8_DELTA, VP8_DELTA, VP8_DELTA])
    feed(assembler, cut[:4])
    feed(assembler, cut[5:9], 1.0)
    assert feed(assembler, cut[9:], 1.0 + PATIENCE_S) == []
    assert assembler.keyframe_wanted


def test_padding_belongs_to_no_frame() -> None:
    first, second = packets([VP8_KEY, VP8_DELTA], parts=1, first=10)
    padding = first._replace(sequence=11, marker=False, data=b"")
    second = second._replace(sequence=12)
    frames = feed(FrameAssembler(), [first, padding, second])
    assert [frame.data for frame in frames] == [VP8_KEY, VP8_DELTA]


def test_a_new_stream_starts_with_its_keyframe_later_on_the_same_clock() -> None:
    assembler = FrameAssembler()
    feed(assembler, packets([VP8_KEY, VP8_DELTA]), 1.0)
    (frame,) = feed(assembler, packets([VP8_KEY], ssrc=2, first=7, start=900_000), 3.0)
    assert frame.discontinuity
    assert frame.timestamp_us == 40_000 + 2_000_000
    assert not assembler.keyframe_wanted


def test_a_change_of_codec_starts_with_a_keyframe() -> None:
    assembler = FrameAssembler()
    first, second, third = packets([VP8_KEY] * 3, parts=1, first=1)
    feed(assembler, [first])
    assert assembler.add(second._replace(codec=H264, data=SLICE), 0.0) == []
    (frame,) = assembler.add(third._replace(codec=H264, data=SPS + PPS + IDR), 0.0)
    assert (frame.codec, frame.keyframe, frame.discontinuity) == (H264, True, True)


def test_a_jump_in_the_sequence_begins_anew() -> None:
    assembler = FrameAssembler()
    feed(assembler, packets([VP8_KEY], first=0))
    assert feed(assembler, packets([VP8_DELTA], first=3 + CAPACITY)) == []
    assert assembler.keyframe_wanted
    frames = feed(assembler, packets([VP8_KEY], first=30_000))
    assert [frame.discontinuity for frame in frames] == [True]


def test_a_packet_long_past_is_ignored() -> None:
    assembler = FrameAssembler()
    cut = packets([VP8_KEY] + [VP8_DELTA] * 5)
    feed(assembler, cut)
    assert feed(assembler, cut) == []
    assert not assembler.keyframe_wanted


def test_an_endless_frame_is_given_up() -> None:
    assembler = FrameAssembler()
    first, second = packets([VP8_KEY, VP8_DELTA], parts=1, first=0)
    feed(assembler, [first])
    endless = second._replace(marker=False, data=bytes(1200))
    for sequence in range(1, 2 * MAX_FRAME_BYTES // 1200):
        assert assembler.add(endless._replace(sequence=sequence), 0.0) == []
        assert assembler._size <= MAX_FRAME_BYTES
    assert assembler.keyframe_wanted


@given(st.randoms(use_true_random=False), st.floats(0, 0.3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_under_loss_and_disorder_frames_are_whole_in_order_and_bounded(
    chance: random.Random, loss: float, shuffle: bool
) -> None:
    originals = [
        (VP8_KEY if index % 7 == 0 else VP8_DELTA) + index.to_bytes(2, "big") for index in range(60)
    ]
    timed = [
        (index // 3 * PERIOD_S + (chance.uniform(0, 0.1) if shuffle else 0), packet)
        for index, packet in enumerate(packets(originals))
        if chance.random() >= loss
    ]
    timed.sort(key=lambda each: each[0])
    assembler = FrameAssembler()
    frames: list[AssembledFrame] = []
    for now, packet in timed:
        frames += assembler.add(packet, now)
        assert len(assembler._waiting) <= CAPACITY
    indices = [originals.index(frame.data) for frame in frames]
    assert indices == sorted(set(indices))
    assert not frames or frames[0].keyframe
    for before, after, frame in zip(indices, indices[1:], frames[1:], strict=False):
        assert frame.discontinuity == (after != before + 1) or frame.keyframe
        assert after == before + 1 or frame.keyframe
    times = [frame.timestamp_us for frame in frames]
    assert times == sorted(times)


def test_a_clock_never_falls_whatever_the_publisher_says() -> None:
    clock = MediaClock()
    chance = random.Random(3)
    times = [clock.map(chance.randrange(2**32), now / 10) for now in range(500)]
    assert times == sorted(times)


def test_a_clock_that_jumps_back_goes_on_with_the_time_of_arrival() -> None:
    clock = MediaClock()
    assert clock.map(5_000_000, 10.0) == 0
    assert clock.map(5_000_000 + CLOCK_RATE, 11.0) == 1_000_000
    assert clock.map(4_000_000, 11.5) == 1_500_000
    assert clock.map(4_000_000 + CLOCK_RATE, 12.5) == 2_500_000


def test_a_clock_keeps_exact_time_over_many_wraps() -> None:
    clock = MediaClock()
    step = 2**30 + 12_345
    total = 0
    for _ in range(40):
        now = total / CLOCK_RATE
        assert clock.map((77 + total) % 2**32, now) == total * 1_000_000 // CLOCK_RATE
        total += step


def test_a_clock_that_runs_ahead_is_bridged_with_the_time_of_arrival() -> None:
    clock = MediaClock()
    clock.map(0, 10.0)
    hour = 3600 * CLOCK_RATE
    assert clock.map(hour, 11.0) == 1_000_000, "a replaced track"
    assert clock.map(hour + 60 * CLOCK_RATE, 71.0) == 61_000_000, "a camera muted for a minute"
    assert clock.map(hour + 62 * CLOCK_RATE, 71.1) == 63_000_000, "a network that hung"
