"""The frame marker: writer and reader agree, at any size, and damage is noticed."""

from __future__ import annotations

import av
import numpy as np
import pytest

from model_actor.models.simulated import marker as writer
from sdk_adapters.harness.marker import (
    SOURCES,
    Marker,
    Origin,
    prompt_tag,
    read_marker,
    read_origin,
    session_tag,
    write_source,
)

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


@pytest.mark.parametrize("size", [(704, 1280), (88, 160), (44, 80), (192, 320)])
@pytest.mark.parametrize("number", [0, 1, 239, SOURCES - 1])
def test_a_marked_source_is_read_by_the_model(size: tuple[int, int], number: int) -> None:
    luma = np.full(size, 90, np.uint8)
    write_source(luma, number)
    assert writer.SourceReader(size[1], size[0]).read(luma) == number


def test_a_source_without_a_marker_has_no_number() -> None:
    rng = np.random.default_rng(3)
    reader = writer.SourceReader(WIDTH, HEIGHT)
    assert reader.read(plane()) == writer.UNMARKED
    for _ in range(200):
        noise = rng.integers(0, 255, (HEIGHT, WIDTH), dtype=np.uint8)
        assert reader.read(noise) == writer.UNMARKED
    marked = plane()
    writer.write_marker(marked, 5, 1, 2)
    assert reader.read(marked) == writer.UNMARKED


def test_a_frame_too_small_for_a_marker_stays_as_it_is() -> None:
    luma = np.full((40, 70), 90, np.uint8)
    write_source(luma, 1)
    assert (luma == 90).all()


def test_both_sides_derive_the_same_prompt_tag() -> None:
    for prompt in ("", "a watercolour", "ü"):
        assert writer.prompt_tag(prompt) == prompt_tag(prompt)


@pytest.mark.parametrize(
    ("source", "read"), [(0, 0), (4711, 4711), (writer.UNMARKED, None)], ids=str
)
def test_what_a_picture_was_made_of_is_read(source: int, read: int | None) -> None:
    luma = plane()
    writer.write_marker(luma, 9, 2, 77, writer.Origin(0xBEEF, source))
    assert read_origin(luma) == (Marker(9, 2, 77), Origin(0xBEEF, read))
    assert read_marker(luma) == Marker(9, 2, 77)


def test_a_picture_that_does_not_say_is_not_guessed_at() -> None:
    rng = np.random.default_rng(5)
    for fill in (0, 90, 255):
        luma = plane(fill)
        writer.write_marker(luma, 9, 2, 77)
        assert read_origin(luma) == (Marker(9, 2, 77), None)
    for _ in range(100):
        luma = rng.integers(0, 255, (HEIGHT, WIDTH), dtype=np.uint8)
        writer.write_marker(luma, 9, 2, 77)
        assert read_origin(luma) == (Marker(9, 2, 77), None)
    assert read_origin(plane()) == (None, None)


def test_what_one_picture_was_made_of_is_not_believed_of_another() -> None:
    luma, other = plane(), plane()
    writer.write_marker(luma, 9, 2, 77, writer.Origin(1, 2))
    writer.write_marker(other, 10, 2, 77)
    below = slice(6 * 32, 9 * 32)
    other[below] = luma[below]
    assert read_origin(other) == (Marker(10, 2, 77), None)
