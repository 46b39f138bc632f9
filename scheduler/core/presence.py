"""Who is connected to which session, by every gateway's own word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from scheduler.core.ids import GatewayId, SessionId


class Presence:
    """Connections of sessions, and the deadlines of those that have none.

    Args:
        window: Seconds that a session without a connection is kept.
    """

    def __init__(self, window: float) -> None:
        self._window = window
        self._gateways: dict[GatewayId, dict[SessionId, int]] = {}
        self._deadlines: dict[SessionId, float | None] = {}
        """Sessions on an actor; None while somebody is connected."""
        self._doubted: dict[SessionId, float] = {}
        """Sessions that gateways are connected to and no actor holds."""

    def report(
        self, gateway: GatewayId, counts: Mapping[SessionId, int], now: float, *, complete: bool
    ) -> None:
        """Takes in a gateway's counts; `complete` means that all others of it are 0."""
        own = self._gateways.setdefault(gateway, {})
        if complete:
            for session in own.keys() - counts.keys():
                del own[session]
                self._refresh(session, now)
        for session, count in counts.items():
            if count > 0:
                own[session] = count
            else:
                own.pop(session, None)
            self._refresh(session, now)

    def lose(self, gateway: GatewayId, now: float) -> None:
        """Takes all connections of a gateway as lost."""
        for session in self._gateways.pop(gateway, {}):
            self._refresh(session, now)

    def watch(self, session: SessionId, now: float) -> None:
        """Begins to watch a session that has come to an actor."""
        self._doubted.pop(session, None)
        self._deadlines[session] = None
        self._refresh(session, now)

    def doubt(self, session: SessionId, now: float) -> None:
        """Gives a session that no actor holds one window to be claimed by an actor."""
        self._doubted.setdefault(session, now + self._window)

    def expect(self, session: SessionId) -> None:
        """Ends the doubt about a session that waits for a place: no actor need claim it."""
        self._doubted.pop(session, None)

    def forget(self, session: SessionId) -> None:
        """Drops all that is known of a session."""
        self._deadlines.pop(session, None)
        self._doubted.pop(session, None)
        for counts in self._gateways.values():
            counts.pop(session, None)

    def any_gateway(self, session: SessionId) -> GatewayId:
        """Returns a gateway that is connected to a session; "" if none is."""
        owners = (gateway for gateway, counts in self._gateways.items() if session in counts)
        return next(owners, GatewayId(""))

    def is_deserted(self, session: SessionId) -> bool:
        """Tells whether a watched session is without a connection."""
        return self._deadlines.get(session) is not None

    def deserted(self, now: float) -> list[SessionId]:
        """Returns the watched sessions that were without a connection for a whole window."""
        return [s for s, at in self._deadlines.items() if at is not None and at <= now]

    def unclaimed(self, now: float) -> list[SessionId]:
        """Returns, and no longer doubts, the sessions that no actor claimed in time."""
        over = [session for session, at in self._doubted.items() if at <= now]
        for session in over:
            del self._doubted[session]
        return over

    def deadlines(self) -> Iterator[float]:
        """Yields the times at which a session becomes deserted or unclaimed."""
        yield from (at for at in self._deadlines.values() if at is not None)
        yield from self._doubted.values()

    def _refresh(self, session: SessionId, now: float) -> None:
        if any(session in counts for counts in self._gateways.values()):
            if session in self._deadlines:
                self._deadlines[session] = None
            return
        self._doubted.pop(session, None)
        if session in self._deadlines and self._deadlines[session] is None:
            self._deadlines[session] = now + self._window
