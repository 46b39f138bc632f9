"""Playlists, and the signatures in them."""

from __future__ import annotations

import pytest

from gateway.recording.index import Stored
from gateway.recording.playlist import is_signed, playlist, signature

pytestmark = pytest.mark.unit


def test_a_playlist_names_all_that_a_player_needs() -> None:
    segments = [
        Stored(7, 28_000_000, 4_041_667, 10, keyed=True),
        Stored(8, 32_041_667, 500_000, 10, keyed=False),
    ]
    assert playlist(segments, lambda name: f"there/{name}").splitlines() == [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        "#EXT-X-TARGETDURATION:5",
        "#EXT-X-MEDIA-SEQUENCE:7",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        '#EXT-X-MAP:URI="there/init.mp4"',
        "#EXTINF:4.041667,",
        "there/chunk_00007.m4s",
        "#EXTINF:0.500000,",
        "there/chunk_00008.m4s",
        "#EXT-X-ENDLIST",
    ]


@pytest.mark.parametrize(("duration_us", "target"), [(4_000_000, 4), (4_000_001, 5), (40_000, 1)])
def test_no_segment_is_longer_than_the_target(duration_us: int, target: int) -> None:
    made = playlist([Stored(0, 0, duration_us, 1, keyed=True)], str)
    assert f"#EXT-X-TARGETDURATION:{target}" in made.splitlines()


def test_a_signature_is_good_for_one_file_of_one_session_until_its_time() -> None:
    signed = signature("secret", "s1", "init.mp4", 100)
    assert is_signed("secret", "s1", "init.mp4", "100", signed, 99.0)
    assert is_signed("secret", "s1", "init.mp4", "100", signed, 100.0)
    assert not is_signed("secret", "s1", "init.mp4", "100", signed, 100.5)
    assert not is_signed("secret", "s1", "init.mp4", "101", signed, 99.0)
    assert not is_signed("secret", "s1", "chunk_00000.m4s", "100", signed, 99.0)
    assert not is_signed("secret", "s2", "init.mp4", "100", signed, 99.0)
    assert not is_signed("other", "s1", "init.mp4", "100", signed, 99.0)


@pytest.mark.parametrize("until", ["", "-1", "1e9", "٣", "9" * 5000, "100 "])
@pytest.mark.parametrize("signed", ["", "ü", "\udcff"])
def test_what_no_address_says_is_refused(until: str, signed: str) -> None:
    assert not is_signed("secret", "s1", "init.mp4", until, signed, 0.0)
    assert not is_signed("secret", "s1", "init.mp4", "100", signed, 0.0)
