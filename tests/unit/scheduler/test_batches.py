"""What waits to be sent is sent in few messages."""

from __future__ import annotations

from collections import deque

import pytest

from scheduler.process.batches import take_batch

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [
        ([3], [[3]]),
        ([30], [[30]]),
        ([3, 3, 4, 1], [[3, 3, 4], [1]]),
        ([3, 30, 3], [[3], [30], [3]]),
        ([0, 0, 10, 0, 1], [[0, 0, 10, 0], [1]]),
    ],
)
def test_as_much_as_fits_goes_together_in_order(sizes: list[int], batches: list[list[int]]) -> None:
    waiting, taken = deque(sizes), []
    while waiting:
        taken.append(take_batch(waiting, int, 10))
    assert taken == batches
