"""What this gateway knows of the usage of its sessions, told to the scheduler.

The bytes that it carries are its own figures. What was shown is not: that is in the control
snapshot, which the actor tells it, and is passed on unread. So what was shown is known to the
scheduler by two ways, and the death of either the actor or the gateway loses none of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterable
from typing import Protocol

from sana_gateway_internal.v1 import placement_pb2, snapshot_pb2
from scheduler.core.ids import Principal
from scheduler.core.metering_reports import UnkeptReports

SENT_S = 0.5
"""How long a gateway that ends waits for its last reports to leave."""

_terms = itertools.count(1)


def next_term() -> int:
    """Returns the number of the next part that this process takes in some session."""
    return next(_terms)


class MeteredSession(Protocol):
    """A session of this gateway, as far as it is metered."""

    model: str
    term: int
    """Number of the part that is taken in it; see `next_term`."""

    @property
    def session_id(self) -> str:
        """Its id."""

    @property
    def principal(self) -> Principal:
        """Whose it is."""

    @property
    def shown(self) -> snapshot_pb2.UsageTally | None:
        """What was shown of it, as its actor told it last; None: nothing was told."""

    @property
    def bytes_out(self) -> int:
        """Bytes of encoded video handed to its viewers here."""

    @property
    def bytes_in(self) -> int:
        """Bytes of encoded video that its camera sent here."""


class UsageTelling:
    """Gathers reports of sessions, and has them told until they are kept.

    Args:
        sessions: Returns the sessions of this gateway.
        uploaded: Returns how many bytes were uploaded to a session here.
    """

    def __init__(
        self,
        sessions: Callable[[], Iterable[MeteredSession]],
        uploaded: Callable[[str], int],
    ) -> None:
        self._sessions = sessions
        self._uploaded = uploaded
        self._reports = UnkeptReports[tuple[str, int], placement_pb2.SessionUsage]()
        self._noted: dict[tuple[str, int], placement_pb2.SessionUsage] = {}
        """What was said last of each session that lives."""
        self._sent = asyncio.Event()

    def note(self, session: MeteredSession) -> None:
        """Takes down what is known of a session, if that is new."""
        key = (session.session_id, session.term)
        report = placement_pb2.SessionUsage(
            session_id=session.session_id,
            tenant=session.principal.tenant,
            model=session.model,
            tally=session.shown,
            term=session.term,
            bytes_out=session.bytes_out,
            bytes_in=session.bytes_in,
            uploaded_bytes=self._uploaded(session.session_id),
        )
        if self._noted.get(key) != report:
            self._noted[key] = report
            self._reports.put(key, report)

    def ended(self, session: MeteredSession) -> None:
        """Takes down what is known of a session that has ended here."""
        self.note(session)

    def take(self) -> tuple[int, list[placement_pb2.SessionUsage]]:
        """Returns what is to be told now, and the number of the message."""
        sessions = list(self._sessions())
        for session in sessions:
            self.note(session)
        live = {(each.session_id, each.term) for each in sessions}
        self._noted = {key: said for key, said in self._noted.items() if key in live}
        number, reports = self._reports.take()
        if not reports:
            self._sent.set()
        return number, reports

    def kept(self, number: int) -> None:
        """The scheduler has written down what it was told up to a message."""
        self._reports.kept(number)

    def again(self) -> None:
        """Another scheduler is told, or the same one over another stream."""
        self._reports.again()

    async def sent(self, wake: Callable[[], None]) -> None:
        """Waits a moment for what is known to have left.

        Args:
            wake: Has it told now.
        """
        self._sent.clear()
        wake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SENT_S):
                await self._sent.wait()
