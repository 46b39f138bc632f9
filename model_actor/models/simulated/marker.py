"""Writes the frame marker: which frame of which run of which session a picture is.

The marker is a grid of black and white cells in the luma plane, 16 columns by 5 rows,
each cell 1/40 of the width by 1/22 of the height (32 x 32 pixels at 1280 x 704, whole
macroblocks), one cell away from the left and the upper border. The top row alternates,
white first, and tells a reader where black and white lie. The other rows hold 64 bits, row
by row, most significant first: frame (32), run (8), session tag (16), CRC-8 of these seven
bytes (polynomial 0x07).

Canned pictures are shared by all runs and sessions. Theirs holds the frame modulo 240, and
run 0 and tag 0, which together no session has: runs count from 1.

The reader for viewers is `sdk_adapters.harness.marker`, which may not import this folder.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

COLUMNS, ROWS = 16, 5
CELLS_ACROSS, CELLS_DOWN = 40, 22
"""Cells that fit in a frame."""
BLACK, WHITE = 24, 228
CANNED_FRAMES = 240
"""Length of the canned loop."""
CANNED_RUN, CANNED_TAG = 0, 0
"""What markers of canned pictures hold for run and session."""


def session_tag(session_id: str) -> int:
    """Returns the 16 bits that stand for a session."""
    return int.from_bytes(hashlib.blake2b(session_id.encode(), digest_size=2).digest(), "big")


def crc8(data: bytes) -> int:
    """Returns the CRC-8 (polynomial 0x07, start 0)."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1) ^ (0x107 if value & 0x80 else 0)
    return value


def write_marker(luma: npt.NDArray[np.uint8], frame: int, run: int, tag: int) -> None:
    """Draws a marker into a luma plane.

    Args:
        luma: The plane, at least 40 x 22 pixels; written in place.
        frame: Index of the frame in its run, modulo 2^32.
        run: Run of the session, modulo 256.
        tag: What `session_tag` returned.
    """
    height, width = luma.shape
    tall, wide = height // CELLS_DOWN, width // CELLS_ACROSS
    data = (frame % 2**32).to_bytes(4, "big") + bytes([run % 256]) + tag.to_bytes(2, "big")
    bits = np.unpackbits(np.frombuffer(data + bytes([crc8(data)]), np.uint8))
    sync = np.arange(COLUMNS, dtype=np.uint8) % 2 ^ 1
    cells = np.concatenate([sync, bits]).reshape(ROWS, COLUMNS)
    grid = np.where(cells == 1, np.uint8(WHITE), np.uint8(BLACK))
    area = luma[tall : tall * (ROWS + 1), wide : wide * (COLUMNS + 1)]
    area[:] = np.repeat(np.repeat(grid, tall, axis=0), wide, axis=1)
