"""SDP of strangers: offers, candidates, fragments, and the HTTP headers that go with them."""

from __future__ import annotations

from typing import Final

from aiortc.sdp import SessionDescription

from gateway.webrtc.sdp import (
    FRAME_METADATA,
    MAX_CANDIDATES,
    MAX_SECTIONS,
    Offer,
    parse_candidate,
    parse_offer,
    with_frame_metadata,
    with_profiles,
)
from scheduler.core.errors import BadArgumentError, BadOfferError
from sdk_adapters.whip import negotiation
from tests.fuzz.reader import Reader
from tests.unit.gateway.test_sdp import OFFER
from tests.unit.sdk_adapters import whip_offers

KINDS: Final = 4
"""What the first byte chooses from: an offer, an offer of lines, a fragment, headers."""


def fuzz_one(data: bytes) -> None:
    """Reads a text as its kind is read."""
    reader = Reader(data)
    match reader.number() % KINDS:
        case 0:
            offered(reader.rest().decode("utf-8", "surrogateescape"))
        case 1:
            offered(composed(reader))
        case 2:
            trickled(reader.rest().decode("utf-8", "replace"))
        case _:
            headed(reader.rest().decode("latin-1"))


def offered(text: str) -> None:
    """Reads an offer as all doors do, up to what aiortc is given and what is answered."""
    try:
        offer = parse_offer(text)
    except BadOfferError:
        return
    assert 0 < len(offer.sections) <= MAX_SECTIONS
    assert len(offer.candidates) <= MAX_CANDIDATES
    assert len({each.mid for each in offer.sections}) == len(offer.sections)
    assert not any(line.startswith("a=candidate:") for line in offer.sdp.splitlines())
    again = parse_offer(offer.sdp)
    assert again.sections == offer.sections, "what aiortc is given says the same"
    for choose in (negotiation.camera_tracks, negotiation.viewer_tracks):
        try:
            assert len(choose(offer.sections)) == 1
        except BadOfferError:
            continue
    negotiation.usernames(text)
    negotiation.with_us_as_server(text)
    negotiated(offer)


def negotiated(offer: Offer) -> None:
    """Lets aiortc read an offer; whatever it trips over is the offer's fault, not its time."""
    try:
        SessionDescription.parse(offer.sdp)
    except Exception:
        return
    answer = with_profiles(offer.sdp, offer.profiles)
    assert parse_offer(with_frame_metadata(answer)).frame_metadata


def trickled(text: str) -> None:
    """Reads a fragment, and each of its lines as a candidate."""
    for line in text.splitlines():
        candidate = parse_candidate(line)
        if candidate is not None:
            assert 0 < candidate.port < 2**16
            assert (
                parse_candidate(
                    f"candidate:{candidate.foundation} 1 udp {candidate.priority} {candidate.host} "
                    f"{candidate.port} typ {candidate.type}"
                )
                == candidate
            )
    try:
        fragment = negotiation.parse_fragment(text)
    except BadArgumentError:
        return
    assert len(fragment.candidates) <= negotiation.MAX_CANDIDATES


def headed(text: str) -> None:
    """Reads a text as headers."""
    negotiation.accepts(text, negotiation.SDP)
    try:
        assert negotiation.entity_tags(text)
    except BadArgumentError:
        return


def composed(reader: Reader) -> str:
    """Returns an offer of lines of real ones, in any order, some with a value of their own."""
    lines = []
    while reader and len(lines) < 400:
        choice = reader.number(2)
        line = LINES[choice % len(LINES)]
        if choice & 0x8000:
            line = line.partition(":")[0] + ":" + reader.chunk().decode("utf-8", "surrogateescape")
        elif choice & 0x4000:
            lines += [line] * reader.number()
        lines.append(line)
    return "\r\n".join([*HEAD, *lines, ""])


OFFERS: Final = (OFFER, whip_offers.OBS, whip_offers.FFMPEG, whip_offers.PLAYER)
HEAD: Final = ("v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "a=group:BUNDLE 0 1 2")
LINES: Final = tuple(dict.fromkeys(line for offer in OFFERS for line in offer.splitlines()))
"""Of real offers, each once."""


def seeds() -> list[bytes]:
    """Returns offers of real clients, and what is nearly one."""
    offers = [
        *OFFERS,
        OFFER.replace("H264/90000", "H265/90000"),
        OFFER.replace(FRAME_METADATA, "a=setup:actpass"),
        whip_offers.PLAYER.replace("42e01f", "64001f").replace("recvonly", "sendonly"),
    ]
    plain = [bytes([0]) + offer.encode() for offer in offers]
    headers = ["*", '"a", W/"b"', "application/sdp;q=0.5, */*", "application/*;q=0"]
    all_lines = b"".join(number.to_bytes(2, "big") for number in range(len(LINES)))
    candidates = [line for offer in offers for line in offer.splitlines() if "candidate" in line]
    return [
        *plain,
        bytes([1]) + all_lines,
        bytes([1])
        + b"".join(LINES.index(line).to_bytes(2, "big") for line in whip_offers.OBS.splitlines()),
        bytes([2]) + whip_offers.FRAGMENT.encode(),
        bytes([2]) + "\n".join(candidates).encode(),
        *(bytes([3]) + header.encode() for header in headers),
    ]
