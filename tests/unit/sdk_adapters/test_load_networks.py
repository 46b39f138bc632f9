"""Networks between users and the service: what a link does, and how ways lead through it."""

from __future__ import annotations

import itertools
from random import Random

import pytest

from scheduler.scenario import ConfigurationError
from scheduler.scenario.load import LoadSpec, Network
from sdk_adapters.harness.generator import Target
from sdk_adapters.harness.networks import applied, unapplied
from sdk_adapters.harness.networks.link import (
    NOTICED_S,
    PACKET_HEADERS,
    QUEUE_S,
    SEGMENT,
    STREAM_HEADERS,
    Link,
)
from sdk_adapters.harness.networks.sdp import Address, candidates, led_through
from sdk_adapters.harness.networks.turn import TurnServer

pytestmark = pytest.mark.unit


def link(**changes: float) -> Link:
    """A link of a network that does this."""
    return Link(Network.model_validate({"name": "n", "share": 1, **changes}), Random(7))


# -- datagrams -----------------------------------------------------------------------------------


def test_a_perfect_network_does_nothing() -> None:
    assert link().packet(5.0, 1200) == 5.0


def test_packets_come_later_by_the_delay() -> None:
    assert link(delay_ms=80).packet(5.0, 1200) == pytest.approx(5.08)


def test_packets_are_lost_as_often_as_the_network_says() -> None:
    lossy = link(loss=0.1)
    came = [lossy.packet(at * 0.01, 1000) for at in range(20_000)]
    assert came.count(None) == lossy.lost == pytest.approx(2000, rel=0.08)


def test_packets_leave_at_the_rate() -> None:
    narrow = link(rate_kbit=800)
    first, second = (narrow.packet(0.0, 1000 - PACKET_HEADERS) for _ in range(2))
    assert (first, second) == (pytest.approx(0.01), pytest.approx(0.02))


def test_what_would_wait_for_too_long_is_lost() -> None:
    narrow = link(rate_kbit=800)
    came = [narrow.packet(0.0, 1000 - PACKET_HEADERS) for _ in range(100)]
    waited = [each for each in came if each is not None]
    assert len(waited) in (30, 31), "what fits into the queue, and what is being sent"
    assert max(waited) <= QUEUE_S + 0.01 + 1e-9
    assert narrow.lost == 100 - len(waited)
    assert narrow.packet(1.0, 100) is not None, "the queue is empty again"


def test_jitter_spreads_packets_and_keeps_their_order() -> None:
    uneven = link(delay_ms=50, jitter_ms=10)
    came = [uneven.packet(at * 0.04, 1000) for at in range(2000)]
    late = [each - at * 0.04 for at, each in enumerate(came) if each is not None]
    assert came == sorted(came, key=lambda each: each or 0.0)
    assert sum(late) / len(late) == pytest.approx(0.05, rel=0.05)
    spread = (sum((each - 0.05) ** 2 for each in late) / len(late)) ** 0.5
    assert spread == pytest.approx(0.01, rel=0.15)


def test_no_packet_comes_before_it_was_sent() -> None:
    uneven = link(delay_ms=1, jitter_ms=50)
    assert all((uneven.packet(float(at), 100) or 0.0) >= at for at in range(1000))


# -- streams -------------------------------------------------------------------------------------


def test_a_stream_loses_nothing_but_stands_for_a_round_trip() -> None:
    lossy = link(loss=0.02, delay_ms=50)
    late = [lossy.stream(float(at), SEGMENT) - at for at in range(5000)]
    stood = [each for each in late if each > 0.05 + 1e-9]
    assert min(stood) == pytest.approx(0.15 + NOTICED_S)
    assert len(stood) / len(late) == pytest.approx(0.02, rel=0.25)


def test_what_follows_on_a_stream_waits_for_what_was_lost() -> None:
    assert link(delay_ms=10).stream(1.0, 100, after=1.5) == 1.5


def test_the_headers_of_every_segment_take_of_the_rate() -> None:
    size = 10 * SEGMENT
    due = link(rate_kbit=800).stream(0.0, size)
    assert due == pytest.approx((size + 10 * STREAM_HEADERS) / 100_000)


def test_a_stream_and_datagrams_of_one_user_share_the_rate() -> None:
    narrow = link(rate_kbit=800)
    narrow.stream(0.0, 10_000)
    busy = narrow.room(0.0)
    assert busy > 0.1
    assert narrow.packet(0.0, 1000) == pytest.approx(busy + (1000 + PACKET_HEADERS) / 100_000)


def test_a_stream_over_a_network_that_loses_everything_still_ends() -> None:
    assert link(loss=1.0).stream(0.0, 100) < 1000


# -- session descriptions ------------------------------------------------------------------------

SDP = "\r\n".join(
    (
        "v=0",
        "m=video 5000 UDP/TLS/RTP/SAVPF 97",
        "a=candidate:1 1 tcp 1 10.0.0.9 9 typ host tcptype active",
        "a=candidate:2 1 udp 2130706431 0b3c.local 5000 typ host",
        "a=candidate:3 1 udp 2130706431 10.0.0.9 5000 typ host",
        "a=candidate:4 1 UDP 1694498815 192.0.2.1 6000 typ srflx raddr 10.0.0.9 rport 5000",
        "a=end-of-candidates",
        "m=application 5000 UDP/DTLS/SCTP webrtc-datachannel",
        "a=candidate:3 1 udp 2130706431 10.0.0.9 5000 typ host",
        "",
    )
)


def test_candidates_are_those_over_udp_with_an_address() -> None:
    here, there = Address("10.0.0.9", 5000), Address("192.0.2.1", 6000)
    assert candidates(SDP) == [here, there, here]


def test_every_medium_is_led_through_the_same_relay_and_nothing_else() -> None:
    asked: list[Address] = []

    def relay(address: Address) -> Address:
        asked.append(address)
        return Address("10.0.0.9", 7001)

    led = led_through(SDP, relay)
    assert asked == [Address("10.0.0.9", 5000)]
    assert candidates(led) == [Address("10.0.0.9", 7001)] * 2
    untouched = [line for line in SDP.splitlines() if "candidate:" not in line]
    assert [line for line in led.splitlines() if "candidate:" not in line] == untouched
    assert led.count("\r\n") == led.count("\n")


def test_a_description_without_candidates_stays_as_it_is() -> None:
    bare = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 97\r\n"
    assert led_through(bare, lambda address: address) == bare


# -- TURN ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "server", "url"),
    [
        ("turn:turn.example", TurnServer("turn.example", 3478), "turn:turn.example:3478"),
        (
            "turn:ann:p%40ss@10.0.0.1:5000?transport=udp",
            TurnServer("10.0.0.1", 5000, "ann", "p@ss"),
            "turn:10.0.0.1:5000",
        ),
        ("turn:[::1]:99", TurnServer("::1", 99), "turn:[::1]:99"),
    ],
)
def test_turn_servers_are_read(text: str, server: TurnServer, url: str) -> None:
    assert TurnServer.parse(text) == server
    assert server.url == url


@pytest.mark.parametrize("text", ["stun:host", "turn:", "turn:host:99999", "turn:u:secret@", ""])
def test_others_are_refused_without_telling_their_password(text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        TurnServer.parse(text)
    assert "secret" not in str(refused.value)


def test_a_password_is_in_no_representation() -> None:
    assert "p@ss" not in repr(TurnServer.parse("turn:ann:p%40ss@host"))
    assert "p%40ss" not in repr(Target(("a:1",), turn="turn:ann:p%40ss@host"))


def test_only_networks_that_do_something_are_made() -> None:
    made = [
        {"name": "clean", "share": 1},
        {"name": "slow", "share": 1, "delay_ms": 50},
        {"name": "office", "share": 1, "turn_only": True},
    ]
    load = LoadSpec.model_validate({"networks": made})
    without, with_turn = Target(("a:1",)), Target(("a:1",), turn="turn:host")
    assert list(applied(load, without)) == ["slow"]
    assert list(applied(load, with_turn)) == ["slow", "office"]
    assert "--turn" in unapplied(load, without)["office"]
    assert unapplied(load, with_turn) == {}
    browsers = load.model_copy(update={"wires": {"grpc": 1.0, "chromium": 0.1}})
    assert list(unapplied(browsers, with_turn)) == ["slow of browsers", "office of browsers"]
    with pytest.raises(ConfigurationError):
        applied(load, Target(("a:1",), turn="stun:host"))


def test_links_of_equal_seeds_do_the_same() -> None:
    network = Network(name="n", share=1, loss=0.3, delay_ms=5, jitter_ms=3)
    first, again = (Link(network, Random(3)) for _ in range(2))
    for at, size in zip(range(200), itertools.cycle((100, 1200)), strict=False):
        assert first.packet(float(at), size) == again.packet(float(at), size)
