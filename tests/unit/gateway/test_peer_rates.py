"""What the network carries, each way."""

from __future__ import annotations

import pytest

from gateway.webrtc.rates import (
    FLOOR_BPS,
    LIMIT_BPS,
    NOMINAL_BPS,
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


def test_a_quiet_picture_is_not_taken_for_a_narrow_network() -> None:
    network = DownlinkEstimate()
    for frame in range(48):
        network.sent(80, frame / 24)
    assert network.reported(27_000, 2.0) is None


def test_a_report_below_what_was_sent_binds() -> None:
    network = DownlinkEstimate()
    for frame in range(48):
        network.sent(12_500, frame / 24)
    assert network.reported(900_000, 2.0) == 900_000


def test_a_report_above_the_estimate_raises_it() -> None:
    network = DownlinkEstimate()
    assert network.reported(NOMINAL_BPS, 0.0) is None
    assert network.reported(7_500_000, 0.0) == 7_500_000
    assert network.reported(5_000_000, 0.0) is None


def test_the_estimate_climbs_again_after_a_narrow_spell() -> None:
    network = DownlinkEstimate()
    for frame in range(48):
        network.sent(12_500, frame / 24)
    assert network.reported(500_000, 2.0) == 500_000
    assert network.reported(700_000, 9.0) == 700_000


def test_what_was_sent_is_forgotten() -> None:
    network = DownlinkEstimate()
    network.sent(1_000_000, 0.0)
    assert network.reported(1_000_000, 0.1) == 1_000_000
    assert network.reported(900_000, 10.0) is None
