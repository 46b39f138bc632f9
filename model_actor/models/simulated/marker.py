"""Writes the frame marker: which frame of which run of which session a picture is.

The marker is a grid of black and white cells in the luma plane, 16 columns by 5 rows,
each cell 1/40 of the width by 1/22 of the height (32 x 32 pixels at 1280 x 704, whole
macroblocks; to the pixel where they do not divide), one cell away from the left and the
upper border. The top row alternates, white first, and tells a reader where black and white
lie. The other rows hold 64 bits, row by row, most significant first: frame (32), run (8),
session tag (16), CRC-8 of these seven bytes (polynomial 0x07).

Three more rows say what the picture was made of: prompt tag (16), number of the source frame
(16), and CRC-16 (polynomial 0x1021, start 0xFFFF) of the seven bytes above and these four.
A source that is marked itself, with the five rows alone, has run 255 and tag 0xFFFF, and in
the frame its number, less than 65535. The number 65535 says that the source was not marked.

Canned pictures are shared by all runs and sessions. Theirs holds the frame modulo 240, and
run 0 and tag 0, which together no session has: runs count from 1. They have no further rows.

The reader for viewers is `sdk_adapters.harness.marker`, which may not import this folder.
"""

from __future__ import annotations

import binascii
import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

COLUMNS, ROWS, ADDED_ROWS = 16, 5, 3
CELLS_ACROSS, CELLS_DOWN = 40, 22
"""Cells that fit in a frame."""
BLACK, WHITE = 24, 228
CANNED_FRAMES = 240
"""Length of the canned loop."""
CANNED_RUN, CANNED_TAG = 0, 0
"""What markers of canned pictures hold for run and session."""
SOURCE_RUN, SOURCE_TAG = 255, 0xFFFF
"""What markers of sources hold for them."""
UNMARKED = 0xFFFF
"""Number of a source frame that has no marker."""
_LEAST_CONTRAST = 48
"""Luma between white and black cells of the top row of a source that can be read."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a picture was made of."""

    prompt_tag: int
    """`prompt_tag` of the prompt it was made with."""
    source: int = UNMARKED
    """Number of the source frame."""


def session_tag(session_id: str) -> int:
    """Returns the 16 bits that stand for a session."""
    return int.from_bytes(hashlib.blake2b(session_id.encode(), digest_size=2).digest(), "big")


def prompt_tag(prompt: str) -> int:
    """Returns the 16 bits that stand for a prompt."""
    return int.from_bytes(hashlib.blake2b(prompt.encode(), digest_size=2).digest(), "big")


def crc8(data: bytes) -> int:
    """Returns the CRC-8 (polynomial 0x07, start 0)."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1) ^ (0x107 if value & 0x80 else 0)
    return value


class SourceReader:
    """Reads the numbers of marked sources of one size: one pixel of each cell."""

    def __init__(self, width: int, height: int) -> None:
        rows = ((np.arange(ROWS) + 1.5) * (height / CELLS_DOWN)).astype(np.intp)
        columns = ((np.arange(COLUMNS) + 1.5) * (width / CELLS_ACROSS)).astype(np.intp)
        self._pixels = np.ix_(rows, columns)

    def read(self, luma: npt.NDArray[np.uint8]) -> int:
        """Returns the number of a source frame, or `UNMARKED`.

        Args:
            luma: Its luma plane, at least 40 x 22 pixels.
        """
        cells = luma[self._pixels]
        white, black = int(cells[0, 0::2].min()), int(cells[0, 1::2].max())
        if white - black < _LEAST_CONTRAST:
            return UNMARKED
        data = np.packbits(cells[1:] > (white + black) // 2).tobytes()
        number = int.from_bytes(data[:4], "big")
        marked = data[4] == SOURCE_RUN and int.from_bytes(data[5:7], "big") == SOURCE_TAG
        return number if marked and number < UNMARKED and crc8(data) == 0 else UNMARKED


def write_marker(
    luma: npt.NDArray[np.uint8], frame: int, run: int, tag: int, origin: Origin | None = None
) -> None:
    """Draws a marker into a luma plane.

    Args:
        luma: The plane, at least 40 x 22 pixels; written in place.
        frame: Index of the frame in its run, modulo 2^32.
        run: Run of the session, modulo 256.
        tag: What `session_tag` returned.
        origin: What the picture was made of; None leaves those rows out.
    """
    first = (frame % 2**32).to_bytes(4, "big") + bytes([run % 256]) + tag.to_bytes(2, "big")
    data, rows = first + bytes([crc8(first)]), ROWS
    if origin is not None:
        added = origin.prompt_tag.to_bytes(2, "big") + origin.source.to_bytes(2, "big")
        data += added + binascii.crc_hqx(first + added, 0xFFFF).to_bytes(2, "big")
        rows += ADDED_ROWS
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    sync = np.arange(COLUMNS, dtype=np.uint8) % 2 ^ 1
    cells = np.concatenate([sync, bits]).reshape(rows, COLUMNS)
    grid = np.where(cells == 1, np.uint8(WHITE), np.uint8(BLACK))
    height, width = luma.shape
    down = _cells(height, CELLS_DOWN, rows)
    across = _cells(width, CELLS_ACROSS, COLUMNS)
    top, left = -(-height // CELLS_DOWN), -(-width // CELLS_ACROSS)
    luma[top : top + len(down), left : left + len(across)] = grid[down][:, across]


def _cells(pixels: int, cells: int, count: int) -> npt.NDArray[np.intp]:
    """Returns the cell of each pixel of a line, for so many cells after the first."""
    cell = np.arange(pixels, dtype=np.intp) * cells // pixels - 1
    return cell[(cell >= 0) & (cell < count)]
