"""Compute of one session: asked for, held, given back, strictly in that order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog
from opentelemetry import trace
from opentelemetry.trace import Span

from scheduler.core.quality import Quality

log = structlog.get_logger(__name__)


class ComputeLedger(Protocol):
    """The scheduler's ledger of compute."""

    async def book(self, session_id: str, epoch: int) -> tuple[Quality, float]:
        """Books compute, waiting while there is none.

        Returns:
            The quality that is booked, and when that is none, seconds after which to try again.
        """

    async def unbook(self, session_id: str, epoch: int) -> None:
        """Gives it back. Giving back what is not held is no error."""


class Bookings:
    """Carries out Book and Unbook one after the other, each as a task that is owned here."""

    def __init__(
        self,
        ledger: ComputeLedger,
        session_id: str,
        epoch: int,
        answered: Callable[[int, Quality, float], None],
    ) -> None:
        """Prepares; `answered(ticket, quality, retry_after_s)` is called for every booking
        that was not withdrawn.
        """
        self._ledger = ledger
        self._session_id = session_id
        self._epoch = epoch
        self._answered = answered
        self._task: asyncio.Task[None] | None = None
        self._asked = False
        self.held = False
        """Compute is held."""

    def book(self, ticket: int, span: Span) -> None:
        """Asks for compute; the request is part of the trace of `span`."""
        self._asked = True
        self._task = asyncio.create_task(self._book(ticket, span, self._task))

    def unbook(self) -> None:
        """Gives compute back, or withdraws the request for it."""
        self._asked = self.held = False
        previous = self._task
        if previous is not None and not previous.done():
            previous.cancel()
        self._task = asyncio.create_task(self._unbook(previous))

    def adopt(self) -> None:
        """Compute was booked for the session by whoever placed it."""
        self._asked = self.held = True

    def part(self) -> None:
        """What is held is somebody else's from now on: nothing is given back, and what was
        asked for is wanted no more.
        """
        self._asked = self.held = False
        if self._task is not None and not self._task.done():
            self._task.cancel()

    async def close(self) -> None:
        """The session is here no longer; what it held goes with its lease."""
        self.part()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _book(self, ticket: int, span: Span, previous: asyncio.Task[None] | None) -> None:
        await _after(previous)
        with trace.use_span(span):
            quality, retry_after_s = await self._ledger.book(self._session_id, self._epoch)
        self._asked = self.held = bool(quality)
        self._answered(ticket, quality, retry_after_s)

    async def _unbook(self, previous: asyncio.Task[None] | None) -> None:
        await _after(previous)
        await self._ledger.unbook(self._session_id, self._epoch)


async def _after(previous: asyncio.Task[None] | None) -> None:
    if previous is not None:
        await asyncio.wait([previous])
