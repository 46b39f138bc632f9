"""The number of a frame, drawn into it. Needs numpy alone: clients in other venvs use it."""

from __future__ import annotations

from typing import Any, Final

CELL: Final = 40
TOP: Final = 16
LEFT: Final = 16
BITS: Final = 7
_WHITE, _BLACK = 225, 30
_LEAST_CONTRAST = 70


def write(picture: Any, number: int) -> None:
    """Draws a number below 128: a white cell, a black one, seven bits, their parity.

    Args:
        picture: RGB or one plane, shape `(height, width[, 3])`; changed in place.
        number: What to draw.
    """
    bits = [number >> bit & 1 for bit in range(BITS)]
    for at, bit in enumerate([1, 0, *bits, sum(bits) & 1]):
        picture[TOP : TOP + CELL, LEFT + at * CELL : LEFT + (at + 1) * CELL] = (
            _WHITE if bit else _BLACK
        )


def read(plane: Any) -> int | None:
    """Reads the number of a picture; None where there is none, or it is damaged.

    Args:
        plane: Luma, or one colour of an RGB picture; at the size it was drawn in.
    """
    inner = CELL // 4
    cells = [
        float(
            plane[
                TOP + inner : TOP + CELL - inner,
                LEFT + at * CELL + inner : LEFT + (at + 1) * CELL - inner,
            ].mean()
        )
        for at in range(BITS + 3)
    ]
    white, black = cells[0], cells[1]
    if white - black < _LEAST_CONTRAST:
        return None
    bits = [int(cell > (white + black) / 2) for cell in cells[2:]]
    if sum(bits) & 1:
        return None
    return sum(bit << at for at, bit in enumerate(bits[:BITS]))
