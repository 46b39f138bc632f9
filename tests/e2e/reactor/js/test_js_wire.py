"""The wire of js-sdk 2.12 in a browser: what it does otherwise than 2.9, and all flows.

Second connections and pauses of a track are in `test_js_sdk.py`, beside the SDK. Here both wait
side by side for what becomes of who says nothing, while the other tests run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.e2e.browser.chromium import Browser
from tests.e2e.driving import WAIT_S
from tests.e2e.reactor.js import passes
from tests.e2e.reactor.js.conftest import (
    SDK,
    WIRE,
    Clip,
    Open,
    Player,
    ask,
    opener,
    refused,
)
from tests.e2e.reactor.matrix import record
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MODES = ("cloud", "local")
SILENT = 'sana_gateway_reactor_hangups_total{cause="silent"}'
PINGS = 4
"""So many take longer than anybody may be silent."""
TRANSPORT = "/sessions/ID/transport/webrtc"


@dataclass(frozen=True)
class Idlers:
    """Connections on which nothing is said but what SDKs say by themselves."""

    players: dict[tuple[str, str], Player]
    """Those that give signs of life, by client and mode."""
    mute: Player
    """One that does not."""
    pings: dict[tuple[str, str], Future[None]]
    """Done once enough signs were given."""
    silent: float
    """How many the service had hung up on before, other tests' clients included."""


@pytest.fixture(scope="module", autouse=True)
def idlers(browser: Browser, site: str, simulated: Stack) -> Iterator[Idlers]:
    """Begins to wait when the first test does."""
    with ExitStack() as pages:
        open_player = opener(pages, browser, site, simulated)
        players = {}
        for mode in MODES:
            owner = players[SDK, mode] = open_player(SDK, mode)
            session = owner("connect")
            guest = players[WIRE, mode] = open_player(WIRE, mode)
            guest("connect", "any", {"sessionId": session})
        mute = open_player(WIRE, "local", pings=False)
        silent = metric(mute, SILENT)
        mute("connect", "any", {"sessionId": session})
        pings = {key: player.begin("pings", PINGS) for key, player in players.items()}
        yield Idlers(players, mute, pings, silent)


def goes_through_all(open_player: Open, mode: str, clips: tuple[Clip, Clip]) -> Player:
    player = open_player(WIRE, mode)
    player("connect")
    passes.stays_where_it_is(player, clips)
    passes.goes_live(player)
    passes.comes_back(player)
    return player


def test_it_goes_through_all_flows_in_cloud_mode(
    open_player: Open, clips: tuple[Clip, Clip]
) -> None:
    player = goes_through_all(open_player, "cloud", clips)
    routes = player.routes()
    first, second = (f"{TRANSPORT}/connections/{number}" for number in (1002, 1003))
    assert {
        ("POST", "/sessions", 201),
        ("POST", f"{TRANSPORT}/connections", 201),
        ("POST", f"{first}/sdp_params", 202),
        ("POST", f"{first}/ice_candidates", 202),
        ("GET", f"{first}/sdp_params", 200),
        # It comes back with another number, on which nothing was offered yet.
        ("PUT", f"{second}/sdp_params", 202),
        ("GET", f"{second}/sdp_params", 200),
    } <= set(routes)
    check_trickle(player)
    check_channels(player)
    player("disconnect")
    assert player.routes()[-1][0::2] == ("DELETE", 204)


def check_trickle(player: Player) -> None:
    """No candidate is in an offer; they follow, and the last batch says that it is the last."""
    bodies = [
        (each["path"].rpartition("/")[2], json.loads(each["body"]))
        for each in player.requests
        if "connections/1002" in each["path"] and "body" in each
    ]
    (offer,) = (body for name, body in bodies if name == "sdp_params")
    assert "a=candidate" not in offer["sdp_offer"]
    batches = [body for name, body in bodies if name == "ice_candidates"]
    sent = [each["candidate"] for body in batches for each in body["candidates"]]
    assert sent
    assert all(".local " in each for each in sent), "before it may use the camera"
    assert [body["is_final"] for body in batches] == [False] * (len(batches) - 1) + [True]


def check_channels(player: Player) -> None:
    """What it says by itself once it is ready, and what it is answered."""
    said = player.page.run("seen.said")
    control = [json.loads(each["text"]) for each in said if each["label"] == "control"]
    resumed = [each for each in control if each.get("event") == "resume_track"]
    # Once it was ready and once for the track that came, on both connections.
    assert [each["data"]["name"] for each in resumed] == ["main_video"] * 4
    assert any(each.get("method") == "publish_track" for each in control)
    schema = player.value("client.getSchema()")
    assert schema["openapi"].startswith("3.1")
    assert {"/events/set_video", "/events/start"} <= schema["paths"].keys()
    assert "chunk_complete" in schema["webhooks"]
    refusal = player.value("client.requestClip(2).catch(({ code }) => code)")
    assert refusal == "RECORDER_DISABLED"


def test_it_goes_through_all_flows_in_local_mode(
    open_player: Open, clips: tuple[Clip, Clip]
) -> None:
    player = goes_through_all(open_player, "local", clips)
    tokens = {
        each["headers"].get("Authorization")
        for each in player.requests
        if "transport" in each["path"]
    }
    assert tokens == {"Bearer local"}
    player("disconnect")
    assert player.routes()[-1] == ("POST", "/stop_session", 200)


def test_a_page_that_was_loaded_again_joins_its_session(open_player: Open) -> None:
    player = open_player(WIRE, "cloud")
    url, base = player.page.run("location.href"), player.value("base")
    session = player("connect")
    player("reply", "set_prompt", "prompt_accepted", {"prompt": passes.THIRD_PROMPT})
    player.page.go(url)
    again = Player(player.page, WIRE, base, "cloud")
    again("connect", "any", {"sessionId": session})
    again("told", "state", {"current_prompt": passes.THIRD_PROMPT})
    again("disconnect")
    assert ask(again, "DELETE", f"/sessions/{session}")[0] == 204


def test_a_connection_may_be_registered_by_somebody_else(open_player: Open) -> None:
    owner, guest = open_player(WIRE, "cloud"), open_player(WIRE, "cloud")
    session = owner("connect")
    status, made = ask(owner, "POST", f"/sessions/{session}/transport/webrtc/connections")
    assert status == 201
    number = json.loads(made)["connection_id"]
    guest("connect", "any", {"sessionId": session, "connectionId": number})
    guest("reply", "set_seed", None, {"seed": 11})
    owner("told", "state", {"seed": 11})
    assert ("POST", f"{TRANSPORT}/connections", 201) not in guest.routes()
    guest("disconnect")
    owner("reply", "set_seed", None, {"seed": 12})
    owner("disconnect")


def test_a_token_may_come_from_a_function_that_is_asked_for_each_request(
    open_player: Open,
) -> None:
    player = open_player(WIRE, "cloud")
    player.page.run("globalThis.tokens = 0")
    player.page.run("player.connect(async () => `token ${++tokens}`)")
    sent = [each["headers"]["Authorization"] for each in player.requests]
    assert len(sent) > 4
    assert sent == [f"Bearer token {index + 1}" for index in range(len(sent))]
    player("disconnect")


def test_who_comes_back_to_a_session_that_is_over_begins_another(open_player: Open) -> None:
    player = open_player(WIRE, "cloud")
    session = player("connect")
    player.page.run("player.client.disconnect(true)")
    assert ask(player, "DELETE", f"/sessions/{session}")[0] == 204
    known = player.value("messages.length")
    player.page.run("player.client.reconnect()")
    player("told", "state", {"started": False}, known)
    assert player.value("client.getSessionId()") != session
    lost = [each for each in player.requests if each.get("status") == 400]
    assert [each["path"].endswith("/connections") for each in lost] == [True]
    assert player.value("errors.length") == 0
    player("disconnect")


@pytest.mark.parametrize("client", [SDK, WIRE])
def test_while_a_local_session_is_in_use_another_is_refused(idlers: Idlers, client: str) -> None:
    page, base = idlers.mute.page, idlers.mute.value("base")
    with record(client, "local", "errors"):
        assert "409" in refused(page, client, base, "local").message


def test_who_gives_signs_of_life_stays_and_who_is_silent_is_hung_up_on(idlers: Idlers) -> None:
    idlers.mute("leaves")
    # It was hung up on, for that reason; so may be those of other tests.
    assert idlers.mute.value("statuses").count("disconnected") == 1
    assert metric(idlers.mute, SILENT) > idlers.silent
    for (client, mode), player in idlers.players.items():
        with record(client, mode, "pings"):
            idlers.pings[client, mode].result(WAIT_S)
            player("reply", "set_seed", None, {"seed": 5})
            assert player.value("statuses")[-1] == "ready"
            assert "disconnected" not in player.value("statuses"), "it was never away"
            assert player.value("errors") == []
    for player in reversed(idlers.players.values()):
        player("disconnect")


def metric(player: Player, name: str) -> float:
    """Reads a counter of the service."""
    _, text = ask(player, "GET", "/metrics")
    values = [line.split()[-1] for line in text.splitlines() if line.startswith(name)]
    return sum(map(float, values))
