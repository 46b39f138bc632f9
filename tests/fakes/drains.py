"""Drains whose course a test wrote."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from sana_gateway.v1 import pool_pb2
from scheduler.core.errors import BadArgumentError


class Drains:
    """Stands in for the scheduler's drain.

    Args:
        course: How every drain goes; without one no actor is known.
    """

    def __init__(self, course: Sequence[pool_pb2.DrainActorResponse]) -> None:
        self._course = course

    async def __call__(
        self, request: pool_pb2.DrainActorRequest
    ) -> AsyncIterator[pool_pb2.DrainActorResponse]:
        """Yields how far it has come."""
        if not self._course:
            raise BadArgumentError(f"there is no actor {request.actor_id}")
        for progress in self._course:
            yield progress
