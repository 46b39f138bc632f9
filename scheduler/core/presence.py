"""Who is connected to which session, by every gateway's own word."""

from __future__ import annotations

from collections.abc import Mapping

from scheduler.core.deadlines import Deadlines
from scheduler.core.ids import GatewayId, SessionId


class Presence:
    """Connections of sessions, and since when those that are watched have none.

    A session is watched from its first place or its first connection on, until it is
    forgotten: on an actor, parked, lost, and also while only gateways know of it, as after
    a restart of the scheduler.

    Args:
        window: Seconds that a session without a connection is kept.
    """

    def __init__(self, window: float) -> None:
        self._window = window
        self._gateways: dict[GatewayId, dict[SessionId, int]] = {}
        self._owners: dict[SessionId, set[GatewayId]] = {}
        """Gateways with connections to a session; none of the sets is empty."""
        self._since: dict[SessionId, float | None] = {}
        """Since when a watched session is without a connection; None while it has one."""
        self._met: set[SessionId] = set()
        """Watched sessions that had a connection at some time."""
        self._ends = Deadlines[SessionId]()

    def report(
        self, gateway: GatewayId, counts: Mapping[SessionId, int], now: float, *, complete: bool
    ) -> list[SessionId]:
        """Takes in a gateway's counts; `complete` means that all others of it are 0.

        Returns:
            The sessions that have got their first connection or lost their last.
        """
        own = self._gateways.setdefault(gateway, {})
        gone = [session for session in own if session not in counts] if complete else []
        changed = [session for session in gone if self._take(gateway, session, now)]
        for session, count in counts.items():
            if count > 0:
                own[session] = count
                changed += [session] if self._give(gateway, session) else []
            elif self._take(gateway, session, now):
                changed.append(session)
        return changed

    def lose(self, gateway: GatewayId, now: float) -> list[SessionId]:
        """Takes all connections of a gateway as lost; returns as `report` does."""
        lost = list(self._gateways.get(gateway, ()))
        changed = [session for session in lost if self._take(gateway, session, now)]
        self._gateways.pop(gateway, None)
        return changed

    def watch(self, session: SessionId, now: float) -> None:
        """Begins to watch a session, unless it is watched already."""
        if session not in self._since:
            if session in self._owners:
                self._since[session] = None
                self._met.add(session)
            else:
                self._desert(session, now)

    def unwatch(self, session: SessionId) -> None:
        """Lets a session be without a connection for as long as it likes."""
        if self._since.pop(session, None) is not None:
            self._ends.clear(session)
        self._met.discard(session)

    def forget(self, session: SessionId) -> None:
        """Drops all that is known of a session."""
        self.unwatch(session)
        for gateway in self._owners.pop(session, ()):
            self._gateways[gateway].pop(session, None)

    def any_gateway(self, session: SessionId) -> GatewayId:
        """Returns a gateway that is connected to a session; "" if none is."""
        return min(self._owners.get(session, ()), default=GatewayId(""))

    def is_connected(self, session: SessionId) -> bool:
        """Tells whether anybody is connected to a session."""
        return session in self._owners

    def was_connected(self, session: SessionId) -> bool:
        """Tells whether anybody was connected to a session since it is watched."""
        return session in self._met or session in self._owners

    def deserted_since(self, session: SessionId) -> float | None:
        """Returns since when a watched session is without a connection; None if it has one."""
        return self._since.get(session)

    def deserted(self, now: float) -> list[SessionId]:
        """Returns, each once, the watched sessions without a connection for a whole window."""
        return list(self._ends.due(now))

    def is_due(self, now: float) -> bool:
        """Tells whether `deserted` may have something to return."""
        return self._ends.is_due(now)

    def next_deadline(self) -> float | None:
        """Returns when the next session will have been deserted for a whole window."""
        return self._ends.next()

    def _give(self, gateway: GatewayId, session: SessionId) -> bool:
        """A gateway has connections to a session; tells whether these are the first."""
        owners = self._owners.get(session)
        if owners is not None:
            owners.add(gateway)
            return False
        self._owners[session] = {gateway}
        self._since[session] = None
        self._met.add(session)
        self._ends.clear(session)
        return True

    def _take(self, gateway: GatewayId, session: SessionId, now: float) -> bool:
        """A gateway has no connection to a session; tells whether these were the last."""
        if self._gateways[gateway].pop(session, None) is None:
            return False
        owners = self._owners[session]
        owners.discard(gateway)
        if owners:
            return False
        del self._owners[session]
        self._desert(session, now)
        return True

    def _desert(self, session: SessionId, now: float) -> None:
        self._since[session] = now
        self._ends.set(session, now + self._window)
