"""What WHIP and WHEP say in headers and bodies."""

from __future__ import annotations

import pytest

from gateway.webrtc.ice import IceServer
from gateway.webrtc.sdp import parse_offer
from scheduler.core.errors import BadArgumentError, BadOfferError
from sdk_adapters.whip import negotiation
from tests.unit.sdk_adapters.whip_offers import FFMPEG, FRAGMENT, OBS, PLAYER, in_h265

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("offer", [OBS, FFMPEG, OBS.replace("sendonly", "sendrecv")])
def test_the_video_that_is_sent_is_the_camera(offer: str) -> None:
    assert negotiation.camera_tracks(parse_offer(offer).sections) == {"1": "camera"}


def two_videos(offer: str) -> str:
    session, audio, video = offer.split("m=")
    second = video.replace("a=mid:1", "a=mid:2")
    return "m=".join([session.replace("BUNDLE 0 1", "BUNDLE 0 1 2"), audio, video, second])


@pytest.mark.parametrize(
    "offer",
    [
        PLAYER,
        two_videos(OBS),
        OBS.replace("sendonly", "inactive"),
    ],
)
def test_a_publisher_sends_one_video(offer: str) -> None:
    with pytest.raises(BadOfferError, match="one video"):
        negotiation.camera_tracks(parse_offer(offer).sections)


@pytest.mark.parametrize("offer", [OBS, OBS.replace("sendonly", "sendrecv")])
def test_a_camera_in_no_codec_of_ours_is_refused(offer: str) -> None:
    sections = parse_offer(in_h265(offer)).sections
    with pytest.raises(BadOfferError, match="codec"):
        negotiation.camera_tracks(sections)


@pytest.mark.parametrize("offer", [PLAYER, PLAYER.replace("recvonly", "sendrecv")])
def test_the_video_that_is_received_is_the_edited_one(offer: str) -> None:
    assert negotiation.viewer_tracks(parse_offer(offer).sections) == {"1": "main_video"}


def test_of_two_videos_a_player_gets_the_first() -> None:
    sections = parse_offer(two_videos(PLAYER)).sections
    assert negotiation.viewer_tracks(sections) == {"1": "main_video"}


def test_of_two_videos_a_player_gets_the_first_that_it_can_read() -> None:
    session, audio, video = PLAYER.split("m=")
    second = video.replace("a=mid:1", "a=mid:2")
    bundled = session.replace("BUNDLE 0 1", "BUNDLE 0 1 2")
    offer = "m=".join([bundled, audio, in_h265(video), second])
    assert negotiation.viewer_tracks(parse_offer(offer).sections) == {"2": "main_video"}


def test_a_player_that_reads_no_codec_of_ours_is_refused() -> None:
    with pytest.raises(BadOfferError, match="codec"):
        negotiation.viewer_tracks(parse_offer(in_h265(PLAYER)).sections)


def test_a_player_receives() -> None:
    with pytest.raises(BadOfferError, match="no video"):
        negotiation.viewer_tracks(parse_offer(OBS).sections)


def test_who_leaves_us_a_choice_is_answered_by_a_server_of_dtls() -> None:
    assert "a=setup:actpass" not in negotiation.with_us_as_server(OBS)
    assert negotiation.with_us_as_server(OBS).count("a=setup:active") == 1
    assert negotiation.with_us_as_server(FFMPEG) == FFMPEG


def test_user_names_are_those_of_the_whole_and_of_its_sections() -> None:
    assert negotiation.usernames(OBS) == {"nxcM"}
    assert negotiation.usernames(FFMPEG) == {"174b1dc5"}
    assert negotiation.usernames("v=0\r\n") == set()


def test_a_fragment_has_candidates_and_says_whose() -> None:
    fragment = negotiation.parse_fragment(FRAGMENT)
    assert fragment.username == "nxcM"
    first, second = fragment.candidates
    assert first.candidate.startswith("candidate:1387637174 1 udp")
    assert second.candidate.startswith("candidate:473322822 1 tcp")
    assert (first.sdp_mid, second.sdp_mid) == ("0", "0")


def test_the_mid_of_a_section_ends_with_it() -> None:
    text = "m=audio 9 X 0\na=mid:a\nm=video 9 X 0\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\n"
    (candidate,) = negotiation.parse_fragment(text).candidates
    assert candidate.sdp_mid == ""


@pytest.mark.parametrize("text", ["a=ice-ufrag:x\na=ice-pwd:y\n", "a=end-of-candidates\r\n"])
def test_a_fragment_may_have_no_candidates(text: str) -> None:
    assert negotiation.parse_fragment(text).candidates == ()


@pytest.mark.parametrize("text", ["", "garbage", "{}", "a=candidate", "\0\0\0", "v=0\n"])
def test_what_is_no_fragment_is_refused(text: str) -> None:
    with pytest.raises(BadArgumentError):
        negotiation.parse_fragment(text)


def test_the_candidates_of_a_fragment_are_bounded() -> None:
    text = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\n" * 1000
    assert len(negotiation.parse_fragment(text).candidates) == negotiation.MAX_CANDIDATES


@pytest.mark.parametrize(
    ("accept", "admitted"),
    [
        (None, True),
        ("", True),
        ("*/*", True),
        ("application/sdp", True),
        ("Application/SDP;q=0.5, text/html", True),
        ("text/html, application/*", True),
        ("text/html", False),
        ("application/json", False),
        ("application/sdp;q=0", False),
        ("application/sdp; q=0.000", False),
    ],
)
def test_accept_says_whether_an_answer_is_taken(accept: str | None, admitted: bool) -> None:
    assert negotiation.accepts(accept, negotiation.SDP) is admitted


@pytest.mark.parametrize(
    ("header", "tags"),
    [
        ("*", {"*"}),
        (' "a" ', {'"a"'}),
        ('"a", "b"', {'"a"', '"b"'}),
        ('W/"a"', {'W/"a"'}),
    ],
)
def test_if_match_names_tags(header: str, tags: set[str]) -> None:
    assert negotiation.entity_tags(header) == tags


@pytest.mark.parametrize("header", ["", "a", '"a', '"a" b', "*, *"])
def test_if_match_names_nothing_else(header: str) -> None:
    with pytest.raises(BadArgumentError):
        negotiation.entity_tags(header)


def test_servers_are_told_as_links_with_their_logins() -> None:
    servers = [
        IceServer(("stun:stun.example.org:3478",)),
        IceServer(("turn:a.example.org", "turns:a.example.org"), 'some"body', "se\\cret"),
    ]
    login = r'; username="some\"body"; credential="se\\cret"; credential-type="password"'
    assert negotiation.ice_links(servers) == [
        '<stun:stun.example.org:3478>; rel="ice-server"',
        f'<turn:a.example.org>; rel="ice-server"{login}',
        f'<turns:a.example.org>; rel="ice-server"{login}',
    ]
