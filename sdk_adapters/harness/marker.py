"""Reads the frame marker that the model `simulated` draws into its pictures, and marks sources.

The layout is a contract between two folders that may not import one another: it is
described in `model_actor/models/simulated/marker.py`, and a test holds both against it.
"""

from __future__ import annotations

import binascii
import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

_COLUMNS, _ROWS, _ADDED_ROWS = 16, 5, 3
_ACROSS, _DOWN = 40, 22
CANNED_FRAMES = 240
"""Canned pictures are numbered modulo this: gaps are to be counted so."""
_LEAST_CONTRAST = 48
"""Luma between the white and the black cells of the top row below which nothing is read."""
_BLACK, _WHITE = 24, 228
SOURCES: Final = 0xFFFF
"""Numbers that frames of a source can have."""
_SOURCE_RUN, _SOURCE_TAG = 255, 0xFFFF


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


@dataclass(frozen=True, slots=True)
class Origin:
    """What a picture was made of."""

    prompt_tag: int
    """`prompt_tag` of the prompt it was made with."""
    source: int | None
    """What `write_source` marked the frame with that was edited; None: it was not marked."""


def session_tag(session_id: str) -> int:
    """Returns the 16 bits that stand for a session."""
    return int.from_bytes(hashlib.blake2b(session_id.encode(), digest_size=2).digest(), "big")


def prompt_tag(prompt: str) -> int:
    """Returns the 16 bits that stand for a prompt."""
    return int.from_bytes(hashlib.blake2b(prompt.encode(), digest_size=2).digest(), "big")


def write_source(y_plane: npt.NDArray[np.uint8], number: int) -> None:
    """Marks a frame that is to be edited, so that its edited picture can be told.

    Args:
        y_plane: Luma, written in place; what is too small for a marker stays as it is.
        number: Its number, below `SOURCES`.
    """
    height, width = y_plane.shape
    if height < 2 * _DOWN or width < 2 * _ACROSS:
        return
    data = number.to_bytes(4, "big") + bytes([_SOURCE_RUN]) + _SOURCE_TAG.to_bytes(2, "big")
    bits = np.unpackbits(np.frombuffer(data + bytes([_crc8(data)]), np.uint8))
    sync = np.arange(_COLUMNS, dtype=np.uint8) % 2 ^ 1
    cells = np.concatenate([sync, bits]).reshape(_ROWS, _COLUMNS)
    grid = np.where(cells == 1, np.uint8(_WHITE), np.uint8(_BLACK))
    down, across = _drawn(height, _DOWN, _ROWS), _drawn(width, _ACROSS, _COLUMNS)
    top, left = -(-height // _DOWN), -(-width // _ACROSS)
    y_plane[top : top + len(down), left : left + len(across)] = grid[down][:, across]


def _drawn(pixels: int, cells: int, count: int) -> npt.NDArray[np.intp]:
    """Returns the cell of each pixel of a line, for so many cells after the first."""
    cell = np.arange(pixels, dtype=np.intp) * cells // pixels - 1
    return cell[(cell >= 0) & (cell < count)]


def read_marker(y_plane: npt.NDArray[np.uint8]) -> Marker | None:
    """Reads the marker of a picture at any size, after any codec.

    Args:
        y_plane: Luma, shape `(height, width)`; may be larger or smaller than drawn.

    Returns:
        The marker, or None where there is none or it is damaged.
    """
    marker, _ = _read(y_plane, _ROWS)
    return marker


def read_origin(y_plane: npt.NDArray[np.uint8]) -> tuple[Marker | None, Origin | None]:
    """Reads the marker of a picture, and what the picture was made of where it says so.

    Args:
        y_plane: As for `read_marker`.
    """
    marker, cells = _read(y_plane, _ROWS + _ADDED_ROWS)
    if marker is None or cells is None:
        return marker, None
    threshold = _threshold(cells)
    added = np.packbits(cells[_ROWS:].ravel() > threshold).tobytes()
    first = np.packbits(cells[1:_ROWS].ravel() > threshold).tobytes()[:-1]
    if binascii.crc_hqx(first + added[:4], 0xFFFF) != int.from_bytes(added[4:], "big"):
        return marker, None
    source = int.from_bytes(added[2:4], "big")
    return marker, Origin(
        prompt_tag=int.from_bytes(added[:2], "big"), source=None if source == SOURCES else source
    )


def _read(
    y_plane: npt.NDArray[np.uint8], rows: int
) -> tuple[Marker | None, npt.NDArray[np.float64] | None]:
    """Returns the marker, and the cells of so many rows it was read from."""
    height, width = y_plane.shape
    if height < 2 * _DOWN or width < 2 * _ACROSS:
        return None, None
    cells = _cells(y_plane, rows)
    white, black = cells[0, 0::2], cells[0, 1::2]
    if float(white.min()) - float(black.max()) < _LEAST_CONTRAST:
        return None, None
    data = np.packbits(cells[1:_ROWS].ravel() > _threshold(cells)).tobytes()
    if _crc8(data) != 0:
        return None, None
    marker = Marker(
        frame=int.from_bytes(data[:4], "big"),
        run=data[4],
        session_tag=int.from_bytes(data[5:7], "big"),
    )
    return marker, cells


def _threshold(cells: npt.NDArray[np.float64]) -> float:
    """Returns the luma between white and black, by the top row."""
    return (float(cells[0, 0::2].mean()) + float(cells[0, 1::2].mean())) / 2


def _cells(y_plane: npt.NDArray[np.uint8], rows: int) -> npt.NDArray[np.float64]:
    """Returns the mean of the inner half of every cell, shape `(rows, 16)`."""
    height, width = y_plane.shape
    tall, wide = height / _DOWN, width / _ACROSS
    means = np.empty((rows, _COLUMNS))
    for row in range(rows):
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
