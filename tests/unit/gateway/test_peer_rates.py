"""What the network carries, each way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webrtc.evidence import Evidence
from gateway.webrtc.rates import (
    CONGESTED_S,
    FAST_GROWTH,
    FLOOR_BPS,
    LEAST_BPS,
    LIMIT_BPS,
    NOMINAL_BPS,
    REPORT_GROWTH,
    USEFUL_BPS,
    DownlinkEstimate,
    Outflow,
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


def seen(
    delivered_bps: float = 2_000_000,
    *,
    queue_s: float = 0.0,
    grows: bool = False,
    loss: float = 0.0,
    full_bps: float | None = None,
    width_bps: float | None = None,
) -> Evidence:
    return Evidence(delivered_bps, queue_s, grows, loss, full_bps, width_bps)


QUEUE = seen(1_000_000, queue_s=0.1, grows=True, full_bps=900_000)


def test_a_growing_queue_lowers_it_at_once_below_what_the_network_carries() -> None:
    network = DownlinkEstimate()
    assert network.observed(QUEUE, 1.0) == round(0.85 * 900_000)
    assert network.congested_until == 1.0 + CONGESTED_S


def test_what_an_idle_network_delivers_is_not_taken_for_all_that_it_carries() -> None:
    network = DownlinkEstimate()
    told = network.observed(seen(10_000, queue_s=0.1, grows=True), 1.0)
    assert told == round(0.85 * NOMINAL_BPS)


def test_a_way_that_became_longer_is_no_queue() -> None:
    network = DownlinkEstimate()
    values = [network.observed(seen(queue_s=0.1), float(second)) for second in range(10)]
    assert values == [None] * 10


def test_falls_are_some_time_apart() -> None:
    network = DownlinkEstimate()
    falling = seen(queue_s=0.1, grows=True)
    told = [network.observed(falling, index / 50) for index in range(20)]
    assert sum(each is not None for each in told) == 2


def test_no_network_is_taken_for_narrower_than_the_least() -> None:
    network = DownlinkEstimate()
    assert network.observed(replace(QUEUE, full_bps=1.0), 1.0) == LEAST_BPS


def test_it_grows_fast_up_to_what_frames_show_and_slowly_near_it() -> None:
    network = DownlinkEstimate()
    network.observed(QUEUE, 0.0)
    values = []
    for step in range(1, 100):
        network.observed(seen(width_bps=2_000_000), step / 10)
        values.append(network.value)
    assert values == sorted(values)
    assert values[9] == pytest.approx(765_000 * FAST_GROWTH, rel=0.01)
    assert values[-1] == 2_000_000


def test_where_frames_show_nothing_it_grows_up_to_the_nominal_rate() -> None:
    network = DownlinkEstimate()
    network.observed(QUEUE, 0.0)
    for second in range(1, 30):
        network.observed(seen(), float(second))
    assert network.value == NOMINAL_BPS


def test_light_loss_does_not_keep_it_from_growing() -> None:
    network = DownlinkEstimate()
    for second in range(20):
        network.observed(seen(loss=0.02, width_bps=50e6), float(second))
    assert network.value == USEFUL_BPS


def test_heavy_loss_lowers_it() -> None:
    network = DownlinkEstimate()
    assert network.observed(seen(1_000_000, loss=0.4), 1.0) == round(NOMINAL_BPS * 0.8)


def test_where_delays_are_unknown_heavy_loss_is_taken_for_a_full_network() -> None:
    network = DownlinkEstimate()
    lossy = replace(seen(900_000, loss=0.64), timed=False)
    assert network.observed(lossy, 1.0) == round(0.85 * 900_000)
    assert network.congested_until == 1.0 + CONGESTED_S


def test_where_delays_are_known_loss_without_a_queue_congests_nothing() -> None:
    network = DownlinkEstimate()
    network.observed(seen(900_000, loss=0.64), 1.0)
    assert network.congested_until < 1.0


def test_where_delays_are_unknown_too_a_quiet_picture_is_no_narrow_network() -> None:
    network = DownlinkEstimate()
    told = network.observed(replace(seen(100_000, loss=0.2), timed=False), 1.0)
    assert told == round(0.9 * NOMINAL_BPS)


def test_loss_that_stays_when_less_is_sent_is_the_networks_own() -> None:
    network = DownlinkEstimate()
    values = []
    for step in range(100):
        # What is sent follows the estimate; a fifth of it is lost whatever it is.
        network.observed(seen(0.8 * network.value, loss=0.2), step / 10)
        values.append(network.value)
    assert min(values) > NOMINAL_BPS / 2
    assert values[-1] > NOMINAL_BPS * 0.9


def test_what_a_queue_lost_is_not_held_against_the_network_again() -> None:
    network = DownlinkEstimate()
    network.observed(QUEUE, 1.0)
    assert network.observed(seen(100_000, loss=0.6), 1.3) is None


def test_an_estimate_of_the_viewers_below_what_was_sent_binds() -> None:
    network = DownlinkEstimate()
    busy(network)
    assert network.estimated(900_000, 2.0) == 900_000
    assert network.estimated(700_000, 2.01) == 700_000
    assert network.estimated(700_000, 2.02) is None


def test_a_quiet_picture_is_not_taken_for_a_narrow_network() -> None:
    network = DownlinkEstimate()
    busy(network, octets=80)
    assert network.estimated(27_000, 2.0) is None
    assert network.value == NOMINAL_BPS


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


some = st.floats(0, 5e6)
rarely = st.none() | some
evidence = st.builds(
    Evidence, some, st.floats(0, 2), st.booleans(), st.floats(0, 1), rarely, rarely
)


@given(
    st.lists(
        st.tuples(evidence | st.integers(0, 60_000) | st.floats(0, 1e7), st.floats(0, 3)),
        max_size=100,
    )
)
def test_whatever_is_reported_the_estimate_stays_in_bounds_and_is_told_when_it_moves(
    steps: list[tuple[Evidence | int | float, float]],
) -> None:
    network = DownlinkEstimate()
    now, known = 0.0, network.value
    for what, pause in steps:
        now += pause
        if isinstance(what, int):
            network.sent(what, now)
            continue
        if isinstance(what, Evidence):
            told = network.observed(what, now)
        else:
            told = network.estimated(round(what), now)
        assert (told is None) == (network.value == known)
        known = network.value
        assert LEAST_BPS <= known <= USEFUL_BPS


# -- outflow -------------------------------------------------------------------------------


def test_what_was_sent_drains_at_the_rate_of_the_network() -> None:
    outflow = Outflow()
    outflow.limit(1_000_000, 0.0)
    outflow.sent(62_500, 0.0)
    assert outflow.waits_s(0.0) == pytest.approx(0.5)
    assert outflow.waits_s(0.2) == pytest.approx(0.3)
    outflow.limit(500_000, 0.3)
    assert outflow.waits_s(0.3) == pytest.approx(0.4)
    assert outflow.waits_s(9.0) == 0.0
