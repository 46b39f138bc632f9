"""How well a session runs: at the model's whole frame rate and with all steps, or degraded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Quality(NamedTuple):
    """What a session has booked, or is told to run at. False when it has nothing."""

    rate: float = 1.0
    """Share of the model's frame rate; 0: it has no compute."""
    steps: int = 0
    """Steps that the model takes for a window; 0: as many as it has."""

    def __bool__(self) -> bool:
        return self.rate > 0


FULL = Quality()
"""All that the model can do."""
NO_COMPUTE = Quality(0.0)
"""No compute."""


def degraded(
    rates: Sequence[float], steps_ms: Mapping[int, float], chunk_ms: float
) -> tuple[Quality, ...]:
    """Returns all qualities below the full one, the most costly first.

    Every declared rate goes with every declared number of steps. So who finds no room gives
    up as little as possible; of two that cost the same, that with more frames is preferred.

    Args:
        rates: Shares of the frame rate, below 1.
        steps_ms: Time of a window with fewer steps, by their number.
        chunk_ms: Time of a window with all of them.
    """
    times = {0: chunk_ms, **steps_ms}
    found = [Quality(rate, steps) for rate in (1.0, *rates) for steps in times]
    found.remove(FULL)
    return tuple(sorted(found, key=lambda each: (-each.rate * times[each.steps], -each.rate)))
