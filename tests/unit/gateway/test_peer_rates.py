"""What the network carries, each way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webrtc.rates import (
    FLOOR_BPS,
    LEAST_BPS,
    LIMIT_BPS,
    NOMINAL_BPS,
    REPORT_GROWTH,
    USEFUL_BPS,
    DownlinkEstimate,
    UplinkRate,
)

pytestmark = pytest.mark.unit


def test_a_publisher_may_send_the_limit_from_its_first_packet() -> None:
    rate = UplinkRate()
    assert rate.update(queue_grows=False, received_bps=None, now_ms=0) == LIMIT_BPS


def test_a_growing_queue_lowers_the_rate_below_what_arrives() -> None:
    rate = UplinkRate()
    assert rate.update(queue_grows=True, received_bps=1_000_000, now_ms=0) == 850_000


def test_a_queue_that_keeps_growing_is_reported_once_a_round_trip() -> None:
    rate = UplinkRate()
    reports = [
        rate.update(queue_grows=True, received_bps=1_000_000, now_ms=now) for now in range(1000)
    ]
    assert sum(report is not None for report in reports) == 5


def test_the_rate_has_a_floor() -> None:
    rate = UplinkRate()
    assert rate.update(queue_grows=True, received_bps=1_000, now_ms=0) == FLOOR_BPS


def test_the_rate_recovers_to_the_limit_and_no_further() -> None:
    rate = UplinkRate()
    rate.update(queue_grows=True, received_bps=1_000_000, now_ms=0)
    reports = [
        rate.update(queue_grows=False, received_bps=1_000_000, now_ms=now)
        for now in range(500, 15_000, 500)
    ]
    assert reports == sorted(reports)
    assert reports[0] == round(850_000 * 1.25**0.5)
    assert reports[-1] == LIMIT_BPS


# -- downlink ------------------------------------------------------------------------------


def busy(network: DownlinkEstimate, octets: int = 12_500) -> None:
    """Two seconds of frames, of 2.4 Mbit/s unless said."""
    for frame in range(48):
        network.sent(octets, frame / 24)


def test_a_quiet_picture_is_not_taken_for_a_narrow_network() -> None:
    network = DownlinkEstimate()
    busy(network, octets=80)
    assert network.estimated(27_000, 2.0) is None
    assert network.value == NOMINAL_BPS


def test_an_estimate_below_what_was_sent_binds() -> None:
    network = DownlinkEstimate()
    busy(network)
    assert network.estimated(900_000, 2.0) == 900_000
    assert network.estimated(700_000, 2.01) == 700_000
    assert network.estimated(700_000, 2.02) is None


def test_no_network_is_taken_for_narrower_than_the_least() -> None:
    network = DownlinkEstimate()
    busy(network)
    assert network.estimated(1, 2.0) == LEAST_BPS


def test_the_estimate_climbs_again_after_a_narrow_spell() -> None:
    network = DownlinkEstimate()
    busy(network)
    assert network.estimated(500_000, 2.0) == 500_000
    assert network.estimated(700_000, 9.0) == 700_000


def test_it_climbs_even_where_the_viewers_own_estimate_follows_a_small_stream() -> None:
    network = DownlinkEstimate()
    busy(network)
    network.estimated(500_000, 2.0)
    values = [network.estimated(300_000, 10.0 + second) for second in range(40)]
    assert values[0] == round(500_000 * REPORT_GROWTH)
    assert network.value == NOMINAL_BPS


def test_what_was_sent_is_forgotten() -> None:
    network = DownlinkEstimate()
    network.sent(1_000_000, 0.0)
    assert network.estimated(1_000_000, 0.1) == 1_000_000
    assert (network.estimated(900_000, 10.0) or 0) > 1_000_000


def test_heavy_loss_lowers_the_estimate_by_half_its_share() -> None:
    network = DownlinkEstimate()
    assert network.lost(0.4, 1.0) == round(NOMINAL_BPS * 0.8)
    assert network.lost(0.4, 2.0) == round(NOMINAL_BPS * 0.64)


def test_some_loss_moves_nothing() -> None:
    network = DownlinkEstimate()
    assert network.lost(0.05, 1.0) is None


def test_without_loss_it_grows_report_by_report_up_to_what_is_useful() -> None:
    network = DownlinkEstimate()
    told = [network.lost(0.0, float(second)) for second in range(12)]
    assert told[0] == round(NOMINAL_BPS * REPORT_GROWTH)
    assert network.value == USEFUL_BPS
    assert told[-1] is None


def test_reports_in_a_burst_count_once() -> None:
    network = DownlinkEstimate()
    told = [network.lost(0.5, 1.0 + index / 100) for index in range(20)]
    assert told.count(None) == 19


def test_the_lower_of_both_bounds_counts() -> None:
    network = DownlinkEstimate()
    busy(network)
    network.estimated(1_000_000, 2.0)
    assert network.lost(0.2, 2.0) is None
    assert network.value == 1_000_000
    for second in range(3, 20):
        network.lost(0.2, float(second))
    assert network.value < 1_000_000


reports = st.lists(
    st.tuples(
        st.sampled_from(["sent", "estimated", "lost"]),
        st.floats(0, 1),
        st.floats(0, 3, allow_nan=False),
    ),
    max_size=100,
)


@given(reports)
def test_whatever_is_reported_the_estimate_stays_in_bounds_and_is_told_when_it_moves(
    steps: list[tuple[str, float, float]],
) -> None:
    network = DownlinkEstimate()
    now, known = 0.0, network.value
    for kind, amount, pause in steps:
        now += pause
        if kind == "sent":
            network.sent(round(amount * 60_000), now)
            continue
        if kind == "estimated":
            told = network.estimated(round(amount * 10_000_000), now)
        else:
            told = network.lost(amount, now)
        assert (told is None) == (network.value == known)
        known = network.value
        assert LEAST_BPS <= known <= USEFUL_BPS


@given(st.floats(0.11, 1.0), st.integers(1, 30))
def test_steady_heavy_loss_only_ever_lowers_it(fraction: float, count: int) -> None:
    network = DownlinkEstimate()
    values = [network.value]
    for second in range(count):
        network.lost(fraction, float(second))
        values.append(network.value)
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(
        max(LEAST_BPS, NOMINAL_BPS * (1 - fraction / 2) ** count), rel=1e-5
    )
