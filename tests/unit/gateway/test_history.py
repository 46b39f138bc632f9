"""What is sent again of what was sent, and how little of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webrtc.history import BURST, CAPACITY, MIN_INTERVAL_S, SHARE, SentPackets
from gateway.webrtc.rtp import PacketHeader, sequence_of

pytestmark = pytest.mark.unit

HEADER = PacketHeader(96, 1)
SIZE = 1000 + HEADER.size


def send(sent: SentPackets, first: int, count: int) -> list[bytes]:
    packets = HEADER.packets([bytes(1000)] * count, first, 0, 0.0)
    sent.add(packets, first)
    return packets


def numbers(packets: list[bytes]) -> list[int]:
    return [sequence_of(packet) for packet in packets]


def test_a_missed_packet_is_sent_again_as_it_was() -> None:
    sent = SentPackets()
    packets = send(sent, 65_530, 12)
    assert sent.again([65_535, 0, 1], 1.0, 0.1) == packets[5:8]
    assert sent.repeated == 3


def test_numbers_past_the_last_are_understood_as_a_nack_counts_them() -> None:
    sent = SentPackets()
    packets = send(sent, 65_530, 12)
    assert sent.again([65_536 + 2], 1.0, 0.1) == [packets[8]]


def test_what_was_never_sent_and_what_is_forgotten_are_unknown() -> None:
    sent = SentPackets()
    send(sent, 0, CAPACITY + 10)
    assert numbers(sent.again([9, 10, CAPACITY + 9, CAPACITY + 10], 1.0, 0.1)) == [
        10,
        CAPACITY + 9,
    ]
    assert sent.unknown == 2


def test_a_packet_is_sent_again_at_most_once_a_round_trip() -> None:
    sent = SentPackets()
    send(sent, 0, 20)
    assert numbers(sent.again([3, 3, 4], 1.0, 0.2)) == [3, 4]
    assert sent.again([3, 4], 1.1, 0.2) == []
    assert numbers(sent.again([3], 1.25, 0.2)) == [3]
    assert sent.refused == 3


def test_a_near_viewer_waits_too() -> None:
    sent = SentPackets()
    send(sent, 0, 20)
    assert sent.again([3], 1.0, 0.0)
    assert not sent.again([3], 1.0 + MIN_INTERVAL_S / 2, 0.0)
    assert sent.again([3], 1.0 + MIN_INTERVAL_S, 0.0)


def test_a_new_packet_in_an_old_slot_has_not_been_repeated() -> None:
    sent = SentPackets()
    send(sent, 0, 20)
    assert sent.again([3], 1.0, 10.0)
    send(sent, 20, CAPACITY)
    assert numbers(sent.again([3 + CAPACITY], 1.1, 10.0)) == [3 + CAPACITY]


def test_a_whole_keyframe_can_be_sent_again_at_once() -> None:
    sent = SentPackets()
    send(sent, 0, 40)
    assert numbers(sent.again(range(40), 1.0, 0.1)) == list(range(40))


def test_what_was_given_up_is_neither_sent_again_nor_unknown() -> None:
    sent = SentPackets()
    send(sent, 65_530, 12)
    sent.forget()
    kept = send(sent, 6, 4)
    assert sent.again([65_530, 2, 5, 6], 1.0, 0.1) == [kept[0]]
    assert (sent.unknown, sent.refused) == (0, 3)


@given(st.lists(st.lists(st.integers(0, 70_000), max_size=200), max_size=30))
def test_whatever_is_asked_the_repetitions_stay_a_share_of_what_was_sent(
    asked: list[list[int]],
) -> None:
    sent = SentPackets()
    octets = repeated = 0
    for index, lost in enumerate(asked):
        octets += sum(map(len, send(sent, index * 20, 20)))
        repeated += sum(map(len, sent.again(lost, float(index), 0.1)))
        assert repeated <= BURST + SHARE * octets
