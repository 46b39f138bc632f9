"""Whether a file ends before its own structure does. Pure: reads through a function.

Demuxers forgive a missing tail; a service that counts frames must not.
"""

from __future__ import annotations

from collections.abc import Callable

Read = Callable[[int, int], bytes]
"""Offset and length to the bytes there, fewer at the end of the file."""

_BOXES = frozenset(
    b"ftyp styp sidx moov moof mdat meta mfra free skip wide uuid pnot udta emsg prft".split()
)
"""Boxes at the top of an ISO base media file (ISO/IEC 14496-12); what follows other words
is taken for trailing rubbish."""
_EBML = 0x1A45DFA3
_SEGMENT = 0x18538067
_CLUSTER = 0x1F43B675
_ENTERED = frozenset({_SEGMENT, _CLUSTER})
"""Matroska elements (RFC 9559) that may be of unknown size and are then walked through."""


def is_cut_short(read: Read, size: int) -> bool:
    """Returns whether the file is known to lack its end.

    ISO base media (mp4, mov), Matroska (webm) and RIFF (avi) say how long their parts
    are. Other formats cannot be judged.

    Args:
        read: Reads the file.
        size: Its size in bytes.
    """
    head = read(0, 12)
    if head[4:8] in _BOXES:
        return _boxes_cut(read, size)
    if head[:4] == _EBML.to_bytes(4, "big"):
        return _elements_cut(read, size)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return 8 + int.from_bytes(head[4:8], "little") > size
    return False


def _boxes_cut(read: Read, size: int) -> bool:
    at, seen = 0, set()
    while at < size:
        head = read(at, 16)
        kind = head[4:8]
        if kind not in _BOXES:
            break
        seen.add(kind)
        length = int.from_bytes(head[:4], "big")
        if length == 0:  # to the end of the file
            break
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:
            break
        at += length
    # Recorders write the index (moov) last; still images have a meta box instead.
    return at > size or (b"mdat" in seen and not seen & {b"moov", b"meta"})


def _elements_cut(read: Read, size: int) -> bool:
    at = 0
    while at < size:
        element = _element(read(at, 12))
        if element is None:
            # Fewer bytes than a header is a cut; more that make none is rubbish.
            return size - at < 12
        identity, header, length = element
        at += header
        if length is not None:
            if identity == _SEGMENT and at + length <= size:
                return False
            at += length
        elif identity not in _ENTERED:
            return False
    return at > size


def _element(head: bytes) -> tuple[int, int, int | None] | None:
    """Reads an EBML header (RFC 8794): id, length of the header, length of the content."""
    if not head or not head[0] >> 4:
        return None
    id_length = 9 - head[0].bit_length()
    rest = head[id_length:]
    if not rest or not rest[0]:
        return None
    size_length = 9 - rest[0].bit_length()
    if len(rest) < size_length:
        return None
    value = int.from_bytes(rest[:size_length], "big") & ((1 << 7 * size_length) - 1)
    unknown = value == (1 << 7 * size_length) - 1
    return (
        int.from_bytes(head[:id_length], "big"),
        id_length + size_length,
        None if unknown else value,
    )
