"""The frame marker: writer and reader agree, at any size, and damage is noticed."""

from __future__ import annotations

import av
import numpy as np
import pytest

from model_actor.models.simulated import marker as writer
from sdk_adapters.harness.marker import Marker, read_marker, session_tag

pytestmark = pytest.mark.unit

WIDTH, HEIGHT = 1280, 704


def plane(fill: int = 90) -> np.ndarray:
    return np.full((HEIGHT, WIDTH), fill, np.uint8)


@pytest.mark.parametrize(
    ("frame", "run", "tag"),
    [(0, 0, 0), (1, 1, 1), (0xA5A5A5A5, 0x5A, 0xC3C3), (2**32 - 1, 255, 65535)],
)
def test_what_is_written_is_read(frame: int, run: int, tag: int) -> None:
    luma = plane()
    writer.write_marker(luma, frame, run, tag)
    assert read_marker(luma) == Marker(frame, run, tag)


def test_large_numbers_are_taken_modulo_their_bits() -> None:
    luma = plane()
    writer.write_marker(luma, 2**32 + 5, 256 + 3, 9)
    assert read_marker(luma) == Marker(5, 3, 9)


def test_both_sides_derive_the_same_session_tag() -> None:
    for session_id in ("", "s-1", "0b1e5a52-7d4f-4f21-a7f3-0c9a1b2c3d4e", "ü"):
        assert writer.session_tag(session_id) == session_tag(session_id)
    assert session_tag("a") != session_tag("b")


@pytest.mark.parametrize("size", [(176, 320), (352, 640), (360, 640), (540, 960), (1080, 1920)])
def test_a_scaled_picture_is_read(size: tuple[int, int]) -> None:
    luma = plane()
    writer.write_marker(luma, 123_456, 7, 4242)
    frame = av.VideoFrame.from_ndarray(luma, format="gray8")
    scaled = frame.reformat(width=size[1], height=size[0]).to_ndarray().astype(np.uint8)
    assert read_marker(scaled) == Marker(123_456, 7, 4242)


def test_no_marker_is_none() -> None:
    rng = np.random.default_rng(3)
    assert read_marker(plane()) is None
    assert read_marker(rng.integers(0, 255, (HEIGHT, WIDTH), dtype=np.uint8)) is None
    assert read_marker(np.zeros((8, 8), np.uint8)) is None


def test_every_single_damaged_cell_is_noticed() -> None:
    luma = plane()
    writer.write_marker(luma, 77, 2, 999)
    for row in range(1, 6):
        for column in range(1, 17):
            damaged = luma.copy()
            cell = damaged[row * 32 : (row + 1) * 32, column * 32 : (column + 1) * 32]
            cell[:] = 252 - cell
            assert read_marker(damaged) is None


def test_low_contrast_is_read_as_long_as_it_is_told_apart() -> None:
    luma = plane()
    writer.write_marker(luma, 5, 6, 7)
    assert read_marker((luma // 3 + 60).astype(np.uint8)) == Marker(5, 6, 7)
    assert read_marker((luma // 6 + 60).astype(np.uint8)) is None
