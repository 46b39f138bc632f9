"""The connection machine: disconnected, connecting, waiting, ready. Pure.

One session has any number of connections, over gRPC or WebRTC, at once. What a
connection sees of its session's fate is decided here and nowhere else.
"""

from __future__ import annotations

import enum

from scheduler.core.errors import InvariantError


class Status(enum.Enum):
    """Where a connection stands, in the words of the clients."""

    DISCONNECTED = "disconnected"
    """Not there yet, or gone."""
    CONNECTING = "connecting"
    """Asked for; the session has not been asked for a place yet."""
    WAITING = "waiting"
    """The session waits for a place, for the first time or again."""
    READY = "ready"
    """Commands are answered."""


class Event(enum.Enum):
    """What happens to a connection."""

    CONNECT = "connect"
    ACCEPTED = "accepted"
    """The session exists and asks for its place."""
    OPENED = "opened"
    """The session's actor answers."""
    LOST = "lost"
    """No actor answers for now: the session is placed anew, or parked."""
    CLOSED = "closed"
    """The client left, or the session ended."""


TRANSITIONS: dict[tuple[Status, Event], Status] = {
    (Status.DISCONNECTED, Event.CONNECT): Status.CONNECTING,
    (Status.CONNECTING, Event.ACCEPTED): Status.WAITING,
    (Status.CONNECTING, Event.CLOSED): Status.DISCONNECTED,
    (Status.WAITING, Event.OPENED): Status.READY,
    (Status.WAITING, Event.LOST): Status.WAITING,
    (Status.WAITING, Event.CLOSED): Status.DISCONNECTED,
    (Status.READY, Event.LOST): Status.WAITING,
    (Status.READY, Event.OPENED): Status.READY,
    (Status.READY, Event.CLOSED): Status.DISCONNECTED,
    (Status.DISCONNECTED, Event.CLOSED): Status.DISCONNECTED,
}
"""What is not here cannot happen."""


def after(status: Status, event: Event) -> Status:
    """Returns the status after an event.

    Raises:
        InvariantError: The event cannot happen in this status.
    """
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        msg = f"a {status.value} connection cannot be told {event.value}"
        raise InvariantError(msg) from None
