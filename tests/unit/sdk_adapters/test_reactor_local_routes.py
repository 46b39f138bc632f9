"""Local mode over a real socket and a fake hub."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sdk_adapters.reactor import local_routes
from tests.fakes.hub import FakeHub
from tests.unit.sdk_adapters.reactor_site import OFFER, KeyAuth, Site

pytestmark = pytest.mark.unit


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
    monkeypatch.setattr(local_routes, "CONNECT_S", 0.0)
    _, first = await site.ask("POST", "/start_session", {})
    status, second = await site.ask("POST", "/start_session", {})
    assert status == 200
    assert second["session_id"] != first["session_id"]
    path = f"/sessions/{second['session_id']}/transport/webrtc/sdp_params"
    await site.ask("POST", path, OFFER)
    assert (await site.ask("POST", "/start_session", {}))[0] == 409


async def test_a_local_session_whose_client_has_left_gives_way_at_once(site: Site) -> None:
    _, first = await site.ask("POST", "/start_session", {})
    path = f"/sessions/{first['session_id']}/transport/webrtc/sdp_params"
    await site.ask("POST", path, OFFER)
    assert (await site.ask("POST", "/start_session", {}))[0] == 409
    assert (await site.ask("GET", path))[0] == 200
    site.peers.peers[-1].fail()
    status, second = await site.ask("POST", "/start_session", {})
    assert status == 200
    assert second["session_id"] != first["session_id"]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/start_session"), ("GET", "/session"), ("POST", "/stop_session")]
)
async def test_local_mode_exists_only_without_authentication(
    serve: Callable[..., Any], method: str, path: str
) -> None:
    site = await serve(auth=KeyAuth())
    assert (await site.ask(method, path, Authorization="Bearer a"))[0] == 401
