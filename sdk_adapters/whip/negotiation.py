"""What WHIP and WHEP say in headers and bodies. Pure.

Sources: RFC 9725 (WHIP), draft-ietf-wish-whep-03 (WHEP), RFC 8840 section 4.4 (fragments of SDP
for trickled candidates), RFC 8288 (links), RFC 9110 sections 12.5.1 and 13.1.1 (Accept, If-Match).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.ingress import IceServer
from gateway.webrtc.sdp import Section
from sana_gateway.v1 import session_pb2
from scheduler.core.errors import BadArgumentError, BadOfferError

SDP: Final = "application/sdp"
"""Media type of offers and answers."""
FRAGMENT: Final = "application/trickle-ice-sdpfrag"
"""Media type of trickled candidates."""
ANY_TAG: Final = "*"
"""As the only tag of If-Match it asks for an ICE restart."""
MAX_CANDIDATES: Final = 64
"""Candidates of one fragment; those beyond are passed over."""

_CAMERA: Final = "camera"
_MAIN_VIDEO: Final = "main_video"
_NO_CODEC: Final = "the offer has its video in no codec that we speak: H.264 or VP8"
_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"')


@dataclass(frozen=True, slots=True)
class Fragment:
    """Part of an SDP that brings more ways to reach the client."""

    username: str
    """The client's ICE user name (ufrag); empty where it is not said."""
    candidates: tuple[session_pb2.IceCandidate, ...]


def camera_tracks(sections: Sequence[Section]) -> dict[str, str]:
    """Returns which section of a publisher's offer is the camera, by mid; all others, audio
    among them, are answered as inactive.

    Raises:
        BadOfferError: No video is sent, or more than one, or in no codec that we speak.
    """
    sent = [each for each in sections if each.kind == "video" and _flows(each, "sendonly")]
    if len(sent) != 1:
        raise BadOfferError("the offer must send one video")
    if not sent[0].codecs:
        raise BadOfferError(_NO_CODEC)
    return {sent[0].mid: _CAMERA}


def viewer_tracks(sections: Sequence[Section]) -> dict[str, str]:
    """Returns which section of a player's offer takes the edited video, by mid: the first that
    can; all others, audio among them, are answered as inactive.

    Raises:
        BadOfferError: No video is received, or in no codec that we speak.
    """
    received = [each for each in sections if each.kind == "video" and _flows(each, "recvonly")]
    for section in received:
        if section.codecs:
            return {section.mid: _MAIN_VIDEO}
    raise BadOfferError(_NO_CODEC if received else "the offer receives no video")


def with_us_as_server(sdp: str) -> str:
    """Returns an offer that leaves us the role of the server of DTLS, where it leaves a choice.

    A client is expected to find one here (RFC 9725, section 4.4.4), and some (GStreamer) have a
    certificate that as their client we could not read.
    """
    return sdp.replace("a=setup:actpass", "a=setup:active")


def usernames(sdp: str) -> frozenset[str]:
    """Returns the ICE user names of an SDP: of the whole, and of its sections."""
    lines = (line.strip() for line in sdp.splitlines())
    return frozenset(line[12:] for line in lines if line.startswith("a=ice-ufrag:"))


def parse_fragment(text: str) -> Fragment:
    """Reads the body of a PATCH.

    Raises:
        BadArgumentError: It is no fragment of SDP.
    """
    username, mid, lines = "", "", [line.strip() for line in text.splitlines()]
    candidates: list[session_pb2.IceCandidate] = []
    for line in filter(None, lines):
        if len(line) < 3 or line[1] != "=":
            raise BadArgumentError("the body is no fragment of SDP")
        name, _, value = line[2:].partition(":")
        if line.startswith("m="):
            mid = ""
        elif line.startswith("a=") and name == "mid":
            mid = value
        elif line.startswith("a=") and name == "ice-ufrag":
            username = value
        elif line.startswith("a=") and name == "candidate" and value:
            candidates.append(session_pb2.IceCandidate(candidate=line[2:], sdp_mid=mid))
    if not username and not candidates and "a=end-of-candidates" not in lines:
        raise BadArgumentError("the fragment has no candidates")
    return Fragment(username, tuple(candidates[:MAX_CANDIDATES]))


def accepts(accept: str | None, media_type: str) -> bool:
    """Tells whether an Accept header admits a media type; none admits all.

    Args:
        accept: The header, or None.
        media_type: For example `application/sdp`.
    """
    if accept is None or not accept.strip():
        return True
    wanted = {media_type, media_type.partition("/")[0] + "/*", "*/*"}
    for entry in accept.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        refused = any(re.fullmatch(r"q\s*=\s*0(\.0*)?", each) for each in parameters)
        if name in wanted and not refused:
            return True
    return False


def entity_tags(if_match: str) -> frozenset[str]:
    """Returns the tags that an If-Match header names, as written; `*` is one of them.

    Raises:
        BadArgumentError: It names none.
    """
    text = if_match.strip()
    if text == ANY_TAG:
        return frozenset({ANY_TAG})
    tags = _TAG.findall(text)
    if not tags or _TAG.sub("", text).strip(" ,\t"):
        raise BadArgumentError("If-Match names no entity tag")
    return frozenset(tags)


def ice_links(servers: Iterable[IceServer]) -> list[str]:
    """Returns the Link headers that tell of STUN and TURN servers (RFC 9725, section 4.6)."""
    links = []
    for server in servers:
        login = ""
        if server.username is not None and server.credential is not None:
            login = (
                f"; username={_quoted(server.username)}; credential={_quoted(server.credential)}"
                '; credential-type="password"'
            )
        links += [f'<{url}>; rel="ice-server"{login}' for url in server.urls]
    return links


def link(url: str, relation: str) -> str:
    """Returns a Link header."""
    return f'<{url}>; rel="{relation}"'


def _flows(section: Section, direction: str) -> bool:
    return section.direction in (direction, "sendrecv")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
