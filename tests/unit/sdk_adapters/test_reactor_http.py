"""Tokens, sessions and signalling over a real socket and a fake hub."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.webrtc.ice import IceServer
from sana_gateway.v1 import session_pb2
from scheduler.core.errors import LimitError, NoCapacityError
from sdk_adapters.reactor import polls, sessions
from tests.fakes.hub import FakeHub
from tests.fakes.peers import FakeDataChannel, FakePeer, FakePeers
from tests.unit.sdk_adapters.reactor_site import JS, OFFER, KeyAuth, Site, SlowPeers

pytestmark = pytest.mark.unit


# Tokens


@pytest.mark.parametrize("body", [None, {}, {"expires_after": 60}])
async def test_tokens_are_answered_for_any_body(site: Site, body: object) -> None:
    status, answer = await site.ask("POST", "/tokens", body, Reactor_API_Key="rk_any")
    assert status == 200
    assert answer["jwt"]
    assert answer["expires_at"] > 1_700_000_000


async def test_tokens_are_answered_without_a_body(site: Site) -> None:
    async with site.client.post(site.url + "/tokens") as response:
        assert response.status == 200


@pytest.mark.parametrize("wish", [0, -1, "long", True, 1.5])
async def test_a_senseless_lifetime_is_refused(site: Site, wish: object) -> None:
    assert (await site.ask("POST", "/tokens", {"expires_after": wish}))[0] == 400


async def test_an_authenticator_without_issuer_exchanges_no_keys(
    serve: Callable[..., Any],
) -> None:
    site = await serve(auth=KeyAuth())
    assert (await site.ask("POST", "/tokens", None, Reactor_API_Key="rk"))[0] == 401


async def test_an_authenticator_may_issue_tokens(serve: Callable[..., Any]) -> None:
    class Issuing(KeyAuth):
        def issue(self, api_key: str | None, lifetime_s: int, details: object) -> tuple[str, int]:
            return f"{api_key}/{lifetime_s}/{details}", 5

    site = await serve(auth=Issuing())
    asked = {"expires_after": 10**9, "authorization_details": [1]}
    status, answer = await site.ask("POST", "/tokens", asked, Reactor_API_Key="rk")
    assert (status, answer) == (200, {"jwt": "rk/21600/[1]", "expires_at": 5})


# Sessions


async def test_a_session_is_created_slim_and_shown_in_full(site: Site) -> None:
    status, created = await site.ask("POST", "/sessions", {"model": {"name": "painter"}})
    assert status == 201
    assert (created["state"], created["model"]) == ("CREATED", {"name": "painter"})
    assert created["cluster"]
    assert created["server_info"]["server_version"]
    assert "capabilities" not in created
    status, shown = await site.ask("GET", f"/sessions/{created['session_id']}")
    assert status == 200
    assert shown["state"] == "ACTIVE"
    assert shown["selected_transport"] == {"protocol": "webrtc", "version": "1.0"}
    capabilities = shown["capabilities"]
    assert capabilities["protocol_version"]
    assert {"name": "camera", "kind": "video", "direction": "sendonly"} in capabilities["tracks"]
    assert {"name": "main_video", "kind": "video", "direction": "recvonly"} in capabilities[
        "tracks"
    ]
    assert all(each["name"] and each["description"] for each in capabilities["commands"])
    assert capabilities["emission_fps"] == 24.0


async def test_a_waiting_session_shows_no_capabilities_until_it_has_its_place(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polls, "PLACE_HOLD_S", 0.01)
    site = await serve(hub=FakeHub(ready=False))
    path = await site.session()
    _, waiting = await site.ask("GET", path)
    assert waiting["state"] == "PENDING"
    assert "capabilities" not in waiting
    assert "selected_transport" not in waiting
    status, servers = await site.ask("GET", path + "/transport/webrtc/ice_servers")
    assert (status, servers) == (200, {"ice_servers": []})
    site.hub.session.place()
    _, ready = await site.ask("GET", path)
    assert "capabilities" in ready


async def test_clients_are_given_the_ice_servers_that_answer(site: Site) -> None:
    path = await site.session() + "/transport/webrtc/ice_servers"
    site.peers.servers = [
        IceServer(("stun:stun.example.org:3478",)),
        IceServer(("turn:a.example.org", "turns:a.example.org"), "somebody", "secret"),
    ]
    _, given = await site.ask("GET", path)
    assert given["ice_servers"] == [
        {"uris": ["stun:stun.example.org:3478"]},
        {
            "uris": ["turn:a.example.org", "turns:a.example.org"],
            "credentials": {"username": "somebody", "password": "secret"},
        },
    ]


async def test_info_is_short(site: Site) -> None:
    path = await site.session()
    _, info = await site.ask("GET", path + "/info")
    assert set(info) == {"session_id", "state", "cluster"}


async def test_a_session_ends_once_and_stays_ended(site: Site) -> None:
    path = await site.session()
    assert (await site.ask("DELETE", path, {"reason": "x"}))[0] == 204
    assert (await site.ask("DELETE", path))[0] == 204
    status, shown = await site.ask("GET", path)
    assert (status, shown["state"]) == (200, "CLOSED")
    assert (await site.ask("PUT", path))[0] == 400
    assert (await site.ask("POST", path + "/transport/webrtc/connections"))[0] == 400


async def test_a_running_session_need_not_be_restarted(site: Site) -> None:
    assert (await site.ask("PUT", await site.session()))[0] == 200


@pytest.mark.parametrize(
    "body", [{}, {"model": "painter"}, {"model": {}}, {"model": {"name": 5}}, [], b"{", b'"x"']
)
async def test_a_request_without_model_is_a_bad_one(site: Site, body: object) -> None:
    assert (await site.ask("POST", "/sessions", body))[0] == 400


async def test_an_unknown_model_is_answered_with_what_is_served(site: Site) -> None:
    status, answer = await site.ask("POST", "/sessions", {"model": {"name": "other"}})
    assert status == 404
    assert answer["served_models"] == ["painter"]


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (NoCapacityError("full"), 503, "5"),
        (NoCapacityError("full", retry_after_s=12.4), 503, "12"),
        (LimitError("too many"), 429, "5"),
    ],
)
async def test_refused_sessions_say_when_to_come_back(
    site: Site, error: Exception, status: int, retry_after: str
) -> None:
    site.hub.create_error = error  # type: ignore[assignment]
    got, answer = await site.ask("POST", "/sessions", {"model": {"name": "painter"}})
    assert (got, site.headers["Retry-After"]) == (status, retry_after)
    assert answer["detail"]
    assert site.headers["Access-Control-Allow-Origin"] == "*"


async def test_tokens_decide_and_tenants_do_not_see_each_other(
    serve: Callable[..., Any],
) -> None:
    site = await serve(auth=KeyAuth())
    wanted = {"model": {"name": "painter"}}
    assert (await site.ask("POST", "/sessions", wanted))[0] == 401
    assert (await site.ask("POST", "/sessions", wanted, Authorization="Bearer local"))[0] == 401
    assert (await site.ask("POST", "/sessions", wanted, Authorization="Bearer o"))[0] == 403
    path = await site.session(Authorization="Bearer a")
    assert (await site.ask("GET", path, Authorization="Bearer a"))[0] == 200
    for below in ("", "/info", "/transport/webrtc/ice_servers"):
        assert (await site.ask("GET", path + below, Authorization="Bearer b"))[0] == 404
    assert (await site.ask("DELETE", path, Authorization="Bearer b"))[0] == 404
    assert (await site.ask("GET", path))[0] == 401


@pytest.mark.parametrize(
    ("version", "status"), [("1", 200), ("2", 501), ("0", 426), ("x", 400), ("9" * 5000, 400)]
)
async def test_other_versions_of_the_api_are_told_so(site: Site, version: str, status: int) -> None:
    path = await site.session()
    assert (await site.ask("GET", path, Reactor_API_Version=version))[0] == status


async def test_browsers_may_ask_from_any_page_before_they_authenticate(
    serve: Callable[..., Any],
) -> None:
    site = await serve(auth=KeyAuth())
    for path in ("/sessions", "/sessions/x/transport/webrtc/connections", "/uploads/x", "/tokens"):
        status, _ = await site.ask("OPTIONS", path, Origin="http://page.example")
        assert status == 204
        assert site.headers["Access-Control-Allow-Origin"] == "*"
        for method in ("GET", "POST", "PUT", "DELETE"):
            assert method in site.headers["Access-Control-Allow-Methods"]
        allowed = site.headers["Access-Control-Allow-Headers"]
        for header in ("authorization", "content-type", "reactor-webrtc-version"):
            assert header in allowed


# Signalling


async def test_connections_are_numbered_from_1002(site: Site) -> None:
    transport = await site.session() + "/transport/webrtc"
    numbers = [
        (await site.ask("POST", transport + "/connections", body))[1]["connection_id"]
        for body in (None, {})
    ]
    assert numbers == [1002, 1003]


async def test_an_offer_is_accepted_at_once_and_answered_later(
    serve: Callable[..., Any],
) -> None:
    peers = SlowPeers()
    site = await serve(peers=peers)
    path = await site.connection()
    assert (await site.ask("GET", path + "/sdp_params"))[0] == 202
    status, accepted = await site.ask("POST", path + "/sdp_params", OFFER)
    assert (status, accepted) == (202, {"connection_id": 1002})
    polling = asyncio.create_task(site.ask("GET", path + "/sdp_params"))
    await peers.asked.wait()
    peers.go.set()
    assert await polling == (200, {"sdp_answer": "answer to first", "connection_id": 1002})
    assert peers.peers[0].tracks == {"0": "camera", "1": "main_video"}


async def test_a_poll_returns_after_a_while_without_an_answer(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polls, "ANSWER_HOLD_S", 0.01)
    site = await serve(peers=SlowPeers())
    path = await site.connection()
    await site.ask("POST", path + "/sdp_params", OFFER)
    assert (await site.ask("GET", path + "/sdp_params"))[0] == 202


async def test_a_new_offer_replaces_the_old_and_its_answer(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polls, "ANSWER_HOLD_S", 0.05)
    peers = SlowPeers()
    peers.go.set()
    site = await serve(peers=peers)
    path = await site.connection()
    await site.ask("POST", path + "/sdp_params", OFFER)
    assert (await site.ask("GET", path + "/sdp_params"))[1]["sdp_answer"] == "answer to first"
    peers.go.clear()
    assert (await site.ask("PUT", path + "/sdp_params", OFFER | {"sdp_offer": "second"}))[0] == 202
    assert (await site.ask("GET", path + "/sdp_params"))[0] == 202
    assert site.hub.session.connections[0].closed
    peers.go.set()
    assert (await site.ask("GET", path + "/sdp_params"))[1]["sdp_answer"] == "answer to second"
    assert [peer.closed for peer in peers.peers] == [True, False]


async def test_the_publisher_is_freed_when_its_connection_offers_again(site: Site) -> None:
    path = await site.connection()
    await site.ask("POST", path + "/sdp_params", OFFER)
    site.hub.session.connections[0].claim_camera()
    await site.ask("PUT", path + "/sdp_params", OFFER)
    assert site.hub.session.publisher is None


async def test_an_unanswered_offer_that_was_replaced_leaves_no_peer(
    serve: Callable[..., Any],
) -> None:
    peers = SlowPeers()
    site = await serve(peers=peers)
    path = await site.connection()
    await site.ask("POST", path + "/sdp_params", OFFER)
    await peers.asked.wait()
    await site.ask("PUT", path + "/sdp_params", OFFER | {"sdp_offer": "second"})
    peers.go.set()
    assert (await site.ask("GET", path + "/sdp_params"))[1]["sdp_answer"] == "answer to second"
    assert {peer.sdp: peer.closed for peer in peers.peers} == {"first": True, "second": False}


async def test_a_put_may_be_the_first_offer(site: Site) -> None:
    path = await site.connection()
    assert (await site.ask("PUT", path + "/sdp_params", OFFER))[0] == 202
    assert (await site.ask("GET", path + "/sdp_params"))[0] == 200


async def test_the_legacy_routes_need_no_connection(site: Site) -> None:
    path = await site.session() + "/transport/webrtc/sdp_params"
    assert (await site.ask("GET", path))[0] == 202
    for method in ("POST", "PUT"):
        status, accepted = await site.ask(method, path, OFFER)
        assert (status, accepted) == (202, {"connection_id": 1001})
        status, answer = await site.ask("GET", path)
        assert (status, answer["connection_id"]) == (200, 1001)


async def test_two_connections_share_a_session(site: Site) -> None:
    transport = await site.session() + "/transport/webrtc/connections"
    for number in (1002, 1003):
        await site.ask("POST", transport)
        await site.ask("POST", f"{transport}/{number}/sdp_params", OFFER)
        assert (await site.ask("GET", f"{transport}/{number}/sdp_params"))[0] == 200
    assert len(site.hub.session.open_connections) == 2


@pytest.mark.parametrize("number", ["1003", "9999", "abc", "10020", "-1"])
async def test_unknown_connections_are_not_found(site: Site, number: str) -> None:
    path = (await site.connection()).rpartition("/")[0] + f"/{number}"
    assert (await site.ask("POST", path + "/sdp_params", OFFER))[0] == 404
    assert (await site.ask("GET", path + "/sdp_params"))[0] == 404
    assert (await site.ask("POST", path + "/ice_candidates", {"candidates": []}))[0] == 404


@pytest.mark.parametrize(
    "change",
    [
        {"sdp_offer": ""},
        {"sdp_offer": None},
        {"sdp_offer": "x" * 70_000},
        {"track_mapping": None},
        {"track_mapping": []},
        {"track_mapping": [{"mid": 0, "name": "camera"}]},
        {"track_mapping": ["camera"]},
        {"track_mapping": OFFER["track_mapping"] * 2},  # type: ignore[operator]
    ],
)
async def test_senseless_offers_are_refused_at_once(site: Site, change: dict[str, object]) -> None:
    path = await site.connection()
    assert (await site.ask("POST", path + "/sdp_params", OFFER | change))[0] == 422
    assert site.hub.session.connections == []


async def test_an_offer_that_cannot_be_answered_is_refused_on_the_poll(site: Site) -> None:
    path = await site.connection()
    assert (await site.ask("POST", path + "/sdp_params", OFFER | {"sdp_offer": "bad"}))[0] == 202
    status, answer = await site.ask("GET", path + "/sdp_params")
    assert (status, answer["reason"]) == (422, "BAD_OFFER")
    assert site.hub.session.open_connections == []
    assert (await site.ask("PUT", path + "/sdp_params", OFFER))[0] == 202
    assert (await site.ask("GET", path + "/sdp_params"))[0] == 200


async def test_a_failing_negotiation_is_our_fault_and_tells_nothing(
    serve: Callable[..., Any],
) -> None:
    class Failing(FakePeers):
        async def answer(self, *_: Any, **__: Any) -> tuple[FakePeer, str]:
            raise ZeroDivisionError("secret")

    site = await serve(peers=Failing())
    path = await site.connection()
    await site.ask("POST", path + "/sdp_params", OFFER)
    status, answer = await site.ask("GET", path + "/sdp_params")
    assert (status, answer) == (500, {"detail": "internal error"})
    assert site.hub.session.open_connections == []


def _candidate(number: int) -> dict[str, object]:
    line = f"candidate:{number} 1 udp 1 127.0.0.1 {number} typ host"
    return {"candidate": line, "sdp_mid": "0", "sdp_mline_index": 0}


async def test_candidates_wait_for_their_peer(serve: Callable[..., Any]) -> None:
    peers = SlowPeers()
    site = await serve(peers=peers)
    path = await site.connection()
    for number in (1, 2):
        body = {"candidates": [_candidate(number)], "is_final": False, "client_info": JS}
        assert (await site.ask("POST", path + "/ice_candidates", body))[0] == 202
        if number == 1:
            await site.ask("POST", path + "/sdp_params", OFFER)
            await peers.asked.wait()
    peers.go.set()
    assert (await site.ask("GET", path + "/sdp_params"))[0] == 200
    await site.ask("POST", path + "/ice_candidates", {"candidates": [_candidate(3)]})
    last = {"candidates": [{"candidate": "", "sdp_mid": None}], "is_final": True}
    assert (await site.ask("POST", path + "/ice_candidates", last))[0] == 202
    assert (await site.ask("POST", path + "/ice_candidates", {"is_final": True}))[0] == 202
    peer = peers.peers[0]
    assert peer.candidates == [
        session_pb2.IceCandidate(candidate=_candidate(number)["candidate"], sdp_mid="0")  # type: ignore[arg-type]
        for number in (1, 2, 3)
    ]


@pytest.mark.parametrize("candidates", ["x", ["x"], [_candidate(1)] * 65])
async def test_senseless_candidates_are_refused(site: Site, candidates: object) -> None:
    path = await site.connection()
    assert (await site.ask("POST", path + "/ice_candidates", {"candidates": candidates}))[0] == 400


async def test_the_client_is_told_of_the_end_before_its_peer_closes(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "DRAIN_S", 0.0)
    path = await site.connection()
    await site.ask("POST", path + "/sdp_params", OFFER)
    await site.ask("GET", path + "/sdp_params")
    peer, data = site.peers.peers[0], FakeDataChannel("data")
    assert peer.channels is not None
    peer.channels.opened(data)
    closed_when_told: list[bool] = []
    data.send = lambda _: closed_when_told.append(peer.closed)  # type: ignore[method-assign]
    await site.ask("DELETE", path.partition("/transport")[0])
    async with asyncio.timeout(30):
        while not peer.closed:  # noqa: ASYNC110 - the fake has no event
            await asyncio.sleep(0)
    assert closed_when_told == [False]
    assert site.hub.session.open_connections == []


async def test_a_lost_peer_ends_its_connection_but_not_the_session(site: Site) -> None:
    path = await site.connection()
    await site.ask("POST", path + "/sdp_params", OFFER)
    await site.ask("GET", path + "/sdp_params")
    site.peers.peers[0].fail()
    assert site.hub.session.open_connections == []
    assert site.hub.session.end_reason is None
    assert (await site.ask("GET", path + "/sdp_params"))[0] == 404
    assert (await site.ask("PUT", path + "/sdp_params", OFFER))[0] == 202
    assert (await site.ask("GET", path + "/sdp_params"))[0] == 200


async def test_too_many_connections_of_the_hub_are_told_so(site: Site) -> None:
    path = await site.connection()
    site.hub.session.connect_error = LimitError("too many connections")
    assert (await site.ask("POST", path + "/sdp_params", OFFER))[0] == 429
