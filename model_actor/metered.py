"""What the sessions of an actor have used, told to the scheduler until it is written down."""

from __future__ import annotations

from collections.abc import Iterable

from model_actor.engine.live_session import LiveSession
from sana_gateway_internal.v1 import placement_pb2
from scheduler.core.metering_reports import UnkeptReports

_Key = tuple[str, int]
"""(session, epoch)."""


class MeteredSessions:
    """Gathers what sessions say of themselves, and sends it along with heartbeats."""

    def __init__(self) -> None:
        self._reports = UnkeptReports[_Key, placement_pb2.SessionUsage]()

    def tell(self, sessions: Iterable[LiveSession], beat: placement_pb2.Heartbeat) -> None:
        """Adds to a heartbeat what is new, and what is to be told again."""
        for session in sessions:
            self.note(session)
        number, reports = self._reports.take()
        if reports:
            beat.usage_number = number
            beat.usage.extend(reports)

    def note(self, session: LiveSession) -> None:
        """Takes down what a session has used, if that is new: the last time when it has ended."""
        report = session.take_usage()
        if report is not None:
            self._reports.put((report.session_id, report.term), report)

    def kept(self, number: int) -> None:
        """The scheduler has written down what came with beats up to this number."""
        self._reports.kept(number)

    def again(self) -> None:
        """It is another scheduler, or another stream to it: what is not kept is told anew."""
        self._reports.again()
