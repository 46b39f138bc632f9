"""Playlists of clips (RFC 8216, version 7: fragmented MP4), and who may fetch what they name.

Players and SDKs fetch the files of a playlist without a token. So their addresses carry a
signature, made with a secret of the recording, for one file and until a given time. Pure.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Callable, Sequence
from typing import Final

from gateway.recording.index import HEADER, Stored

MEDIA_TYPE: Final = "application/vnd.apple.mpegurl"
GOOD_FOR_S: Final = 6 * 3600
"""How long an address of a file is good for: a player fetches them while it plays."""


def playlist(segments: Sequence[Stored], address: Callable[[str], str]) -> str:
    """Returns the playlist of a clip.

    Args:
        segments: At least one, in order and without a gap.
        address: From the name of a file to where it can be fetched, relative to the playlist.
    """
    # The longest duration, rounded as RFC 8216 4.3.3.1 has it, must not exceed it.
    longest_s = max(math.ceil(each.duration_us / 1e6) for each in segments)
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        f"#EXT-X-TARGETDURATION:{max(1, longest_s)}",
        f"#EXT-X-MEDIA-SEQUENCE:{segments[0].number}",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        f'#EXT-X-MAP:URI="{address(HEADER)}"',
    ]
    for each in segments:
        lines += [f"#EXTINF:{each.duration_us / 1e6:.6f},", address(each.name)]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


def signature(secret: str, session_id: str, name: str, until: int) -> str:
    """Returns what lets its bearer fetch a file.

    Args:
        secret: Of the recording.
        session_id: Of the session.
        name: Of the file.
        until: Seconds since 1970.
    """
    said = f"{session_id}/{name}?{until}".encode()
    return hmac.new(secret.encode(), said, hashlib.sha256).hexdigest()[:32]


def is_signed(secret: str, session_id: str, name: str, until: str, signed: str, now: float) -> bool:
    """Tells whether an address is one that was given out, and still good.

    Args:
        secret: Of the recording.
        session_id: Of the session.
        name: Of the file.
        until: As the address says it.
        signed: As the address says it.
        now: Seconds since 1970.
    """
    if not (until.isascii() and until.isdecimal() and len(until) <= 12 and int(until) >= now):
        return False
    expected = signature(secret, session_id, name, int(until))
    return hmac.compare_digest(expected.encode(), signed.encode(errors="replace"))
