"""Transport-wide feedback: what it says, and that nothing malformed gets through."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from aiortc.rtp import RtcpPacket, RtcpRrPacket
from hypothesis import given
from hypothesis import strategies as st

from gateway.webrtc.feedback import MAX_STATUSES, parse_feedback, split
from tests.fakes.transport_feedback import TICK_US, feedback_content, feedback_packet

pytestmark = pytest.mark.unit

HEAD = struct.pack("!LL", 1, 2)


def content(count: int, chunks: bytes, deltas: bytes = b"", *, first: int = 7) -> bytes:
    return HEAD + struct.pack("!HH", first, count) + b"\0\0\1\0" + chunks + deltas


@given(
    st.integers(0, 0xFFFF),
    st.lists(st.none() | st.integers(-8000, 8000), min_size=1, max_size=200),
)
def test_what_was_written_is_read(first: int, steps: list[int | None]) -> None:
    at, arrivals = 1 << 40, []
    for step in steps:
        at += 0 if step is None else step * TICK_US
        arrivals.append(None if step is None else at)
    read = parse_feedback(feedback_content(first, arrivals))
    assert read.first == first
    base = next((each for each in read.arrivals if each is not None), 0)
    origin = next((each for each in arrivals if each is not None), 0)
    assert [None if each is None else each - base for each in read.arrivals] == [
        None if each is None else each - origin for each in arrivals
    ]


@pytest.mark.parametrize(
    ("chunks", "deltas", "arrivals"),
    [
        (b"\x20\x03", b"\4\0\4", [65_000, 65_000, 66_000]),
        (b"\x00\x03", b"", [None] * 3),
        (b"\xa8\x00", b"\4\0", [65_000, None, 65_000]),
        (b"\xd8\x00", b"\4\xff\xff", [65_000, 64_750, None]),
        (b"\x20\x01\x00\x02", b"\4", [65_000, None, None]),
    ],
    ids=["run", "nothing", "one bit each", "two bits each", "two runs"],
)
def test_every_form_of_status_is_understood(
    chunks: bytes, deltas: bytes, arrivals: list[int | None]
) -> None:
    assert parse_feedback(content(3, chunks, deltas)).arrivals == arrivals


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEAD + bytes(7),
        content(0, b"\x20\x00"),
        content(MAX_STATUSES + 1, b"\x1f\xff"),
        content(3, b"\x20\x00\x20\x03", b"\0\0\0"),
        content(3, b"\x20\x02", b"\0\0"),
        content(3, b"\x20\x03", b"\0\0"),
        content(1, b"\x40\x01", b"\0"),
        content(1, b"\x60\x01", b"\0\0"),
    ],
)
def test_malformed_feedback_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="transport-wide feedback"):
        parse_feedback(data)


@given(st.binary(max_size=1500))
def test_no_bytes_do_harm(data: bytes) -> None:
    with suppress(ValueError):
        assert len(parse_feedback(data).arrivals) <= MAX_STATUSES
    rest, messages = split(data)
    assert len(rest) + sum(len(each) + 4 for each in messages) == len(data)


@given(st.lists(st.none() | st.just(1 << 30), min_size=1, max_size=40))
def test_feedback_is_taken_out_and_the_rest_left_as_it_was(arrivals: list[int | None]) -> None:
    report = bytes(RtcpRrPacket(ssrc=5))
    packet = feedback_packet(feedback_content(9, arrivals))
    rest, messages = split(report + packet + report)
    assert rest == report + report
    assert len(RtcpPacket.parse(rest)) == 2
    (message,) = messages
    assert len(parse_feedback(message).arrivals) == len(arrivals)
