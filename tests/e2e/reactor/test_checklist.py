"""The server's checklist of the Reactor wire, row by row, over real HTTP.

Every row of the specification's last list is a test named after it, or several. What needs a
peer connection is in `test_checklist_channels.py` and `test_checklist_media.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.e2e.reactor.wire_client import MODEL, VERSIONS, WireClient, client
from tests.stack import Stack

pytestmark = pytest.mark.e2e

SOON_S = 5.0
"""Within this time an offer must have its answer."""


@pytest.fixture
async def one(simulated: Stack) -> AsyncIterator[WireClient]:
    """A client without a session."""
    async with client(simulated.http_url) as made:
        yield made


# POST /tokens (any/empty body) -> {jwt, expires_at}

SCOPED = {
    "expires_after": 3600,
    "authorization_details": [
        {
            "type": "session",
            "resources": {"models": {"match": [MODEL]}},
            "constraints": {"max_sessions": 10, "max_session_duration_seconds": 600},
        }
    ],
}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", ""),
        (b"", "application/octet-stream"),
        (b"null", "application/json"),
        (b"{}", "application/json"),
        (b'{"of": "tomorrow"}', "application/json"),
    ],
)
async def test_tokens_for_any_or_no_body(one: WireClient, body: bytes, content_type: str) -> None:
    headers = {"Content_Type": content_type} if content_type else {}
    issued = await one.ask("POST", "/tokens", body, Reactor_API_Key="rk_test", **headers)
    assert issued.status == 200
    assert isinstance(issued.body["jwt"], str)
    assert issued.body["jwt"]
    assert isinstance(issued.body["expires_at"], int)


async def test_tokens_for_a_scope(one: WireClient) -> None:
    issued = await one.ask("POST", "/tokens", SCOPED, Reactor_API_Key="rk_test")
    assert issued.status == 200
    assert issued.body["jwt"]


# POST /sessions 201, GET /sessions/{id} with the full object, DELETE 200/204/404

REQUIRED: dict[str, Any] = {
    "session_id": str,
    "state": str,
    "cluster": str,
    "model": {"name": str},
    "server_info": {"server_version": str},
    "selected_transport": {"protocol": str},
    "capabilities": {"protocol_version": str, "tracks": list, "commands": list},
}
SLIM = {"session_id", "state", "cluster", "model", "server_info"}


def has_required(shown: dict[str, Any], required: dict[str, Any]) -> bool:
    return all(
        has_required(shown[name], kind)
        if isinstance(kind, dict)
        else isinstance(shown.get(name), kind)
        for name, kind in required.items()
    )


async def test_sessions_are_created_with_201_and_shown_with_every_required_field(
    one: WireClient,
) -> None:
    body = {"model": {"name": MODEL}, "client_info": {}, "extra_args": {"of": "tomorrow"}}
    created = await one.ask("POST", "/sessions", body)
    assert created.status == 201
    slim = {name: kind for name, kind in REQUIRED.items() if name in SLIM}
    assert has_required(created.body, slim), created.body
    shown = await one.join(created.body["session_id"])
    assert has_required(shown, REQUIRED), shown
    assert shown["selected_transport"]["protocol"] == "webrtc"
    assert shown["state"] not in ("INACTIVE", "CLOSED")
    assert shown["capabilities"]["emission_fps"] == 24
    tracks = [(each["name"], each["kind"], each["direction"]) for each in capable(shown)]
    assert tracks == [("camera", "video", "sendonly"), ("main_video", "video", "recvonly")]
    for command in shown["capabilities"]["commands"]:
        assert command["name"]
        assert command["description"]


def capable(shown: dict[str, Any]) -> list[dict[str, str]]:
    return list(shown["capabilities"]["tracks"])


@pytest.mark.parametrize("name", ["sana-streaming", "reactor/sana-streaming"])
async def test_models_are_known_with_and_without_their_namespace(
    one: WireClient, name: str
) -> None:
    created = await one.ask("POST", "/sessions", {"model": {"name": name}})
    assert created.status == 201
    one.session_id = created.body["session_id"]


async def test_sessions_are_deleted_as_often_as_a_client_asks(one: WireClient) -> None:
    await one.create()
    statuses = [(await one.ask("DELETE", ".", {"reason": "done"})).status for _ in range(2)]
    assert set(statuses) <= {200, 204, 404}
    shown = await one.ask("GET", ".")
    assert shown.status == 404 or shown.body["state"] == "CLOSED"


async def test_info_is_short(one: WireClient) -> None:
    await one.create()
    info = await one.ask("GET", "./info")
    assert set(info.body) == {"session_id", "state", "cluster"}


async def test_errors_on_sessions_have_the_statuses_that_clients_know(one: WireClient) -> None:
    statuses = {
        "unknown model": await one.ask("POST", "/sessions", {"model": {"name": "nobody"}}),
        "no model": await one.ask("POST", "/sessions", {}),
        "unknown session": await one.ask("GET", "/sessions/nobody"),
        "unknown info": await one.ask("GET", "/sessions/nobody/info"),
        "unknown upload": await one.ask("PUT", "/uploads/nobody", b"x"),
    }
    assert {what: answer.status for what, answer in statuses.items()} == {
        "unknown model": 404,
        "no model": 400,
        "unknown session": 404,
        "unknown info": 404,
        "unknown upload": 404,
    }


@pytest.mark.parametrize(("version", "status"), [("0", 426), ("1", 201), ("2", 501)])
async def test_other_versions_of_the_api_end_with_426_or_501(
    simulated: Stack, version: str, status: int
) -> None:
    async with client(simulated.http_url, headers={"Reactor-API-Version": version}) as one:
        created = await one.ask("POST", "/sessions", {"model": {"name": MODEL}})
        assert created.status == status
        one.headers = dict(VERSIONS)
        one.session_id = created.body["session_id"] if status == 201 else ""


# GET {T}/ice_servers -> {"ice_servers": []} or real ones


async def test_ice_servers_are_told_as_soon_as_the_session_exists(one: WireClient) -> None:
    created = await one.ask("POST", "/sessions", {"model": {"name": MODEL}})
    one.session_id = created.body["session_id"]
    told = await one.ask("GET", "./transport/webrtc/ice_servers")
    assert told.status == 200
    for server in told.body["ice_servers"]:
        assert server["uris"]


# /connections 201, /connections/{cid}/sdp_params, /ice_candidates 202


async def test_connections_are_numbered_from_1002_with_201(one: WireClient) -> None:
    await one.create()
    made = [
        await one.ask("POST", "./transport/webrtc/connections", body) for body in (None, {}, {})
    ]
    assert [answer.status for answer in made] == [201] * 3
    numbers = [answer.body["connection_id"] for answer in made]
    assert numbers == [1002, 1003, 1004]


@pytest.mark.parametrize("kind", ["js-2.9", "js-2.12"])
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_offers_are_taken_with_202_and_answered_soon(
    simulated: Stack, kind: str, method: str
) -> None:
    """With PUT, it is the first offer of its number: a client that reconnects makes a new one."""
    async with client(simulated.http_url, kind) as one:
        await one.create()
        if one.kind.numbered:
            await one.register()
        await one.prepare()
        taken = await one.offer(method, of="tomorrow")
        assert taken.status == 202
        async with asyncio.timeout(SOON_S):
            assert (await one.answered()).startswith("v=0")


@pytest.mark.parametrize("kind", ["js-2.9", "js-2.12"])
async def test_a_put_is_never_answered_with_the_previous_answer(
    simulated: Stack, kind: str
) -> None:
    async with client(simulated.http_url, kind) as one, client(simulated.http_url, kind) as again:
        await one.create()
        if one.kind.numbered:
            again.connection_id = await one.register()
        again.session_id, own = one.session_id, one.session_id
        try:
            await one.prepare()
            await one.offer()
            before = await one.answered()
            await again.prepare()
            assert (await again.offer("PUT")).status == 202
            after = await again.answered()
            assert ufrag(after) != ufrag(before)
            await again.connected(after)
            await again.until_heard("state")
        finally:
            again.session_id, one.session_id = "", own


def ufrag(sdp: str) -> str:
    return sdp.partition("a=ice-ufrag:")[2].partition("\r\n")[0]


@pytest.mark.parametrize(
    "change",
    [{"sdp_offer": None}, {"sdp_offer": ""}, {"track_mapping": []}, {"track_mapping": "camera"}],
    ids=str,
)
async def test_an_offer_that_makes_no_sense_is_refused(
    one: WireClient, change: dict[str, Any]
) -> None:
    await one.create()
    await one.register()
    await one.prepare()
    refused = await one.offer(**change)
    assert refused.status == 422
    assert refused.body["detail"]


async def test_wrong_ids_are_404_and_an_ended_session_is_400(one: WireClient) -> None:
    await one.create()
    await one.register()
    await one.prepare()
    own, one.connection_id = one.connection_id, 7777
    assert (await one.offer()).status == 404
    one.connection_id = own
    await one.ask("DELETE", ".")
    assert (await one.offer()).status == 400
    assert (await one.ask("POST", "./transport/webrtc/connections")).status == 400


async def test_candidates_are_taken_with_202_before_and_after_the_offer(one: WireClient) -> None:
    await one.create()
    await one.register()
    await one.prepare()
    early = [
        {"candidate": "candidate:1 1 udp 2113937151 4fe2-0.local 50000 typ host", "sdp_mid": "0"},
        {"candidate": "candidate:2 1 tcp 1518280447 127.0.0.1 9 typ host tcptype active"},
        {"candidate": "", "sdp_mid": "0", "sdp_mline_index": 0},
    ]
    assert (await one.trickle(early, is_final=False)).status == 202
    assert (await one.offer()).status == 202
    assert (await one.trickle(early, is_final=False)).status == 202
    assert (await one.trickle([], is_final=True)).status == 202
    await one.connected(await one.answered())


# Uploads (3 steps), presigned URL absolute and unauthenticated


async def test_uploads_go_to_an_absolute_url_that_needs_no_token(
    one: WireClient, simulated: Stack
) -> None:
    await one.create()
    slot = await one.ask(
        "POST", "./uploads", {"name": "clip.mp4", "size": 5, "mime_type": "video/mp4"}
    )
    assert slot.status == 201
    assert all(isinstance(slot.body[key], str) for key in ("presigned_id", "path"))
    url = slot.body["presigned_url"]
    assert url.startswith(simulated.http_url)
    async with aiohttp.ClientSession() as anybody:

        async def put(data: bytes) -> int:
            async with anybody.put(url, data=data, headers={"Content-Type": "video/mp4"}) as done:
                return done.status

        assert await put(b"four") == 400
        assert await put(b"whole") in range(200, 300)
        assert await put(b"again") == 409


@pytest.mark.parametrize(
    "change", [{"name": ""}, {"mime_type": ""}, {"size": 0}, {"size": -1}], ids=str
)
async def test_uploads_without_name_type_or_size_are_refused(
    one: WireClient, change: dict[str, Any]
) -> None:
    await one.create()
    wish = {"name": "clip.mp4", "size": 5, "mime_type": "video/mp4"} | change
    assert (await one.ask("POST", "./uploads", wish)).status == 400
    own, one.session_id = one.session_id, "nobody"
    assert (await one.ask("POST", "./uploads", wish)).status == 404
    one.session_id = own


# Local mode: /start_session, /session, /stop_session, auth ignored


@pytest.mark.parametrize("token", [None, "Bearer local", "Bearer whatever"])
async def test_local_mode_starts_shows_and_stops_whoever_asks(
    simulated: Stack, token: str | None
) -> None:
    headers = VERSIONS | ({} if token is None else {"Authorization": token})
    async with client(simulated.http_url, headers=headers) as one:
        started = await one.create(local=True)
        assert has_required(started, REQUIRED), started
        assert (await one.ask("GET", "/session")).body == started
        told = await one.ask("GET", "./transport/webrtc/ice_servers", Authorization="Bearer local")
        assert told.status == 200
        again = await one.ask("POST", "/start_session", {})
        assert again.status == 409
        assert (await one.ask("POST", "/stop_session")).status == 200
        assert (await one.ask("GET", "/session")).status == 404
        one.session_id = ""


# CORS

PAGE = "http://localhost:3000"
"""Without authentication pages of this machine may call, and no others."""
ALLOWED = {
    "authorization",
    "content-type",
    "reactor-api-key",
    "reactor-api-version",
    "reactor-api-accept-version",
    "reactor-webrtc-version",
}


@pytest.mark.parametrize(
    "path",
    [
        "/tokens",
        "/sessions",
        "/sessions/x",
        "/sessions/x/uploads",
        "/sessions/x/transport/webrtc/sdp_params",
        "/sessions/x/transport/webrtc/connections/1002/ice_candidates",
        "/uploads/x",
        "/start_session",
    ],
)
async def test_a_page_may_ask_without_a_token(one: WireClient, path: str) -> None:
    asked = await one.ask(
        "OPTIONS",
        path,
        Origin=PAGE,
        Access_Control_Request_Method="PUT",
        Access_Control_Request_Headers=",".join(sorted(ALLOWED)),
    )
    assert asked.status in (200, 204)
    assert asked.headers["Access-Control-Allow-Origin"] == PAGE
    methods = asked.headers["Access-Control-Allow-Methods"].replace(" ", "").split(",")
    assert {"GET", "POST", "PUT", "DELETE"} <= set(methods)
    headers = asked.headers["Access-Control-Allow-Headers"].lower().replace(" ", "").split(",")
    assert set(headers) >= ALLOWED


async def test_a_page_may_read_errors_and_when_to_come_back(one: WireClient) -> None:
    refused = await one.ask("GET", "/sessions/nobody", Origin=PAGE)
    assert refused.status == 404
    assert refused.headers["Access-Control-Allow-Origin"] == PAGE
    assert "Retry-After" in refused.headers["Access-Control-Expose-Headers"]


async def test_a_page_from_elsewhere_cannot_drive_a_service_that_asks_nobody(
    one: WireClient,
) -> None:
    refused = await one.ask("POST", "/sessions", {"model": {"name": "x"}}, Origin="https://a.page")
    assert refused.status == 403
    assert "Access-Control-Allow-Origin" not in refused.headers


# The schema of a model (GET /schema), without a session.


async def test_the_schema_of_a_model_is_served(one: WireClient) -> None:
    told = await one.ask("GET", f"/schema?model={MODEL}")
    assert told.status == 200
    OpenAPIV31SpecValidator(told.body).validate()
    assert "/events/set_video" in told.body["paths"]
    assert "chunk_complete" in told.body["webhooks"]
    assert [each["name"] for each in told.body["x-reactor"]["tracks"]] == ["camera", "main_video"]
    assert (await one.ask("GET", "/schema?model=nobody")).status == 404
