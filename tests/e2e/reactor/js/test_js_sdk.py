"""The unmodified js-sdk 2.9.0 in a browser drives the whole service, in both of its modes.

It has no way to join a session, and none to pause a track: beside it a second page, which
speaks the wire of 2.12, does both.
"""

from __future__ import annotations

import json

import pytest

from tests.e2e.reactor.js import passes
from tests.e2e.reactor.js.conftest import SDK, Clip, Open, Player

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

TRANSPORT = "/sessions/ID/transport/webrtc"


def offers(player: Player) -> list[str]:
    """Returns the offers that a page made."""
    return [
        json.loads(each["body"])["sdp_offer"]
        for each in player.requests
        if each["path"].endswith("/sdp_params") and "body" in each
    ]


def goes_through_all(open_player: Open, mode: str, clips: tuple[Clip, Clip]) -> Player:
    player = open_player(SDK, mode)
    session = player("connect")
    passes.stays_where_it_is(player, clips)
    passes.goes_live(player, resizes=mode == "cloud")
    passes.is_joined(player, open_player, session)
    passes.comes_back(player)
    return player


def test_it_goes_through_all_flows_in_cloud_mode(
    open_player: Open, clips: tuple[Clip, Clip]
) -> None:
    player = goes_through_all(open_player, "cloud", clips)
    routes = player.routes()
    assert routes[0] == ("POST", "/sessions", 201)
    assert {
        ("GET", "/sessions/ID", 200),
        ("GET", f"{TRANSPORT}/ice_servers", 200),
        ("POST", f"{TRANSPORT}/sdp_params", 202),
        ("PUT", f"{TRANSPORT}/sdp_params", 202),
        ("GET", f"{TRANSPORT}/sdp_params", 200),
        ("POST", "/sessions/ID/uploads", 201),
    } <= set(routes)
    assert not [path for _, path, _ in routes if "connections" in path]
    player("disconnect")
    assert player.routes()[-1][0::2] == ("DELETE", 204)


def test_it_goes_through_all_flows_in_local_mode(
    open_player: Open, clips: tuple[Clip, Clip]
) -> None:
    player = goes_through_all(open_player, "local", clips)
    routes = player.routes()
    assert routes[0] == ("POST", "/start_session", 200)
    assert "/sessions" not in {path for _, path, _ in routes}
    player("disconnect")
    assert player.routes()[-1] == ("POST", "/stop_session", 200)


def test_it_connects_before_it_may_use_the_camera(open_player: Open) -> None:
    player = open_player(SDK, "cloud")
    player("connect")
    (offer,) = offers(player)
    hosts = {line.split()[4] for line in offer.splitlines() if line.startswith("a=candidate:")}
    assert hosts, "its candidates are in its offer"
    assert all(host.endswith(".local") for host in hosts), hosts
    assert player.page.run("location.origin") != player.value("base"), "from another origin"
    player("disconnect")


@pytest.mark.parametrize("mode", ["cloud", "local"])
def test_a_page_may_be_loaded_again(open_player: Open, mode: str) -> None:
    player = open_player(SDK, mode)
    url = player.page.run("location.href")
    before = player("connect")
    base = player.value("base")
    player.page.go(url)
    again = Player(player.page, SDK, base, mode)
    assert again("connectsSoon") != before
    again("disconnect")
