"""How a foreign picture is fitted to the model's: upright, scaled to cover, cropped to the centre.

Pure: numbers in, a filter chain of libavfilter out. Cropping comes first, so that a
picture of extreme shape never becomes large on its way.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

Filter = tuple[str, str]
"""Name of a libavfilter filter and its arguments."""

_SD_LONG, _SD_SHORT = 1279, 576
"""Longest sides of a picture that is taken for standard definition."""
_TRANSPOSE = {
    (False, False): "cclock_flip",
    (True, False): "clock",
    (False, True): "cclock",
    (True, True): "clock_flip",
}
"""By whether the new x axis and the new y axis run backwards along the old y and x."""
_MATRICES = {
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    9: "bt2020nc",
    10: "bt2020nc",
}
"""Matrix coefficients (ITU-T H.273, table 4) that libswscale converts from."""


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a coded picture is turned for display."""

    transpose: bool = False
    """Rows become columns, before the flips."""
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def from_display_matrix(cls, matrix: bytes) -> Orientation:
        """Reads the matrix of a track header (ISO/IEC 14496-12, 8.3.2), to the nearest quarter.

        Args:
            matrix: Nine 32-bit integers in this machine's byte order; other sizes count
                as no matrix.
        """
        if len(matrix) != 36:
            return cls()
        a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(flip_x=a < 0, flip_y=d < 0)
        return cls(transpose=True, flip_x=c < 0, flip_y=b < 0)


UPRIGHT = Orientation()


@dataclass(frozen=True, slots=True)
class Picture:
    """What the fitting of a picture depends on."""

    width: int
    height: int
    """As coded, after the codec's own cropping."""
    pixel_format: str
    is_rgb: bool = False
    matrix: int = 2
    """Matrix coefficients (ITU-T H.273); 2: not said."""
    color_range: int = 0
    """0: not said, 1: limited, 2: full."""
    pixel_aspect: float = 1.0
    """Width of a pixel over its height."""
    orientation: Orientation = UPRIGHT

    @property
    def displayed(self) -> tuple[int, int]:
        """Width and height in square pixels, upright."""
        width, height = max(1, round(self.width * self.pixel_aspect)), self.height
        return (height, width) if self.orientation.transpose else (width, height)


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of a coded picture."""

    width: int
    height: int
    x: int
    y: int


def cover(picture: Picture, width: int, height: int) -> Crop:
    """Returns the largest centred part of a picture that has the shape of the target.

    Args:
        picture: The picture as coded.
        width: Width of the target, upright.
        height: Height of the target, upright.
    """
    if picture.orientation.transpose:
        width, height = height, width
    scale = max(width / (picture.width * picture.pixel_aspect), height / picture.height)
    part_width = _even_within(width / (scale * picture.pixel_aspect), picture.width)
    part_height = _even_within(height / scale, picture.height)
    return Crop(
        part_width,
        part_height,
        # Even, so that luma and chroma stay together.
        (picture.width - part_width) // 4 * 2,
        (picture.height - part_height) // 4 * 2,
    )


def chain(picture: Picture, width: int, height: int) -> tuple[Filter, ...]:
    """Returns the filters that make I420, limited range, BT.709, of the target's size.

    A picture that says nothing of its colours is taken for limited range, and for
    BT.601 up to the size of standard definition, else for BT.709, as players do.
    Primaries and transfer are left as they are. Steps that change nothing cost nothing:
    libavfilter passes such frames through.
    """
    crop = cover(picture, width, height)
    turn = picture.orientation
    matrix = "bt709" if picture.is_rgb else _matrix(picture)
    filters: list[Filter] = []
    if not picture.is_rgb:
        full = picture.color_range == 2 or picture.pixel_format.startswith("yuvj")
        filters.append(("setparams", f"colorspace={matrix}:range={'pc' if full else 'tv'}"))
    if (crop.width, crop.height) != (picture.width, picture.height):
        filters.append(("crop", f"{crop.width}:{crop.height}:{crop.x}:{crop.y}"))
    scaled = f"{height}:{width}" if turn.transpose else f"{width}:{height}"
    filters += [
        ("scale", f"{scaled}:flags=bilinear:out_color_matrix={matrix}:out_range=tv"),
        ("format", "yuv420p"),
    ]
    if matrix != "bt709":
        filters.append(change_matrix(matrix, "bt709"))
    if turn.transpose:
        filters.append(("transpose", _TRANSPOSE[turn.flip_x, turn.flip_y]))
    else:
        filters += [("hflip", "")] * turn.flip_x + [("vflip", "")] * turn.flip_y
    return tuple(filters)


def change_matrix(before: str, after: str) -> Filter:
    """Returns the filter that changes the matrix coefficients of I420, limited range.

    libswscale could do it on the way, but shifts the brightness by more than a step.
    """
    source = f"ispace={before}:iprimaries=bt709:itrc=bt709:irange=tv"
    target = f"space={after}:primaries=bt709:trc=bt709:range=tv:format=yuv420p"
    return "colorspace", f"{source}:{target}:fast=1"


def _even_within(wanted: float, available: int) -> int:
    """Rounds to even, unless everything is wanted."""
    if wanted >= available - 0.5:
        return available
    return max(2, min(available, round(wanted / 2) * 2))


def _matrix(picture: Picture) -> str:
    short, long = sorted((picture.width, picture.height))
    assumed = "smpte170m" if short <= _SD_SHORT and long <= _SD_LONG else "bt709"
    return _MATRICES.get(picture.matrix, assumed)
