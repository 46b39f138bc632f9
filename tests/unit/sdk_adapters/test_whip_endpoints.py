"""WHIP and WHEP over a real socket and a fake hub."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.auth import NoAuth
from gateway.http import MAX_BODY_BYTES
from gateway.placement import SchedulerAwayError
from gateway.webrtc.ice import IceServer
from scheduler.core.errors import BadOfferError, LimitError, NoCapacityError
from sdk_adapters.whip import resources, streams
from tests.fakes.hub import FakeHub
from tests.unit.sdk_adapters.reactor_site import KeyAuth, SlowPeers
from tests.unit.sdk_adapters.whip_offers import FFMPEG, FRAGMENT, OBS, PLAYER, in_h265
from tests.unit.sdk_adapters.whip_site import SDP, TRICKLE, WhipSite

pytestmark = pytest.mark.unit

# Publishing


async def test_an_offer_makes_a_session_and_is_answered(whip: WhipSite) -> None:
    answer = await whip.publish()
    assert answer.status == 201
    assert answer.headers["Content-Type"] == "application/sdp"
    (peer,) = whip.peers.peers
    assert answer.text == f"answer to {peer.sdp}"
    assert peer.tracks == {"1": "camera"}
    session_id = whip.hub.session.session_id
    assert answer.headers["Sana-Session-Id"] == session_id
    assert answer.location.startswith(f"{whip.url}/whip/sessions/{session_id}/")
    assert answer.headers["ETag"].startswith('"')
    assert whip.hub.session.publisher is peer.connection


@pytest.mark.parametrize("model", ["painter", "reactor/sana-streaming"])
async def test_the_path_names_the_model(whip: WhipSite, model: str) -> None:
    assert (await whip.publish(f"/whip/{model}")).status == 201
    assert whip.hub.session.model == model


async def test_the_answer_links_to_where_the_session_is_watched_and_commanded(
    whip: WhipSite,
) -> None:
    answer = await whip.publish()
    session_id = answer.headers["Sana-Session-Id"]
    assert answer.links == [
        f'<{whip.url}/whep/{session_id}>; rel="urn:sana-gateway:whep"',
        f'<{whip.url}/sessions/{session_id}/commands>; rel="urn:sana-gateway:commands"',
    ]


async def test_the_answer_links_to_the_ice_servers(whip: WhipSite) -> None:
    whip.peers.servers = [IceServer(("turn:a.example.org",), "somebody", "secret")]
    assert (await whip.publish()).links[0].startswith('<turn:a.example.org>; rel="ice-server"')


async def test_urls_are_those_that_clients_reach(serve_whip: Callable[..., Any]) -> None:
    whip = await serve_whip(public_url="https://edit.example.org", path_prefix="/workers/2")
    answer = await whip.publish()
    assert answer.location.startswith("https://edit.example.org/whip/sessions/")
    assert "https://edit.example.org/whep/" in answer.links[0]


async def test_a_camera_may_come_into_a_session_that_is_there(whip: WhipSite) -> None:
    session = await whip.hub.create(NoAuth().authenticate(None), "painter")
    answer = await whip.publish(f"/whip/sessions/{session.session_id}")
    assert (answer.status, answer.headers["Sana-Session-Id"]) == (201, session.session_id)
    assert len(whip.hub.sessions) == 1


async def test_ffmpegs_offer_is_taken_too(whip: WhipSite) -> None:
    assert (await whip.offer("/whip/painter", FFMPEG)).status == 201


async def test_a_second_publisher_is_refused(whip: WhipSite) -> None:
    answer = await whip.publish()
    session_id = answer.headers["Sana-Session-Id"]
    assert (await whip.publish(f"/whip/sessions/{session_id}")).status == 409
    assert (await whip.ask("DELETE", answer.location)).status == 200
    assert (await whip.publish(f"/whip/sessions/{session_id}")).status == 201


async def test_the_decoder_asks_the_publisher_for_keyframes(whip: WhipSite) -> None:
    await whip.publish()
    (peer,) = whip.peers.peers
    peer.connection.sink.camera_keyframe()  # type: ignore[attr-defined]
    assert peer.keyframe_requests == 1


async def test_a_model_that_is_not_served_is_unknown(whip: WhipSite) -> None:
    assert (await whip.publish("/whip/other")).status == 404
    assert (await whip.publish("/whip/sessions")).status == 404


async def test_a_full_pool_says_when_to_come_back(
    serve_whip: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "PLACE_S", 0.05)
    whip = await serve_whip(hub=FakeHub(ready=False))
    answer = await whip.publish()
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) >= 1
    # Nobody knows the session that was made for it.
    assert [reason for _, reason in whip.hub.closed] == ["no place is free"]
    whip.hub.create_error = NoCapacityError("the queue is full", retry_after_s=7)
    answer = await whip.publish()
    assert (answer.status, answer.headers["Retry-After"]) == (503, "7")


async def test_a_scheduler_that_is_away_is_no_fault_of_the_publisher(
    whip: WhipSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise SchedulerAwayError("away")

    monkeypatch.setattr(whip.hub, "create", away)
    answer = await whip.publish()
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


@pytest.mark.parametrize(
    ("fault", "status"), [(BadOfferError("no codec"), 422), (LimitError("full"), 429)]
)
async def test_a_session_is_not_kept_for_an_offer_that_comes_to_nothing(
    whip: WhipSite, monkeypatch: pytest.MonkeyPatch, fault: Exception, status: int
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(whip.peers, "answer", refuse)
    assert (await whip.publish()).status == status
    (session,) = whip.hub.sessions.values()
    assert session.end_reason is not None
    kept = await whip.hub.create(NoAuth().authenticate(None), "painter")
    assert (await whip.publish(f"/whip/sessions/{kept.session_id}")).status == status
    assert kept.end_reason is None
    assert kept.publisher is None


# Names


async def test_a_name_stands_for_a_session_while_it_lives(whip: WhipSite) -> None:
    first = await whip.publish("/whip/painter/~studio")
    await whip.ask("DELETE", first.location)
    again = await whip.publish("/whip/painter/~studio")
    assert again.headers["Sana-Session-Id"] == first.headers["Sana-Session-Id"]
    assert (await whip.offer("/whep/~studio", PLAYER)).status == 201
    assert (await whip.publish("/whip/sessions/~studio")).status == 409
    whip.hub.session.end("over")
    after = await whip.publish("/whip/painter/~studio")
    assert after.status == 201
    assert after.headers["Sana-Session-Id"] != first.headers["Sana-Session-Id"]


async def test_a_name_is_its_tenants_own(serve_whip: Callable[..., Any]) -> None:
    whip = await serve_whip(auth=KeyAuth())
    first = await whip.publish("/whip/painter/~studio", Authorization="Bearer a")
    assert (await whip.offer("/whep/~studio", PLAYER, Authorization="Bearer b")).status == 404
    other = await whip.publish("/whip/painter/~studio", Authorization="Bearer b")
    assert other.status == 201
    assert other.headers["Sana-Session-Id"] != first.headers["Sana-Session-Id"]


async def test_a_name_keeps_its_turn_for_a_place(
    serve_whip: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "PLACE_S", 0.05)
    whip = await serve_whip(hub=FakeHub(ready=False))
    assert (await whip.publish("/whip/painter/~studio")).status == 503
    assert whip.hub.closed == []
    whip.hub.session.place()
    assert (await whip.publish("/whip/painter/~studio")).status == 201
    assert len(whip.hub.sessions) == 1


async def test_two_who_come_at_once_under_a_name_make_one_session(whip: WhipSite) -> None:
    answers = await asyncio.gather(*(whip.publish("/whip/painter/~studio") for _ in range(2)))
    assert sorted(each.status for each in answers) == [201, 409]
    assert len(whip.hub.sessions) == 1


@pytest.mark.parametrize("name", ["~", "~-", "~a b", "~" + "x" * 64, "~ü"])
async def test_a_name_that_cannot_be_one_is_refused(whip: WhipSite, name: str) -> None:
    assert (await whip.publish(f"/whip/painter/{name}")).status == 400


async def test_a_name_has_one_model(whip: WhipSite) -> None:
    assert (await whip.publish("/whip/painter/~studio")).status == 201
    assert (await whip.publish("/whip/reactor/sana-streaming/~studio")).status == 400


async def test_a_name_that_nobody_gave_is_unknown(whip: WhipSite) -> None:
    assert (await whip.offer("/whep/~studio", PLAYER)).status == 404
    assert (await whip.publish("/whip/sessions/~studio")).status == 404


async def test_names_of_ended_sessions_are_forgotten_while_it_serves(
    serve_whip: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    swept, sweep = asyncio.Event(), streams.Streams.sweep

    async def look(self: streams.Streams) -> None:
        await sweep(self)
        swept.set()

    monkeypatch.setattr(streams, "SWEEP_S", 0.01)
    monkeypatch.setattr(streams.Streams, "sweep", look)
    await serve_whip()
    await asyncio.wait_for(swept.wait(), 30.0)


# Watching


async def test_a_player_watches_a_session(whip: WhipSite) -> None:
    session_id = (await whip.publish()).headers["Sana-Session-Id"]
    answer = await whip.offer(f"/whep/{session_id}", PLAYER)
    assert answer.status == 201
    assert whip.peers.peers[1].tracks == {"1": "main_video"}
    assert answer.location.startswith(f"{whip.url}/whep/{session_id}/")
    assert whip.hub.session.publisher is whip.peers.peers[0].connection


async def test_a_player_waits_for_the_place_of_the_session(
    serve_whip: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whip = await serve_whip(hub=FakeHub(ready=False))
    session = await whip.hub.create(NoAuth().authenticate(None), "painter")
    asked = asyncio.create_task(whip.offer(f"/whep/{session.session_id}", PLAYER))
    session.place()
    assert (await asked).status == 201
    monkeypatch.setattr(streams, "PLACE_S", 0.05)
    waiting = await whip.hub.create(NoAuth().authenticate(None), "painter")
    answer = await whip.offer(f"/whep/{waiting.session_id}", PLAYER)
    assert answer.status == 503
    assert "Retry-After" in answer.headers
    assert waiting.end_reason is None


@pytest.mark.parametrize("path", ["/whep/", "/whip/sessions/"])
async def test_sessions_that_are_unknown_or_over_are_told_apart(whip: WhipSite, path: str) -> None:
    offer = PLAYER if path == "/whep/" else OBS
    assert (await whip.offer(path + "nobodys", offer)).status == 404
    session = await whip.hub.create(NoAuth().authenticate(None), "painter")
    session.end("over")
    assert (await whip.offer(path + session.session_id, offer)).status == 410


# What is offered


@pytest.mark.parametrize("path", ["/whip/painter", "/whip/sessions/{}", "/whep/{}"])
async def test_what_is_no_offer_is_refused_before_anything_is_made(
    whip: WhipSite, path: str
) -> None:
    session = await whip.hub.create(NoAuth().authenticate(None), "painter")
    here = path.format(session.session_id)
    wrong_way, right_way = (OBS, PLAYER) if "whep" in path else (PLAYER, OBS)
    assert (await whip.offer(here, "garbage")).status == 400
    assert (await whip.offer(here, "")).status == 400
    assert (await whip.ask("POST", here, b"\xff\xfe", SDP)).status == 400
    assert (await whip.offer(here, wrong_way)).status == 422
    assert (await whip.offer(here, in_h265(right_way))).status == 422
    assert (await whip.ask("POST", here, OBS, {"Content-Type": "application/json"})).status == 415
    assert (await whip.ask("POST", here, OBS, {"Content-Type": "text/plain"})).status == 415
    assert (await whip.offer(here, wrong_way, Accept="application/json")).status == 406
    assert (await whip.offer(here, "v=0\r\n" * (MAX_BODY_BYTES // 5 - 1))).status == 413
    assert (await whip.offer(here, "v=0\r\n" * 2 * 1024 * 1024)).status == 413
    assert whip.peers.peers == []
    assert len(whip.hub.sessions) == 1


@pytest.mark.parametrize("path", ["/whip/painter", "/whip/sessions/x", "/whep/x"])
async def test_other_methods_are_not_allowed_on_endpoints(whip: WhipSite, path: str) -> None:
    for method in ("PUT", "PATCH", "DELETE"):
        answer = await whip.ask(method, path)
        assert (answer.status, "POST" in answer.headers["Allow"]) == (405, True)
    assert (await whip.ask("GET", path)).status == 204


async def test_other_methods_are_not_allowed_on_resources(whip: WhipSite) -> None:
    location = (await whip.publish()).location
    for method in ("PUT", "POST"):
        answer = await whip.ask(method, location, OBS, SDP)
        assert (answer.status, "PATCH" in answer.headers["Allow"]) == (405, True)
    assert (await whip.ask("GET", location)).status == 204
    assert len(whip.hub.sessions) == 1


async def test_browsers_may_ask_first(whip: WhipSite) -> None:
    for path in ("/whip/painter", "/whep/s1", "/whip/painter/~studio"):
        answer = await whip.ask("OPTIONS", path)
        assert answer.status in (200, 204)
        assert answer.headers["Accept-Post"] == "application/sdp"
        assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
        assert "if-match" in answer.headers["Access-Control-Allow-Headers"]
    assert "Accept-Post" not in (await whip.ask("OPTIONS", "/sessions")).headers
    exposed = (await whip.publish()).headers["Access-Control-Expose-Headers"]
    assert {"Location", "Link", "ETag"} <= {each.strip() for each in exposed.split(",")}


# Resources


async def test_candidates_are_trickled(whip: WhipSite) -> None:
    answer = await whip.publish()
    tag = {"If-Match": answer.headers["ETag"]}
    trickled = await whip.ask("PATCH", answer.location, FRAGMENT, TRICKLE | tag)
    assert (trickled.status, trickled.text) == (204, "")
    assert "ETag" not in trickled.headers
    (peer,) = whip.peers.peers
    assert [each.candidate.split()[0] for each in peer.candidates] == [
        "candidate:1387637174",
        "candidate:473322822",
    ]


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (TRICKLE, FRAGMENT, 428),
        (TRICKLE | {"If-Match": '"other"'}, FRAGMENT, 412),
        (TRICKLE | {"If-Match": "garbage"}, FRAGMENT, 400),
        (TRICKLE | {"If-Match": "*"}, "a=ice-ufrag:new\r\na=ice-pwd:new\r\n", 422),
        (TRICKLE | {"If-Match": "TAG"}, "a=ice-ufrag:new\r\na=ice-pwd:new\r\n", 422),
        (TRICKLE | {"If-Match": "TAG"}, "garbage", 400),
        (TRICKLE | {"If-Match": "TAG"}, b"\xff", 400),
        (TRICKLE | {"If-Match": "W/TAG"}, FRAGMENT, 412),
        (SDP | {"If-Match": "TAG"}, FRAGMENT, 415),
        (TRICKLE | {"If-Match": "TAG"}, "a=x:y\r\n" * 2_000_000, 413),
    ],
)
async def test_other_patches_change_nothing(
    whip: WhipSite, headers: dict[str, str], body: str | bytes, status: int
) -> None:
    answer = await whip.publish()
    if "If-Match" in headers:
        tag = headers["If-Match"].replace("TAG", answer.headers["ETag"])
        headers = headers | {"If-Match": tag}
    assert (await whip.ask("PATCH", answer.location, body, headers)).status == status
    (peer,) = whip.peers.peers
    assert peer.candidates == []
    assert not peer.closed


async def test_players_in_use_trickle_without_a_tag(whip: WhipSite) -> None:
    session_id = (await whip.publish()).headers["Sana-Session-Id"]
    player = await whip.offer(f"/whep/{session_id}", PLAYER)
    body = FRAGMENT.replace("nxcM", "EsAw")
    assert (await whip.ask("PATCH", player.location, body, TRICKLE)).status == 204
    stale = TRICKLE | {"If-Match": '"other"'}
    assert (await whip.ask("PATCH", player.location, body, stale)).status == 412


async def test_a_resource_is_deleted_once(whip: WhipSite) -> None:
    answer = await whip.publish()
    (peer,) = whip.peers.peers
    stale = {"If-Match": '"other"'}
    assert (await whip.ask("DELETE", answer.location, headers=stale)).status == 200
    assert peer.closed
    assert (await whip.ask("DELETE", answer.location)).status == 404
    assert (await whip.ask("PATCH", answer.location, FRAGMENT, TRICKLE)).status == 404
    # The session waits for its publisher to come back.
    assert whip.hub.session.end_reason is None
    assert whip.hub.session.publisher is None


async def test_a_resource_goes_with_its_transport(whip: WhipSite) -> None:
    answer = await whip.publish()
    (peer,) = whip.peers.peers
    peer.fail()
    assert peer.connection.closed  # type: ignore[attr-defined]
    assert (await whip.ask("PATCH", answer.location, FRAGMENT, TRICKLE)).status == 404
    # Clients close their peer first, and delete it then.
    assert (await whip.ask("DELETE", answer.location)).status == 200
    assert (await whip.ask("DELETE", answer.location)).status == 404
    assert whip.hub.session.end_reason is None


async def test_a_resource_goes_with_its_session(whip: WhipSite) -> None:
    answer = await whip.publish()
    whip.hub.session.end("over")
    assert (await whip.ask("PATCH", answer.location, FRAGMENT, TRICKLE)).status == 404
    (peer,) = whip.peers.peers
    assert peer.closed


async def test_a_session_that_ends_while_its_offer_is_answered_leaves_no_peer(
    serve_whip: Callable[..., Any],
) -> None:
    peers = SlowPeers()
    whip = await serve_whip(peers=peers)
    asked = asyncio.create_task(whip.publish())
    await peers.asked.wait()
    whip.hub.session.end("over")
    peers.go.set()
    answer = await asked
    assert (await whip.ask("DELETE", answer.location)).status == 404
    (peer,) = peers.peers
    assert peer.closed


async def test_lost_resources_are_remembered_within_a_bound(
    whip: WhipSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "GONE_KEPT", 1)
    first, second = await whip.publish(), await whip.publish()
    for peer in whip.peers.peers:
        peer.fail()
    assert (await whip.ask("DELETE", first.location)).status == 404
    assert (await whip.ask("DELETE", second.location)).status == 200


async def test_a_resource_is_of_its_kind_and_session(whip: WhipSite) -> None:
    one, two = await whip.publish(), await whip.publish()
    session_id = two.headers["Sana-Session-Id"]
    resource = one.location.rpartition("/")[2]
    for path in (f"/whip/sessions/{session_id}/{resource}", f"/whep/{session_id}/{resource}"):
        assert (await whip.ask("DELETE", path)).status == 404
    assert [peer.closed for peer in whip.peers.peers] == [False, False]
    assert (await whip.ask("DELETE", one.location)).status == 200


async def test_a_gateway_that_stops_hangs_up(serve_whip: Callable[..., Any]) -> None:
    whip = await serve_whip()
    await whip.publish()
    await whip.wire.stop()
    (peer,) = whip.peers.peers
    assert peer.closed
    assert whip.hub.session.end_reason is None


# Who may


async def test_callers_show_a_token_that_is_theirs(serve_whip: Callable[..., Any]) -> None:
    whip = await serve_whip(auth=KeyAuth())
    assert (await whip.publish()).status == 401
    assert (await whip.publish(Authorization="Bearer wrong")).status == 401
    assert (await whip.publish(Authorization="Bearer o")).status == 403
    answer = await whip.publish(Authorization="Bearer a")
    assert answer.status == 201
    session_id, location = answer.headers["Sana-Session-Id"], answer.location
    others = {"Authorization": "Bearer b"}
    assert (await whip.offer(f"/whep/{session_id}", PLAYER, **others)).status == 404
    assert (await whip.publish(f"/whip/sessions/{session_id}", **others)).status == 404
    for headers, status in (({}, 401), (others, 404), ({"Authorization": "Bearer o"}, 403)):
        assert (await whip.ask("DELETE", location, headers=headers)).status == status
        patch = TRICKLE | headers | {"If-Match": answer.headers["ETag"]}
        assert (await whip.ask("PATCH", location, FRAGMENT, patch)).status == status
    own = {"Authorization": "Bearer a"}
    assert (await whip.offer(f"/whep/{session_id}", PLAYER, **own)).status == 201
    assert (await whip.ask("DELETE", location, headers=own)).status == 200


async def test_a_token_that_is_refused_is_asked_for_in_the_words_of_http(
    serve_whip: Callable[..., Any],
) -> None:
    whip = await serve_whip(auth=KeyAuth())
    assert (await whip.publish()).headers["WWW-Authenticate"].startswith("Bearer")
