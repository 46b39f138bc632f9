"""Reads the frame marker that the model `simulated` draws into its pictures.

The layout is a contract between two folders that may not import one another: it is
described in `model_actor/models/simulated/marker.py`, and a test holds both against it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_COLUMNS, _ROWS = 16, 5
_ACROSS, _DOWN = 40, 22
CANNED_FRAMES = 240
"""Canned pictures are numbered modulo this: gaps are to be counted so."""
_LEAST_CONTRAST = 48
"""Luma between the white and the black cells of the top row below which nothing is read."""


@dataclass(frozen=True, slots=True)
class Marker:
    """Which picture this is."""

    frame: int
    """Index in its run, modulo 2^32."""
    run: int
    """Run of the session, modulo 256."""
    session_tag: int
    """`session_tag` of the session's id."""

    @property
    def canned(self) -> bool:
        """Whether the picture comes from the loop that all sessions share, not from an encoder."""
        return self.run == 0 and self.session_tag == 0 and self.frame < CANNED_FRAMES


def session_tag(session_id: str) -> int:
    """Returns the 16 bits that stand for a session."""
    return int.from_bytes(hashlib.blake2b(session_id.encode(), digest_size=2).digest(), "big")


def read_marker(y_plane: npt.NDArray[np.uint8]) -> Marker | None:
    """Reads the marker of a picture at any size, after any codec.

    Args:
        y_plane: Luma, shape `(height, width)`; may be larger or smaller than drawn.

    Returns:
        The marker, or None where there is none or it is damaged.
    """
    height, width = y_plane.shape
    if height < 2 * _DOWN or width < 2 * _ACROSS:
        return None
    cells = _cells(y_plane)
    white, black = cells[0, 0::2], cells[0, 1::2]
    if float(white.min()) - float(black.max()) < _LEAST_CONTRAST:
        return None
    threshold = (float(white.mean()) + float(black.mean())) / 2
    data = np.packbits(cells[1:].ravel() > threshold).tobytes()
    if _crc8(data) != 0:
        return None
    return Marker(
        frame=int.from_bytes(data[:4], "big"),
        run=data[4],
        session_tag=int.from_bytes(data[5:7], "big"),
    )


def _cells(y_plane: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Returns the mean of the inner half of every cell, shape `(5, 16)`."""
    height, width = y_plane.shape
    tall, wide = height / _DOWN, width / _ACROSS
    means = np.empty((_ROWS, _COLUMNS))
    for row in range(_ROWS):
        top = round((row + 1.25) * tall)
        bottom = max(top + 1, round((row + 1.75) * tall))
        for column in range(_COLUMNS):
            left = round((column + 1.25) * wide)
            right = max(left + 1, round((column + 1.75) * wide))
            means[row, column] = y_plane[top:bottom, left:right].mean()
    return means


def _crc8(data: bytes) -> int:
    """Returns the CRC-8 (polynomial 0x07); 0 over data that ends in its own CRC."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1) ^ (0x107 if value & 0x80 else 0)
    return value
