"""What packets went through on their way, over a network that is simulated to the packet."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.webrtc.evidence import (
    CAPACITY,
    LOSS_PACKETS,
    OVERHEAD,
    REPORT_WINDOW_S,
    WINDOW_S,
    Evidence,
    Flight,
    Reports,
)
from gateway.webrtc.feedback import Feedback
from gateway.webrtc.rates import NOMINAL_BPS, USEFUL_BPS, DownlinkEstimate

pytestmark = pytest.mark.unit

FRAME_S = 1 / 24
FEEDBACK_S = 0.1
PAYLOAD = 1156
"""A packet of 1200 bytes on the wire."""
CLOCK_S = 12_345.6
"""The far end's clock shows another time than ours."""


@dataclass
class Link:
    """A network with one narrow place and a queue before it."""

    bps: float = 50e6
    delay_s: float = 0.02
    queue_s: float = 0.3
    loss: float = 0.0
    free_at: float = 0.0
    dice: random.Random = field(default_factory=lambda: random.Random(1))

    def carry(self, size: int, now: float) -> float | None:
        """Returns when a packet arrives; None: it is lost."""
        start = max(now, self.free_at)
        if start - now > self.queue_s or self.dice.random() < self.loss:
            return None
        self.free_at = start + size * 8 / self.bps
        return self.free_at + self.delay_s


class Call:
    """A sender whose rate follows the estimate, as far as the encoder can."""

    def __init__(self, link: Link, most_bps: float = USEFUL_BPS) -> None:
        self.link, self.most_bps = link, most_bps
        self.network, self.flight = DownlinkEstimate(), Flight()
        self.seen: list[Evidence] = []
        self.now = 0.0
        self._count = self._told = 0
        self._arrivals: dict[int, float | None] = {}
        self._feedback_at = FEEDBACK_S

    def run(self, seconds: float, *, least_bps: float = 100_000) -> list[int]:
        """Sends frames for a while; returns the estimate after each."""
        values = []
        for _ in range(round(seconds / FRAME_S)):
            rate = min(self.most_bps, max(least_bps, self.network.value))
            packets = max(1, round(rate * FRAME_S / 8 / (PAYLOAD + OVERHEAD)))
            self.flight.sent([bytes(PAYLOAD)] * packets, self.now)
            for _ in range(packets):
                arrival = self.link.carry(PAYLOAD + OVERHEAD, self.now)
                self._arrivals[self._count] = arrival
                self._count += 1
            self.now += FRAME_S
            if self.now >= self._feedback_at:
                self._feedback_at += FEEDBACK_S
                self._tell()
            values.append(self.network.value)
        return values

    def _tell(self) -> None:
        """The far end tells of all up to the last packet that has come."""
        come = [
            number
            for number in range(self._told, self._count)
            if (self._arrivals[number] or float("inf")) <= self.now
        ]
        if not come:
            return
        numbers = range(self._told, come[-1] + 1)
        self._told = come[-1] + 1
        arrivals = [self._arrivals.pop(number) for number in numbers]
        message = Feedback(
            numbers[0] & 0xFFFF,
            [None if at is None else round((at + CLOCK_S) * 4000) * 250 for at in arrivals],
        )
        evidence = self.flight.told(message, self.now)
        if evidence is not None:
            self.seen.append(evidence)
            self.network.observed(evidence, self.now)


# -- the loop ------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(st.floats(400_000, 2_000_000), st.floats(0.005, 0.15), st.floats(0.1, 0.5))
def test_it_falls_below_a_narrow_place_within_a_second_and_finds_back(
    bps: float, delay_s: float, queue_s: float
) -> None:
    call = Call(Link(delay_s=delay_s, queue_s=queue_s))
    call.run(3.0)
    assert call.network.value > NOMINAL_BPS
    call.link.bps = bps
    values = call.run(1.0 + delay_s)
    assert 0.6 * bps < values[-1] < bps
    values = call.run(8.0)
    assert 0.5 * bps < min(values)
    assert max(values) < 1.15 * bps
    call.link.bps = 50e6
    assert call.run(6.0)[-1] > NOMINAL_BPS


@settings(deadline=None, max_examples=10)
@given(st.floats(400_000, 1_000_000))
def test_a_sender_that_cannot_send_less_does_not_make_it_collapse(bps: float) -> None:
    call = Call(Link())
    call.run(2.0)
    call.link.bps = bps
    call.run(1.0, least_bps=1_500_000)
    assert min(call.run(3.0, least_bps=1_500_000)) > 0.6 * bps


@pytest.mark.parametrize("loss", [0.02, 0.2])
def test_loss_without_a_queue_does_not_starve_it(loss: float) -> None:
    call = Call(Link(loss=loss))
    values = call.run(20.0)
    assert min(values) > 0.5 * NOMINAL_BPS
    assert values[-1] > 0.8 * NOMINAL_BPS


def test_a_longer_way_is_not_taken_for_a_narrow_one() -> None:
    call = Call(Link(delay_s=0.01))
    call.run(3.0)
    call.link.delay_s = 0.11
    assert min(call.run(5.0)) > NOMINAL_BPS


def test_a_small_stream_shows_how_wide_the_network_is() -> None:
    call = Call(Link(bps=900_000))
    call.run(4.0)
    call.link.bps, call.most_bps = 50e6, 800_000
    values = call.run(6.0)
    assert values[-1] == USEFUL_BPS, "though no more than 0.8 Mbit/s was ever sent"


# -- single facts --------------------------------------------------------------------------


def flown(count: int, arrive: Callable[[int], float | None]) -> tuple[Flight, Evidence | None]:
    """Sends packets 10 ms apart and tells of them all."""
    flight = Flight()
    for index in range(count):
        flight.sent([bytes(956)], index / 100)
    arrivals = [arrive(index) for index in range(count)]
    times = [None if at is None else round(at * 1e6) for at in arrivals]
    return flight, flight.told(Feedback(0, times), count / 100)


def test_what_came_of_late_is_counted_with_all_its_headers() -> None:
    _, seen = flown(100, lambda index: index / 100 + 0.03)
    assert seen is not None
    assert seen.delivered_bps == pytest.approx(1000 * 8 * 100, rel=1.1 / (100 * WINDOW_S))
    assert (seen.loss, seen.grows) == (0.0, False)
    assert seen.queue_s == pytest.approx(0, abs=1e-6)


def test_what_did_not_come_is_lost() -> None:
    _, seen = flown(50, lambda index: None if index % 5 == 0 else index / 100)
    assert seen is not None
    assert seen.loss == pytest.approx(0.2)


def test_a_few_packets_are_not_enough_to_speak_of_heavy_loss() -> None:
    _, seen = flown(2, lambda index: None if index == 0 else 0.1)
    assert seen is not None
    assert seen.loss == 1 / LOSS_PACKETS


def test_a_packet_counts_once_however_often_it_is_told_of() -> None:
    flight, _ = flown(10, lambda index: index / 100)
    assert flight.told(Feedback(0, [0] * 10), 0.2) is None


def test_feedback_on_what_was_never_sent_says_nothing() -> None:
    assert Flight().told(Feedback(5, [1, 2, 3]), 0.0) is None
    flight, _ = flown(10, lambda _: None)
    assert flight.told(Feedback(10, [1, None, 3]), 0.2) is None


def test_numbers_wrap_around() -> None:
    flight = Flight()
    for start in range(0, 70_000, 1000):
        flight.sent([b""] * 1000, start / 1000)
    seen = flight.told(Feedback((70_000 - 10) & 0xFFFF, list(range(0, 10_000, 1000))), 70.0)
    assert seen is not None
    assert seen.loss == 0
    assert flight.told(Feedback((70_000 - CAPACITY - 10) & 0xFFFF, [1] * 10), 70.0) is None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 0xFFFF),
            st.lists(st.none() | st.integers(-(1 << 40), 1 << 40), max_size=50),
            st.integers(0, 20),
        ),
        max_size=30,
    )
)
def test_no_feedback_does_harm(messages: list[tuple[int, list[int | None], int]]) -> None:
    flight, network = Flight(), DownlinkEstimate()
    for now, (first, arrivals, count) in enumerate(messages):
        flight.sent([b"packet"] * count, float(now))
        seen = flight.told(Feedback(first, arrivals), now + 0.5)
        if seen is not None:
            assert 0 <= seen.loss <= 1
            assert seen.delivered_bps >= 0
            network.observed(seen, now + 0.5)


# -- receiver reports ----------------------------------------------------------------------


def reporting(sequences: int = 300) -> Reports:
    reports = Reports()
    reports.sent([bytes(956)] * sequences, 65_500)
    return reports


def test_reports_are_compared_over_a_while() -> None:
    reports = reporting()
    assert reports.told(65_500, 0, None, 0.0) is None
    # As browsers do, with every NACK.
    assert reports.told(65_510, 3, None, 0.1) is None
    assert reports.told(65_520, 3, None, 0.2) is None
    seen = reports.told(65_600, 20, None, 1.0)
    assert seen is not None
    assert seen.loss == reports.loss == pytest.approx(17 / 80)
    assert seen.delivered_bps == pytest.approx(63 * 1000 * 8 / 0.8)


def test_a_round_trip_that_grows_is_a_queue() -> None:
    reports = reporting()
    reports.told(65_500, 0, 0.05, 0.0)
    seen = reports.told(65_550, 0, 0.05, 1.0)
    assert seen is not None
    assert (seen.queue_s, seen.grows) == (0.0, False)
    seen = reports.told(65_600, 0, 0.25, 2.0)
    assert seen is not None
    assert seen.queue_s == pytest.approx(0.2)
    assert seen.grows


@given(
    st.lists(
        st.tuples(st.integers(0, 1 << 32), st.integers(-(1 << 23), 1 << 23), st.floats(0, 3)),
        max_size=50,
    )
)
def test_no_report_does_harm(told: list[tuple[int, int, float]]) -> None:
    reports, now = reporting(), 0.0
    for highest, lost, pause in told:
        now += pause
        seen = reports.told(highest, lost, None, now)
        assert 0 <= reports.loss <= 1
        if seen is not None:
            assert seen.delivered_bps >= 0


def test_a_flood_of_reports_is_bounded() -> None:
    reports = reporting()
    for index in range(5000):
        reports.told(65_500 + index % 100, 0, None, index * REPORT_WINDOW_S / 10_000)
    assert len(reports._known) <= 256
