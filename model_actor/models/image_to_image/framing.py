"""How frames come in windows and go in groups. No torch."""

from __future__ import annotations

from typing import Final

from scheduler.core.geometry import Geometry

WINDOW: Final = 8
"""Frames of a window: a third of a second at 24 frames a second."""
GROUP: Final = 4
"""Frames of a group, where there is more than one step."""
MOST_STEPS: Final = 3
"""More would owe more than a window."""


def group_size(steps: int) -> int:
    """Returns the frames of a group. With a single step none has to wait for another."""
    return WINDOW if steps == 1 else GROUP


def geometry(steps: int) -> Geometry:
    """Returns how frames come and go: the groups under way are owed."""
    lag = GROUP * (steps - 1)
    return Geometry(
        first_window=WINDOW if lag < WINDOW else 2 * WINDOW, window=WINDOW, chunk=WINDOW, lag=lag
    )
