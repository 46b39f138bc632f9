"""What we read in an SDP offer, and the little we change in offer and answer. Pure.

The negotiation itself is aiortc's. This module looks at an offer first, so that a bad
one costs nothing, and hands on a text without the surprises that a peer connection
trips over: candidates are taken out (they are added one by one, tolerantly), the BUNDLE
group is led by a track, every section says its direction, and who sends H.264 of a profile
that we read but aiortc does not know says the constrained baseline instead.

Sources: RFC 8866 (SDP), RFC 8839 (candidates), RFC 6184 section 8 (H.264 parameters),
RFC 9143 (BUNDLE); `x-reactor-frame-metadata` is a session attribute of Reactor's clients.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sana_gateway.v1 import media_pb2
from scheduler.core.errors import BadOfferError

MAX_OFFER_BYTES: Final = 256 * 1024
"""A longer offer is refused unread."""
MAX_SECTIONS: Final = 16
"""Media sections of one offer; each costs a transceiver."""
MAX_LINES: Final = 2048
"""Lines of one offer but for candidates; browsers write some 200 a section. ..."""
MAX_SECTION_LINES: Final = 512
"""... and of one section. aiortc looks through what it has read of a section at every line: a
whole offer of the wrong lines would hold up everybody for seconds."""
MAX_FORMATS: Final = 128
"""Formats that one section describes: their numbers have seven bits."""
MAX_FOR_ALL: Final = 16
"""Lines of one section that hold for all of its formats."""
MAX_CANDIDATES: Final = 64
"""Remote candidates of one peer; each is an address that we send checks to."""

FRAME_METADATA: Final = "a=x-reactor-frame-metadata:1"
"""Offers, and accepts, a trailer with the frame's number after every encoded frame."""

_MEDIA = re.compile(r"m=(\S+) (\d+) (\S+) (.+)")
_DIRECTIONS: Final = ("sendrecv", "sendonly", "recvonly", "inactive")
_CANDIDATE_TYPES: Final = ("host", "srflx", "relay")

# profile_idc, mask and value of the constraint flags (RFC 6184 table 5), for the profiles
# whose decoders read the constrained baseline that we send.
_BASELINE_PROFILES: Final = (
    (0x42, 0x0F, 0x00),
    (0x4D, 0x8F, 0x80),
    (0x58, 0x8F, 0x80),
)


_READ_AS: Final = "packetization-mode=1;profile-level-id=42e01f"
"""H.264 parameters that aiortc answers, in place of those of a profile that it does not."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to reach the client over UDP."""

    foundation: str
    priority: int
    host: str
    """An IP address, never a name."""
    port: int
    type: str


@dataclass(frozen=True, slots=True)
class Section:
    """One media section of an offer."""

    mid: str
    kind: str
    """`video`, `audio` or `application`."""
    direction: str
    """`sendrecv`, `sendonly`, `recvonly` or `inactive`, seen from the client."""
    codecs: tuple[media_pb2.Codec.ValueType, ...]
    """Those of our codecs that it lists, in its order."""


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer that can be answered."""

    sdp: str
    """The text for the peer connection, without candidates."""
    sections: tuple[Section, ...]
    candidates: tuple[Candidate, ...]
    """Those that can be used, each once."""
    frame_metadata: bool
    """Whether the client reads the frame trailer."""
    profiles: tuple[tuple[str, str, str], ...] = ()
    """Mid, payload type and parameters of H.264 that `sdp` gives other parameters."""


def parse_offer(text: str) -> Offer:
    """Reads an offer.

    Raises:
        BadOfferError: It is no SDP, too long, has no video, or its sections are not
            bundled into one transport.
    """
    if len(text) > MAX_OFFER_BYTES or len(text.encode(errors="replace")) > MAX_OFFER_BYTES:
        raise BadOfferError("the offer is too long")
    session, media = _split(text)
    if not media or not session or not session[0].startswith("v=0"):
        raise BadOfferError("the offer is no SDP with media sections")
    if len(media) > MAX_SECTIONS:
        raise BadOfferError("the offer has too many media sections")
    if _is_costly(session, media):
        raise BadOfferError("the offer has too many lines")
    sections = tuple(_section(lines) for lines in media)
    if not all(_has_fingerprint(session) or _has_fingerprint(lines) for lines in media):
        raise BadOfferError("the offer has no fingerprint to know the client by")
    mids = [section.mid for section in sections]
    if len(set(mids)) != len(mids):
        raise BadOfferError("the offer has two media sections with one mid")
    if not any(section.kind == "video" for section in sections):
        raise BadOfferError("the offer has no video section")
    lines = _bundled(session, sections)
    profiles = []
    for section, section_lines in zip(sections, media, strict=True):
        written = _without_candidates(section_lines)
        foreign = _foreign_profile(section.direction, section_lines)
        if foreign is not None:
            payload_type, parameters = foreign
            profiles.append((section.mid, payload_type, parameters))
            written = _with_parameters(written, payload_type, _READ_AS)
        lines += written
        if not any(line[2:] in _DIRECTIONS for line in section_lines if line.startswith("a=")):
            lines.append(f"a={section.direction}")
    sdp = "\r\n".join(lines) + "\r\n"
    # What is read is ours, with lines of ours in it: it has to stay within the same bounds.
    if _is_costly(*_split(sdp)):
        raise BadOfferError("the offer has too many lines")
    return Offer(
        sdp=sdp,
        sections=sections,
        candidates=_candidates(media),
        frame_metadata=FRAME_METADATA in session,
        profiles=tuple(profiles),
    )


def parse_candidate(line: str) -> Candidate | None:
    """Reads a candidate line, with or without `a=` and `candidate:`.

    Returns:
        The candidate, or None for one that we cannot use: an end-of-candidates mark, TCP,
        a name (mDNS names are only known in the client's own network), or no candidate.
    """
    words = line.strip().removeprefix("a=").removeprefix("candidate:").split()
    if len(words) < 8 or words[6] != "typ":
        return None
    foundation, component, transport, priority, host, port, _, kind = words[:8]
    if component != "1" or transport.lower() != "udp" or kind not in _CANDIDATE_TYPES:
        return None
    if not (_is_number(priority, 2**32) and _is_number(port, 2**16) and int(port)):
        return None
    if not _is_address(host) or len(foundation) > 32:
        return None
    return Candidate(foundation, int(priority), host, int(port), kind)


def with_frame_metadata(answer: str) -> str:
    """Adds the session attribute that accepts the frame trailer to an answer."""
    session, separator, media = answer.partition("\r\nm=")
    return f"{session}\r\n{FRAME_METADATA}{separator}{media}"


def with_profiles(answer: str, profiles: Sequence[tuple[str, str, str]]) -> str:
    """Answers H.264 with the parameters that were offered (RFC 6184, section 8.2.2).

    Args:
        answer: The answer to `Offer.sdp`.
        profiles: `Offer.profiles`.
    """
    if not profiles:
        return answer
    lines, media = _split(answer)
    for section in media:
        for mid, payload_type, parameters in profiles:
            if f"a=mid:{mid}" in section:
                section = _with_parameters(section, payload_type, parameters)
        lines += section
    return "\r\n".join(lines) + "\r\n"


def _split(text: str) -> tuple[list[str], list[list[str]]]:
    """Returns the lines of the session and those of each media section."""
    session: list[str] = []
    media: list[list[str]] = []
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("m="):
            media.append([line])
        elif line:
            (media[-1] if media else session).append(line)
    return session, media


def _is_costly(session: Sequence[str], media: Sequence[Sequence[str]]) -> bool:
    """Tells whether reading an offer would take long, as it does in aiortc's parser."""
    read = [_without_candidates(lines) for lines in media]
    return len(session) + sum(map(len, read)) > MAX_LINES or any(
        len(lines) > MAX_SECTION_LINES
        or _count(lines, "a=rtpmap:") > MAX_FORMATS
        or _count(lines, "a=rtcp-fb:*") > MAX_FOR_ALL
        for lines in read
    )


def _count(lines: Sequence[str], prefix: str) -> int:
    return sum(line.startswith(prefix) for line in lines)


def _has_fingerprint(lines: Sequence[str]) -> bool:
    return any(line.startswith("a=fingerprint:") for line in lines)


def _section(lines: Sequence[str]) -> Section:
    first = _MEDIA.fullmatch(lines[0])
    mids = [line[6:] for line in lines if line.startswith("a=mid:")]
    if first is None or len(mids) != 1 or not mids[0] or len(mids[0]) > 64:
        raise BadOfferError("a media section of the offer is malformed or has no mid")
    kind = first[1]
    if kind not in ("video", "audio", "application"):
        raise BadOfferError("the offer has a media section of unknown kind")
    directions = [line[2:] for line in lines if line[2:] in _DIRECTIONS]
    direction = directions[0] if directions else "sendrecv"
    codecs = _codecs(first[4].split(), lines) if kind == "video" else ()
    if _foreign_profile(direction, lines) is not None:
        codecs = (media_pb2.CODEC_H264,)
    return Section(mid=mids[0], kind=kind, direction=direction, codecs=codecs)


def _foreign_profile(direction: str, lines: Sequence[str]) -> tuple[str, str] | None:
    """Returns payload type and parameters of the H.264 to take from a client that sends
    nothing else: every profile can be read, though only the constrained baseline is sent.
    """
    payload_types = lines[0].split()[3:]
    if (
        direction != "sendonly"
        or not lines[0].startswith("m=video ")
        or _codecs(payload_types, lines)
    ):
        return None
    names = _attributes("a=rtpmap:", lines)
    parameters = _attributes("a=fmtp:", lines)
    for payload_type in payload_types:
        if names.get(payload_type, "").lower() == "h264/90000":
            return payload_type, parameters.get(payload_type, "")
    return None


def _with_parameters(lines: Sequence[str], payload_type: str, parameters: str) -> list[str]:
    """Returns the lines of a section with other parameters of a payload type; empty ones are
    none at all.
    """
    prefix = f"a=fmtp:{payload_type} "
    rest = [line for line in lines if not line.startswith(prefix)]
    if not parameters:
        return rest
    written = []
    for line in rest:
        written.append(line)
        if line.startswith(f"a=rtpmap:{payload_type} "):
            written.append(prefix + parameters)
    return written


def _codecs(
    payload_types: Sequence[str], lines: Sequence[str]
) -> tuple[media_pb2.Codec.ValueType, ...]:
    names = _attributes("a=rtpmap:", lines)
    parameters = _attributes("a=fmtp:", lines)
    found: dict[media_pb2.Codec.ValueType, None] = {}
    for payload_type in payload_types:
        name = names.get(payload_type, "").lower()
        if name == "vp8/90000":
            found[media_pb2.CODEC_VP8] = None
        elif name == "h264/90000" and _is_our_h264(parameters.get(payload_type, "")):
            found[media_pb2.CODEC_H264] = None
    return tuple(found)


def _attributes(prefix: str, lines: Sequence[str]) -> dict[str, str]:
    """Returns attributes of the form `<prefix><payload type> <value>`."""
    pairs = (line[len(prefix) :].partition(" ") for line in lines if line.startswith(prefix))
    return {payload_type: value.strip() for payload_type, _, value in pairs}


def _is_our_h264(parameters: str) -> bool:
    """Whether the client reads fragmented packets of constrained baseline."""
    pairs = (pair.partition("=") for pair in parameters.split(";"))
    values = {name.strip().lower(): value.strip() for name, _, value in pairs}
    profile = values.get("profile-level-id", "42e01f")
    if values.get("packetization-mode", "0") != "1" or not re.fullmatch("[0-9a-fA-F]{6}", profile):
        return False
    profile_idc, constraints = int(profile[0:2], 16), int(profile[2:4], 16)
    return any(
        profile_idc == idc and constraints & mask == value
        for idc, mask, value in _BASELINE_PROFILES
    )


def _bundled(session: Sequence[str], sections: Sequence[Section]) -> list[str]:
    """Returns the session's lines with one BUNDLE group, led by the first track.

    Its transport is the one that all the others are given, and that exists first.
    """
    mids = [section.mid for section in sections]
    groups = [set(line.split()[1:]) for line in session if line.startswith("a=group:BUNDLE")]
    if len(mids) > 1 and set(mids) not in groups:
        raise BadOfferError("the media sections of the offer are not bundled")
    rest = [line for line in session if not line.startswith("a=group:BUNDLE")]
    ordered = sorted(sections, key=lambda section: section.kind == "application")
    group = " ".join(section.mid for section in ordered)
    return [*_without_candidates(rest), f"a=group:BUNDLE {group}"]


def _without_candidates(lines: Sequence[str]) -> list[str]:
    dropped = ("a=candidate:", "a=end-of-candidates")
    return [line for line in lines if not line.startswith(dropped)]


def _candidates(media: Sequence[Sequence[str]]) -> tuple[Candidate, ...]:
    lines = (line for section in media for line in section if line.startswith("a=candidate:"))
    parsed = dict.fromkeys(parse_candidate(line) for line in lines)
    return tuple(candidate for candidate in parsed if candidate is not None)[:MAX_CANDIDATES]


def _is_number(text: str, limit: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < limit


def _is_address(host: str) -> bool:
    if "%" in host:
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return not (address.is_multicast or address.is_unspecified)
