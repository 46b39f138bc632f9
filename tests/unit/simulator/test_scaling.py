"""How many GPUs are wanted."""

from __future__ import annotations

import pytest

from scheduler.simulator.scaling import Highest

pytestmark = pytest.mark.unit


def test_the_highest_of_the_last_seconds_is_kept() -> None:
    highest = Highest(10.0)
    values = ((0.0, 5), (1.0, 3), (4.0, 4), (10.0, 1), (11.0, 1), (14.5, 2), (25.0, 0))
    assert [highest.push(value, now) for now, value in values] == [5, 5, 5, 5, 4, 2, 0]
