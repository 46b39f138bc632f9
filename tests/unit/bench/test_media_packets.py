"""What the benchmark makes of the packets that arrived."""

from __future__ import annotations

import itertools
import math
import struct

import pytest

from tests.bench.media import packets
from tests.bench.media.packets import Frame, Packet

pytestmark = pytest.mark.unit

MS = 1_000_000
PERIOD = 3750
PERIOD_MS = 1e3 / 24


def sent(frames: int, *, each: int = 3, sequence: int = 0, timestamp: int = 0) -> list[Packet]:
    """Packets of an even stream, as they arrive."""
    return [
        Packet(
            arrival_ns=round((frame * PERIOD_MS + part * 0.1) * MS),
            size=1200,
            payload_type=97,
            marker=part == each - 1,
            sequence=(sequence + frame * each + part) % 2**16,
            timestamp=(timestamp + frame * PERIOD) % 2**32,
            ssrc=7,
        )
        for frame in range(frames)
        for part in range(each)
    ]


def test_a_header_is_read_as_rfc_3550_writes_it() -> None:
    header = struct.pack("!BBHII", 0x80, 0x80 | 97, 65535, 4_000_000_000, 7)
    assert packets.parse(5, header + b"rest", 99) == Packet(
        5, 99, 97, marker=True, sequence=65535, timestamp=4_000_000_000, ssrc=7
    )
    assert packets.parse(5, b"\x00" + header[1:], 99) is None
    assert packets.parse(5, header[:11], 11) is None


def test_packets_of_a_timestamp_are_one_frame() -> None:
    stream = packets.stream(sent(48))
    assert [frame.packets for frame in stream.frames] == [3] * 48
    assert all(frame.complete for frame in stream.frames)
    assert (stream.lost, stream.bytes) == (0, 48 * 3 * 1200)
    assert packets.rate(stream.frames) == pytest.approx(24, abs=0.01)


def test_counters_that_start_again_are_counted_on() -> None:
    stream = packets.stream(sent(48, sequence=65_500, timestamp=2**32 - 10 * PERIOD))
    assert stream.lost == 0
    times = [frame.timestamp for frame in stream.frames]
    assert {after - before for before, after in itertools.pairwise(times)} == {PERIOD}


def test_a_packet_that_never_came_is_lost_and_one_that_came_twice_is_not_two() -> None:
    came = sent(10)
    del came[13]
    came.insert(20, came[19])
    stream = packets.stream(came)
    assert stream.lost == 1
    assert stream.frames[4].packets == 2


def test_a_frame_without_its_marker_is_not_complete() -> None:
    came = sent(3)
    del came[5]
    assert [frame.complete for frame in packets.stream(came).frames] == [True, False, True]


def test_retransmissions_and_smaller_streams_are_left_out() -> None:
    other = [
        Packet(0, 60, kind, marker=False, sequence=1, timestamp=0, ssrc=ssrc)
        for kind, ssrc in ((98, 9), (97, 8))
    ]
    stream = packets.stream([*other, *sent(4)], frozenset({98}))
    assert len(stream.frames) == 4
    assert packets.stream([]).frames == ()


def frame(number: int, last_ms: float) -> Frame:
    return Frame(number * PERIOD, round(last_ms * MS), round(last_ms * MS), 1, 1, complete=True)


def test_an_even_stream_is_not_late_however_long_it_took() -> None:
    frames = [frame(number, 500 + number * PERIOD_MS) for number in range(48)]
    assert max(packets.lateness_ms(frames)) == pytest.approx(0, abs=0.01)


def test_a_frame_that_comes_late_is_late_by_as_much_and_moves_no_other() -> None:
    frames = [
        frame(number, number * 1e3 / 24 + (30 if number == 20 else 0)) for number in range(48)
    ]
    late = packets.lateness_ms(frames)
    assert late[20] == pytest.approx(30, abs=0.01)
    assert sum(late) == pytest.approx(30, abs=0.1)


def test_gaps_are_between_complete_frames() -> None:
    frames = [frame(0, 0), frame(1, 40), frame(2, 290)]
    assert packets.gaps_ms(frames) == [40, 250]


def test_a_percentile_is_one_of_the_values() -> None:
    assert packets.percentile([3, 1, 2, 4], 0.5) == 2
    assert packets.percentile([3, 1, 2, 4], 0.99) == 4
    assert math.isnan(packets.percentile([], 0.5))
