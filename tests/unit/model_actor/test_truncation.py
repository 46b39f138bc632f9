"""Files that end before their own structure does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_actor.media.truncation import is_cut_short

pytestmark = pytest.mark.unit


def box(kind: bytes, content: bytes = b"", length: int | None = None) -> bytes:
    return (8 + len(content) if length is None else length).to_bytes(4, "big") + kind + content


def element(identity: int, content: bytes, *, unknown: bool = False) -> bytes:
    name = identity.to_bytes((identity.bit_length() + 7) // 8, "big")
    length = b"\x01" + b"\xff" * 7 if unknown else (1 << 28 | len(content)).to_bytes(4, "big")
    return name + length + content


def cut(data: bytes) -> bool:
    return is_cut_short(lambda offset, length: data[offset : offset + length], len(data))


FTYP, MOOV, MDAT = box(b"ftyp", b"isomxxxx"), box(b"moov", b"m" * 50), box(b"mdat", b"d" * 90)
LARGE_MDAT = box(b"mdat", (16 + 90).to_bytes(8, "big") + b"d" * 90, length=1)
EBML = element(0x1A45DFA3, b"e" * 20)
BLOCKS = element(0xA3, b"b" * 40) + element(0xA3, b"b" * 40)
CLUSTER = element(0x1F43B675, BLOCKS)
LIVE_CLUSTER = element(0x1F43B675, BLOCKS, unknown=True)
WEBM = EBML + element(0x18538067, CLUSTER * 2)
LIVE = EBML + element(0x18538067, CLUSTER * 2, unknown=True)
LIVE_OPEN = EBML + element(0x18538067, LIVE_CLUSTER * 2, unknown=True)
AVI = b"RIFF" + (100).to_bytes(4, "little") + b"AVI " + bytes(96)


@pytest.mark.parametrize(
    "whole",
    [
        FTYP + MOOV + MDAT,
        FTYP + MDAT + MOOV,
        FTYP + LARGE_MDAT + MOOV,
        FTYP + MOOV + box(b"mdat", b"d" * 90, length=0),
        WEBM,
        LIVE,
        LIVE_OPEN,
        AVI,
    ],
)
def test_whole_files_are_whole_and_cut_ones_cut(whole: bytes) -> None:
    assert not cut(whole)
    if whole[4:8] == b"ftyp" and b"\x00\x00\x00\x00mdat" in whole:
        return  # An open box reaches to wherever the file ends.
    assert cut(whole[:-5])
    assert cut(whole[:-25])


def test_a_recording_without_its_index_is_cut() -> None:
    assert cut(FTYP + MDAT)
    assert cut(FTYP + box(b"mdat", b"d" * 90, length=0))


def test_rubbish_behind_the_end_is_not_a_cut() -> None:
    assert not cut(FTYP + MOOV + MDAT + b"rubbishrubbish")
    assert not cut(WEBM + bytes(30))


def test_still_images_and_other_files_are_not_judged() -> None:
    assert not cut(FTYP + box(b"meta", b"m" * 20) + MDAT)
    assert not cut(b"")
    assert not cut(b"#EXTM3U\n")


@given(st.binary(max_size=200), st.sampled_from([b"", FTYP, EBML, LIVE[:40], AVI[:12]]))
def test_any_bytes_get_an_answer(data: bytes, head: bytes) -> None:
    assert cut(head + data) in (True, False)
