"""The HTTP routes of the Reactor wire, over a real socket and a fake hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from gateway.http import HttpServer
from gateway.ingress import IngressServices, IngressSettings
from sana_gateway.v1 import session_pb2
from scheduler.core.errors import LimitError, NoCapacityError, UnauthenticatedError
from scheduler.core.ids import Principal
from sdk_adapters.reactor import sessions, uploads
from sdk_adapters.reactor.ingress import ReactorIngress
from tests.fakes.hub import FakeDataChannel, FakeHub, FakePeer, FakePeers, FakeUploads

pytestmark = pytest.mark.unit

JS = {"sdk_type": "js", "sdk_version": "2.12.3"}
OFFER = {
    "sdp_offer": "first",
    "client_info": JS,
    "track_mapping": [
        {"mid": "0", "name": "camera", "kind": "video", "direction": "sendonly"},
        {"mid": "1", "name": "main_video", "kind": "video", "direction": "recvonly"},
    ],
}


class KeyAuth:
    """Two tenants and an operator who may not use sessions."""

    def authenticate(self, token: str | None) -> Principal:
        tenants = {"a": {"session"}, "b": {"session"}, "o": {"operator"}}
        if token not in tenants:
            raise UnauthenticatedError("wrong token")
        return Principal(token or "", frozenset(tenants[token or ""]))


class SlowPeers(FakePeers):
    """Answers when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.asked = asyncio.Event()

    async def answer(self, *args: Any, **kwargs: Any) -> tuple[FakePeer, str]:
        self.asked.set()
        await self.go.wait()
        return await super().answer(*args, **kwargs)


class Site:
    """A server with the wire mounted, and a client of it."""

    def __init__(self, services: IngressServices, client: aiohttp.ClientSession, url: str) -> None:
        self.services = services
        self.hub: FakeHub = services.hub  # type: ignore[assignment]
        self.peers: FakePeers = services.peers  # type: ignore[assignment]
        self.client = client
        self.url = url
        self.headers: dict[str, str] = {}

    async def ask(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, Any]:
        """Returns status and JSON body; `self.headers` holds the response's headers then."""
        url = path if path.startswith("http") else self.url + path
        data: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self.client.request(
            method, url, headers={key.replace("_", "-"): it for key, it in headers.items()}, **data
        ) as response:
            self.headers = dict(response.headers)
            has_body = response.content_type == "application/json"
            return response.status, await response.json() if has_body else await response.text()

    async def session(self, **headers: str) -> str:
        _, created = await self.ask("POST", "/sessions", {"model": {"name": "painter"}}, **headers)
        return f"/sessions/{created['session_id']}"

    async def connection(self) -> str:
        """Makes a session and a connection; returns the path of the connection."""
        transport = await self.session() + "/transport/webrtc"
        _, made = await self.ask("POST", transport + "/connections")
        return f"{transport}/connections/{made['connection_id']}"


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Any]]:
    """Returns a function that serves a wire over fakes."""
    running: list[Any] = []

    async def make(
        hub: FakeHub | None = None,
        peers: FakePeers | None = None,
        auth: Any = None,
        **settings: Any,
    ) -> Site:
        from gateway.auth import NoAuth

        services = IngressServices(
            hub=hub or FakeHub(),
            uploads=FakeUploads(),
            auth=auth or NoAuth(),
            peers=peers or FakePeers(),
            pool=None,  # type: ignore[arg-type]
            settings=IngressSettings(http_address="127.0.0.1:0", **settings),
        )
        http, wire = HttpServer(services), ReactorIngress(services)
        http.add_routes(wire.routes())
        await wire.start()
        await http.start()
        client = aiohttp.ClientSession()
        running.extend([client.close, wire.stop, http.stop])
        return Site(services, client, http.url)

    yield make
    for stop in running:
        await stop()


@pytest.fixture
async def site(serve: Callable[..., Any]) -> Site:
    made: Site = await serve()
    return made


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
    serve: Callable[..., Any],
) -> None:
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


@pytest.mark.parametrize(("version", "status"), [("1", 200), ("2", 501), ("0", 426), ("x", 400)])
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
    monkeypatch.setattr(sessions, "ANSWER_HOLD_S", 0.01)
    site = await serve(peers=SlowPeers())
    path = await site.connection()
    await site.ask("POST", path + "/sdp_params", OFFER)
    assert (await site.ask("GET", path + "/sdp_params"))[0] == 202


async def test_a_new_offer_replaces_the_old_and_its_answer(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "ANSWER_HOLD_S", 0.05)
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
    async with asyncio.timeout(5):
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


# Local mode


async def test_local_mode_starts_shows_and_stops_one_session(site: Site) -> None:
    assert (await site.ask("GET", "/session"))[0] == 404
    status, started = await site.ask("POST", "/start_session", {})
    assert status == 200
    assert started["capabilities"]["tracks"]
    assert started["model"] == {"name": "painter"}
    assert (await site.ask("GET", "/session"))[1]["session_id"] == started["session_id"]
    assert (await site.ask("POST", "/start_session", {}))[0] == 409
    status, stopped = await site.ask("POST", "/stop_session")
    assert (status, stopped["state"]) == (200, "CLOSED")
    assert (await site.ask("POST", "/stop_session"))[0] == 404
    assert (await site.ask("POST", "/start_session", {}))[0] == 200


async def test_local_mode_ignores_the_bearer_that_clients_send(site: Site) -> None:
    _, started = await site.ask("POST", "/start_session", {})
    path = f"/sessions/{started['session_id']}/transport/webrtc/connections"
    assert (await site.ask("POST", path, Authorization="Bearer local"))[0] == 201


async def test_local_mode_does_not_wait_for_a_place(serve: Callable[..., Any]) -> None:
    site = await serve(hub=FakeHub(ready=False))
    assert (await site.ask("POST", "/start_session", {}))[0] == 503
    assert site.headers["Retry-After"]
    assert site.hub.session.end_reason is not None
    site.hub.ready = True
    assert (await site.ask("POST", "/start_session", {}))[0] == 200


async def test_local_mode_without_a_model_says_so(serve: Callable[..., Any]) -> None:
    site = await serve(hub=FakeHub(models=()))
    assert (await site.ask("POST", "/start_session", {}))[0] == 503
    assert site.headers["Retry-After"] == "1"


async def test_an_abandoned_local_session_gives_way(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdk_adapters.reactor import local_routes

    monkeypatch.setattr(local_routes, "CONNECT_S", 0.0)
    _, first = await site.ask("POST", "/start_session", {})
    status, second = await site.ask("POST", "/start_session", {})
    assert status == 200
    assert second["session_id"] != first["session_id"]
    path = f"/sessions/{second['session_id']}/transport/webrtc/sdp_params"
    await site.ask("POST", path, OFFER)
    assert (await site.ask("POST", "/start_session", {}))[0] == 409


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/start_session"), ("GET", "/session"), ("POST", "/stop_session")]
)
async def test_local_mode_exists_only_without_authentication(
    serve: Callable[..., Any], method: str, path: str
) -> None:
    site = await serve(auth=KeyAuth())
    assert (await site.ask(method, path, Authorization="Bearer a"))[0] == 401


# Uploads

CLIP = {"name": "clip.mp4", "mime_type": "video/mp4", "size": 5}


async def _slot(site: Site) -> dict[str, str]:
    status, slot = await site.ask("POST", await site.session() + "/uploads", CLIP)
    assert status == 201
    made: dict[str, str] = slot
    return made


async def test_an_upload_takes_three_steps_and_no_token_for_the_bytes(site: Site) -> None:
    slot = await _slot(site)
    assert set(slot) == {"presigned_id", "presigned_url", "path"}
    assert slot["presigned_url"].startswith(site.url + "/uploads/")
    assert slot["presigned_id"] not in slot["presigned_url"]
    assert (await site.ask("PUT", slot["presigned_url"], b"12345"))[0] == 200
    upload = site.services.uploads.find(site.hub.session.session_id, slot["presigned_id"])
    assert upload.complete
    assert (await site.ask("PUT", slot["presigned_url"], b"12345"))[0] == 409


async def test_the_url_is_the_public_one_where_one_is_configured(
    serve: Callable[..., Any],
) -> None:
    site = await serve(public_url="https://edit.example/base/")
    slot = await _slot(site)
    assert slot["presigned_url"].startswith("https://edit.example/base/uploads/")


async def test_large_uploads_arrive_in_blocks(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "BLOCK_BYTES", 1000)
    content = bytes(range(256)) * 10
    path = await site.session() + "/uploads"
    _, slot = await site.ask("POST", path, CLIP | {"size": len(content)})
    assert (await site.ask("PUT", slot["presigned_url"], content))[0] == 200
    upload = site.services.uploads.find(site.hub.session.session_id, slot["presigned_id"])
    assert bytes(upload.data) == content  # type: ignore[attr-defined]


async def test_an_upload_that_takes_too_long_is_given_up_and_may_be_repeated(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = await _slot(site)
    monkeypatch.setattr(uploads, "LIFETIME_S", 0.01)
    never = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield b"1"
        await never.wait()

    async with site.client.put(slot["presigned_url"], data=stuck()) as response:
        assert response.status == 408
    monkeypatch.undo()
    assert (await site.ask("PUT", slot["presigned_url"], b"12345"))[0] == 200


@pytest.mark.parametrize("body", [b"1234", b"123456"])
async def test_bytes_of_another_length_are_refused(site: Site, body: bytes) -> None:
    slot = await _slot(site)
    assert (await site.ask("PUT", slot["presigned_url"], body))[0] == 400
    assert (await site.ask("PUT", slot["presigned_url"], b"12345"))[0] == 200


async def test_a_broken_upload_goes_on_when_it_is_sent_again(site: Site) -> None:
    slot = await _slot(site)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"1"
        yield b"2"

    async with site.client.put(slot["presigned_url"], data=pieces()) as response:
        assert response.status == 400
    assert (await site.ask("PUT", slot["presigned_url"], b"12345"))[0] == 200
    upload = site.services.uploads.find(site.hub.session.session_id, slot["presigned_id"])
    assert bytes(upload.data) == b"12345"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "change",
    [{"name": ""}, {"mime_type": ""}, {"size": 0}, {"size": "5"}, {"size": True}, {"name": None}],
)
async def test_an_upload_needs_name_type_and_size(site: Site, change: dict[str, object]) -> None:
    path = await site.session() + "/uploads"
    assert (await site.ask("POST", path, CLIP | change))[0] == 400


async def test_uploads_of_nobody_are_not_found(site: Site) -> None:
    assert (await site.ask("PUT", "/uploads/guess", b"12345"))[0] == 404
    assert (await site.ask("POST", "/sessions/nobody/uploads", CLIP))[0] == 404


async def test_an_ended_session_takes_no_uploads(site: Site) -> None:
    path = await site.session()
    await site.ask("DELETE", path)
    assert (await site.ask("POST", path + "/uploads", CLIP))[0] == 400


async def test_the_url_of_an_upload_expires(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "LIFETIME_S", 0.0)
    slot = await _slot(site)
    assert (await site.ask("PUT", slot["presigned_url"], b"12345"))[0] == 404
