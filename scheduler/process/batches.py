"""What waits to be sent, as few messages: each wakes both processes, and costs either more than
most of what it says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar

ItemT = TypeVar("ItemT")


def take_batch(waiting: deque[ItemT], size: Callable[[ItemT], int], most_bytes: int) -> list[ItemT]:
    """Takes, in order, what goes together in one message.

    Args:
        waiting: At least one.
        size: Bytes of one.
        most_bytes: Most bytes of all, but for a single longer one: so that (de)serialising stays
            well under a millisecond.
    """
    batch = [waiting.popleft()]
    total = size(batch[0]) if waiting else 0
    while waiting and (total := total + size(waiting[0])) <= most_bytes:
        batch.append(waiting.popleft())
    return batch
