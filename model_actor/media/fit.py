"""How a foreign picture is fitted to the model's: upright, scaled to cover, cropped to the centre.

Pure: numbers in, a filter chain of libavfilter out. Cropping comes first, so that a
picture of extreme shape never becomes large on its way.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

Filter = tuple[str, str]
"""Name of a libavfilter filter and its arguments."""

_HD_HEIGHT = 720
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
    BT.709 from 720 lines on, else for BT.601, as players do. Steps that change nothing
    cost nothing: libavfilter passes such frames through.
    """
    crop = cover(picture, width, height)
    turn = picture.orientation
    scaled = (height, width) if turn.transpose else (width, height)
    filters: list[Filter] = [("setparams", _assumed_colours(picture))] if not picture.is_rgb else []
    if (crop.width, crop.height) != (picture.width, picture.height):
        filters.append(("crop", f"{crop.width}:{crop.height}:{crop.x}:{crop.y}"))
    filters += [
        ("scale", f"{scaled[0]}:{scaled[1]}:flags=bilinear:out_color_matrix=bt709:out_range=tv"),
        ("format", "yuv420p"),
    ]
    if turn.transpose:
        filters.append(("transpose", _TRANSPOSE[turn.flip_x, turn.flip_y]))
    else:
        filters += [("hflip", "")] * turn.flip_x + [("vflip", "")] * turn.flip_y
    return tuple(filters)


def _even_within(wanted: float, available: int) -> int:
    """Rounds to even, unless everything is wanted."""
    if wanted >= available - 0.5:
        return available
    return max(2, min(available, round(wanted / 2) * 2))


def _assumed_colours(picture: Picture) -> str:
    assumed = "bt709" if min(picture.width, picture.height) >= _HD_HEIGHT else "smpte170m"
    matrix = _MATRICES.get(picture.matrix, assumed)
    full = picture.color_range == 2 or picture.pixel_format.startswith("yuvj")
    return f"colorspace={matrix}:range={'pc' if full else 'tv'}"
