"""How often somebody may call: addresses, deeds, settings, and what a door counts."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.limits.addresses import UNKNOWN, client_address, networks, peer_of_grpc
from gateway.limits.calls import CallRates
from gateway.limits.settings import RateSettings, grpc_deed, http_deed, parse_rate
from gateway.settings import GatewaySettings
from scheduler.core.errors import ConfigurationError, LimitError
from scheduler.core.ids import Holder, Principal
from scheduler.process.config import load_settings

pytestmark = pytest.mark.unit

PROXIES = networks(["10.0.0.0/8", "fd00::/8"])
ME = Principal("acme", frozenset({"session"}), (Holder("key:web"), Holder("token:1")))
OTHER = Principal("acme", frozenset({"session"}), (Holder("key:web"), Holder("token:2")))


@pytest.mark.parametrize(
    ("peer", "said", "address"),
    [
        ("203.0.113.5", [], "203.0.113.5"),
        # Nobody who is no proxy of ours is believed.
        ("203.0.113.5", ["198.51.100.1"], "203.0.113.5"),
        ("10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        # What the client wrote itself stands before what the proxy adds.
        ("10.1.2.3", ["192.0.2.9, 198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["192.0.2.9", "198.51.100.1, 10.9.9.9"], "198.51.100.1"),
        ("10.1.2.3", ["nonsense"], "10.1.2.3"),
        ("10.1.2.3", [""], "10.1.2.3"),
        ("10.1.2.3", ["198.51.100.1:4711"], "198.51.100.1"),
        ("::ffff:10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        ("fd00::1", ["[2001:db8:1:2:3::4]:80"], "2001:db8:1:2::/64"),
        ("2001:db8:1:2:aaaa::4", [], "2001:db8:1:2::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        (None, ["198.51.100.1"], UNKNOWN),
        ("", [], UNKNOWN),
    ],
)
def test_a_call_is_counted_for_its_nearest_address_that_no_proxy_of_ours_has(
    peer: str | None, said: list[str], address: str
) -> None:
    assert client_address(peer, said, PROXIES) == address


def test_without_proxies_nothing_that_is_said_counts() -> None:
    assert client_address("10.1.2.3", ["198.51.100.1"], ()) == "10.1.2.3"


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:4711", "127.0.0.1"),
        ("ipv6:[::1]:4711", "[::1]"),
        ("ipv6:%5B::1%5D:4711", "[::1]"),
        ("unix:", ""),
        ("", ""),
    ],
)
def test_the_peer_of_a_grpc_call(peer: str, address: str) -> None:
    assert peer_of_grpc(peer) == address


@pytest.mark.parametrize(
    ("method", "path", "deed"),
    [
        ("POST", "/sessions", "create"),
        ("GET", "/sessions", None),
        ("POST", "/start_session", "create"),
        ("POST", "/tokens", "exchange"),
        ("POST", "/sessions/s1/uploads", "upload"),
        ("POST", "/sessions/s1/transport/webrtc/connections", "signal"),
        ("PUT", "/sessions/s1/transport/webrtc/sdp_params", "signal"),
        ("GET", "/sessions/s1/transport/webrtc/sdp_params", None),
        ("POST", "/sessions/s1/commands", "command"),
        ("POST", "/whip/painter", "create"),
        ("POST", "/whip/reactor/sana-streaming/~me", "create"),
        ("POST", "/whip/sessions/s1", "signal"),
        ("POST", "/whep/s1", "signal"),
        ("PATCH", "/whep/s1/r1", "signal"),
        ("DELETE", "/sessions/s1", None),
        ("GET", "/sessions/s1", None),
    ],
)
def test_what_requests_are_counted_as(method: str, path: str, deed: str | None) -> None:
    assert http_deed(method, path) == deed


def test_what_calls_are_counted_as() -> None:
    assert grpc_deed("CreateSession") == grpc_deed("ForkSession") == "create"
    assert (grpc_deed("Execute"), grpc_deed("Attach")) == ("command", "signal")
    assert grpc_deed("GetSession") is None


@pytest.mark.parametrize("text", ["", "5", "5/s", "0/s:5", "5/s:0", "5/d:5", "-1/s:5", "OFF"])
def test_a_rate_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"rates\.create: the form is"):
        load_settings(GatewaySettings, overrides={"rates": {"create": text}})


def test_rates_may_be_a_minute_and_off() -> None:
    rate = parse_rate("30/m:5")
    assert rate is not None
    assert (rate.per_second, rate.burst) == (0.5, 5)
    assert parse_rate("off") is None


def test_proxies_that_are_no_networks_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="trusted_proxies: the form is"):
        load_settings(GatewaySettings, overrides={"rates": {"trusted_proxies": ["proxy"]}})


@pytest.mark.parametrize(
    ("auth", "enabled", "counts"),
    [
        ("none", "auto", False),
        ("none", "on", True),
        ("api-key", "auto", True),
        ("jwks", "auto", True),
        ("api-key", "off", False),
    ],
)
def test_calls_are_counted_where_callers_are_asked_who_they_are(
    auth: str, enabled: str, counts: bool
) -> None:
    settings = load_settings(
        GatewaySettings, overrides={"auth": auth, "rates": {"enabled": enabled}}
    )
    assert (settings.call_rates() is not None) is counts


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def rates(clock: Clock, **told: Any) -> CallRates:
    off = dict.fromkeys(
        ("create", "exchange", "upload", "signal", "command", "address", "failures"), "off"
    )
    return CallRates(RateSettings(**(off | told)), clock)


def test_each_narrowed_token_has_a_bucket_of_its_own() -> None:
    clock = Clock()
    door = rates(clock, create="1/s:2")
    door.count("create", ME)
    door.count("create", ME)
    with pytest.raises(LimitError) as refusal:
        door.count("create", ME)
    assert (refusal.value.quota, refusal.value.retry_after_s) == ("rate_create", 1.0)
    door.count("create", OTHER)
    door.count("command", ME)
    door.count(None, ME)
    clock.now += 1.0
    door.count("create", ME)


def test_an_address_that_shows_wrong_credentials_is_not_looked_at_for_a_while() -> None:
    clock = Clock()
    door = rates(clock, failures="1/s:3")
    for _ in range(3):
        door.admit("a")
        door.failed("a")
    with pytest.raises(LimitError) as refusal:
        door.admit("a")
    assert refusal.value.quota == "rate_failures"
    door.admit("b")
    clock.now += 1.0
    door.admit("a")


def test_an_address_has_a_rate_whoever_calls_from_there() -> None:
    door = rates(Clock(), address="1/s:1", exchange="1/s:1")
    door.admit("a")
    with pytest.raises(LimitError, match="from this address"):
        door.admit("a")
    door.count_address("exchange", "b")
    with pytest.raises(LimitError, match="tokens"):
        door.count_address("exchange", "b")


def test_callers_without_an_address_are_known_by_their_tokens_alone() -> None:
    door = rates(Clock(), address="1/s:1", failures="1/s:1", exchange="1/s:1")
    for _ in range(3):
        door.admit(UNKNOWN)
        door.failed(UNKNOWN)
        door.count_address("exchange", UNKNOWN)
