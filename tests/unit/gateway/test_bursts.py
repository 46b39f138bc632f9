"""Which packets leave when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webrtc.bursts import BURST, CAPACITY, FIRST_BURST, INTERVAL_S, Bursts, Piece

pytestmark = pytest.mark.unit


def payloads(count: int, frame: int = 0) -> list[bytes]:
    return [bytes([frame % 256, index % 256, index // 256]) for index in range(count)]


def sizes(pieces: list[Piece]) -> list[int]:
    return [len(piece.payloads) for piece in pieces]


def test_a_frame_of_the_usual_size_leaves_at_once_and_whole() -> None:
    bursts = Bursts()
    for index in range(48):
        assert bursts.add(index, payloads(12))
        assert bursts.take(index / 24) == [Piece(index, payloads(12), ends=True)]
        assert bursts.waiting == 0


def test_a_large_frame_leaves_in_bursts() -> None:
    bursts = Bursts()
    assert bursts.add(7, payloads(80))
    times = [step * INTERVAL_S for step in range(4)]
    pieces = [piece for now in times for piece in bursts.take(now)]
    assert sizes(pieces) == [FIRST_BURST, BURST, BURST, BURST]
    assert [piece.ends for piece in pieces] == [False, False, False, True]
    assert [each for piece in pieces for each in piece.payloads] == payloads(80)
    assert {piece.timestamp for piece in pieces} == {7}


def test_the_next_frame_waits_behind_a_large_one() -> None:
    bursts = Bursts()
    bursts.add(1, payloads(40))
    assert sizes(bursts.take(0.0)) == [FIRST_BURST]
    bursts.add(2, payloads(5))
    assert [(piece.timestamp, len(piece.payloads)) for piece in bursts.take(INTERVAL_S)] == [
        (1, 8),
        (2, 5),
    ]


def test_frames_given_together_share_the_burst() -> None:
    """A viewer who joins is given the frames since the last keyframe in one go."""
    bursts = Bursts()
    for index in range(8):
        bursts.add(index, payloads(10, index))
    assert sizes(bursts.take(0.0)) == [10, 10, 10, 2]


def test_frames_wait_up_to_the_capacity() -> None:
    bursts = Bursts()
    assert bursts.add(0, payloads(CAPACITY))
    assert not bursts.add(1, payloads(1))
    bursts.take(0.0)
    assert bursts.add(2, payloads(FIRST_BURST))
    assert not bursts.add(3, payloads(1))


def test_a_frame_larger_than_the_capacity_leaves_when_nothing_waits() -> None:
    bursts = Bursts()
    assert bursts.add(0, payloads(CAPACITY + 100))
    assert sizes(bursts.take(0.0)) == [FIRST_BURST]


def test_clearing_drops_what_has_not_begun_to_leave() -> None:
    bursts = Bursts()
    bursts.add(1, payloads(40))
    bursts.add(2, payloads(10))
    bursts.add(3, payloads(10))
    bursts.take(0.0)
    assert bursts.clear() == 2
    assert bursts.waiting == 8
    assert [(piece.timestamp, piece.ends) for piece in bursts.take(1.0)] == [(1, True)]
    assert bursts.clear() == 0


def test_clearing_drops_a_frame_that_has_not_begun() -> None:
    bursts = Bursts()
    bursts.add(1, payloads(FIRST_BURST))
    bursts.take(0.0)
    bursts.add(2, payloads(4))
    assert bursts.clear() == 1
    assert bursts.take(1.0) == []


@given(
    st.lists(st.tuples(st.integers(1, 200), st.floats(0, 0.1)), max_size=60),
)
def test_whatever_is_added_leaves_in_order_and_never_faster_than_the_rate(
    steps: list[tuple[int, float]],
) -> None:
    bursts = Bursts()
    added: list[tuple[int, bytes]] = []
    left: list[tuple[int, bytes]] = []
    now = 0.0
    for index, (count, pause) in enumerate(steps):
        if bursts.add(index, payloads(count, index)):
            added += [(index, payload) for payload in payloads(count, index)]
        pieces = bursts.take(now)
        left += [(piece.timestamp, payload) for piece in pieces for payload in piece.payloads]
        assert len(left) <= FIRST_BURST + now * BURST / INTERVAL_S + 1
        assert bursts.waiting == len(added) - len(left)
        now += pause
    while bursts.waiting:
        now += INTERVAL_S
        pieces = bursts.take(now)
        left += [(piece.timestamp, payload) for piece in pieces for payload in piece.payloads]
    assert left == added
