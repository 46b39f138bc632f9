"""Settings that are more than a value: port ranges, ICE servers, media workers."""

from __future__ import annotations

import pytest

from gateway.front_door.routing import WHOLE, Share
from gateway.settings import MOST_WORKERS, GatewaySettings, IceLogin, port_range
from scheduler.core.errors import ConfigurationError
from scheduler.process.config import load_settings

pytestmark = pytest.mark.unit


def load(**overrides: object) -> GatewaySettings:
    return load_settings(GatewaySettings, overrides=overrides)


def test_a_range_of_ports_is_shared_out_evenly() -> None:
    assert port_range("50000-50009", 0, 1) == (50000, 50009)
    assert [port_range("50000-50010", index, 3) for index in range(3)] == [
        (50000, 50002),
        (50003, 50005),
        (50006, 50008),
    ]
    assert port_range("7-7", 0, 1) == (7, 7)


@pytest.mark.parametrize(
    "text", ["", "5", "-", "5-", "-5", "9-5", "0-5", "65000-70000", "a-b", "1 - 2", "5-6", "²-9"]
)
def test_what_is_no_range_for_three_is_none(text: str) -> None:
    assert port_range(text, 0, 3) is None


def test_each_worker_gets_ports_of_its_own() -> None:
    settings = load(udp_ports="50000-50099", media_workers=2)
    assert settings.udp_port_range(Share(0, 2)) == (50000, 50049)
    assert settings.udp_port_range(Share(1, 2)) == (50050, 50099)
    assert load().udp_port_range(WHOLE) is None


@pytest.mark.parametrize(
    "overrides", [{"udp_ports": "5"}, {"udp_ports": "5-6", "media_workers": 3}]
)
def test_ports_that_do_not_go_round_are_refused(overrides: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="udp_ports: the form is LOW-HIGH, with a port"):
        load(**overrides)


@pytest.mark.parametrize("workers", [-1, MOST_WORKERS + 1])
def test_an_absurd_number_of_workers_is_refused(workers: int) -> None:
    with pytest.raises(ConfigurationError, match="media_workers"):
        load(media_workers=workers)


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("stun:stun.example:3478", IceLogin("stun:stun.example:3478")),
        ("stun:stun.example", IceLogin("stun:stun.example")),
        ("turn:u:p@turn.example:3478", IceLogin("turn:turn.example:3478", "u", "p")),
        (
            "turns:a%40b:p%3Aw@[2001:db8::1]:5349?transport=tcp",
            IceLogin("turns:[2001:db8::1]:5349?transport=tcp", "a@b", "p:w"),
        ),
    ],
)
def test_ice_servers_carry_their_login(text: str, server: IceLogin) -> None:
    assert load(ice_servers=[text]).ice() == (server,)
    assert "p:w" not in repr(server)


@pytest.mark.parametrize(
    "text", ["", "turn.example", "http://a", "turn:secret@a:1", "stun:", "stun:a:x", "stun:a?b=c"]
)
def test_what_is_no_ice_server_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigurationError, match="ice_servers: the form is") as refused:
        load(ice_servers=[text])
    assert "secret" not in str(refused.value)


def test_the_address_of_a_load_balancer_is_an_ip_address() -> None:
    assert load(udp_address="2001:DB8::7").udp_address == "2001:db8::7"
    assert load().udp_address == ""
    with pytest.raises(ConfigurationError, match="udp_address: the form is an IP address"):
        load(udp_address="lb.example.com")
