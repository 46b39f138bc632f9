"""Foreign pictures are turned, cropped and scaled by plain arithmetic."""

from __future__ import annotations

import struct

import pytest

from model_actor.media.fit import UPRIGHT, Crop, Orientation, Picture, chain, cover

pytestmark = pytest.mark.unit

ONE = 1 << 16


def matrix(a: int, b: int, c: int, d: int) -> bytes:
    return struct.pack("=9i", a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((1, 0, 0, 1), UPRIGHT),
        ((0, 1, -1, 0), Orientation(transpose=True, flip_x=True)),
        ((-1, 0, 0, -1), Orientation(flip_x=True, flip_y=True)),
        ((0, -1, 1, 0), Orientation(transpose=True, flip_y=True)),
        ((-1, 0, 0, 1), Orientation(flip_x=True)),
        ((0, 1, 1, 0), Orientation(transpose=True)),
    ],
)
def test_display_matrices_are_read(
    numbers: tuple[int, int, int, int], expected: Orientation
) -> None:
    assert Orientation.from_display_matrix(matrix(*numbers)) == expected


def test_a_broken_matrix_is_none() -> None:
    assert Orientation.from_display_matrix(b"short") == UPRIGHT
    assert Orientation.from_display_matrix(bytes(36)) == UPRIGHT


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1280, 704), Crop(1280, 704, 0, 0)),
        ((1280, 720), Crop(1280, 704, 0, 8)),
        ((1920, 1080), Crop(1920, 1056, 0, 12)),
        ((640, 480), Crop(640, 352, 0, 64)),
        ((720, 1280), Crop(720, 396, 0, 442)),
        ((3000, 704), Crop(1280, 704, 860, 0)),
        ((100, 4000), Crop(100, 56, 0, 1972)),
        ((321, 241), Crop(321, 176, 0, 32)),
        ((2, 2), Crop(2, 2, 0, 0)),
    ],
)
def test_the_largest_centred_part_of_the_targets_shape_is_kept(
    size: tuple[int, int], expected: Crop
) -> None:
    assert cover(Picture(*size, "yuv420p"), 1280, 704) == expected


def test_a_turned_picture_is_cropped_across() -> None:
    turned = Picture(1280, 720, "yuv420p", orientation=Orientation(transpose=True))
    assert turned.displayed == (720, 1280)
    assert cover(turned, 1280, 704) == Crop(396, 720, 442, 0)


def test_pixels_that_are_not_square_are_allowed_for() -> None:
    wide = Picture(960, 720, "yuv420p", pixel_aspect=4 / 3)
    assert wide.displayed == (1280, 720)
    assert cover(wide, 1280, 704) == Crop(960, 704, 0, 8)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Picture(1280, 704, "yuv420p"), "colorspace=bt709:range=tv"),
        (Picture(704, 1280, "yuv420p"), "colorspace=bt709:range=tv"),
        (Picture(640, 480, "yuv420p"), "colorspace=smpte170m:range=tv"),
        (Picture(640, 480, "yuv420p", matrix=1, color_range=2), "colorspace=bt709:range=pc"),
        (Picture(1280, 720, "yuvj420p", matrix=5), "colorspace=bt470bg:range=pc"),
        (Picture(3840, 2160, "yuv420p10le", matrix=9), "colorspace=bt2020nc:range=tv"),
        (Picture(1280, 720, "yuv420p", matrix=8), "colorspace=bt709:range=tv"),
    ],
)
def test_colours_are_as_said_or_as_players_assume(picture: Picture, expected: str) -> None:
    assert chain(picture, 1280, 704)[0] == ("setparams", expected)


@pytest.mark.parametrize(("matrix", "changed"), [(1, False), (5, True), (6, True), (9, True)])
def test_only_other_matrices_are_changed(matrix: int, changed: bool) -> None:
    names = [name for name, _ in chain(Picture(1280, 720, "yuv420p", matrix=matrix), 1280, 704)]
    assert ("colorspace" in names) is changed


def test_rgb_is_left_to_say_for_itself() -> None:
    names = [name for name, _ in chain(Picture(64, 64, "rgb24", is_rgb=True), 64, 64)]
    assert names == ["scale", "format"]
