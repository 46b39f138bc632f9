"""What the editing session asks of the world around it, as values.

The session never acts. Each of its inputs returns a list of these, in order, and
the engine carries them out.
"""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.core.commands import FileRef
from scheduler.core.messages import Message


@dataclass(frozen=True, slots=True)
class Asker:
    """Who sent a command, and under which id it wants the answer."""

    connection_id: int
    command_id: str
    """Unique in the session; a repeat is recognised by it. Empty: no repeat is expected."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message.

    A `CommandError` with an asker goes to that connection alone. Every other message
    goes to all connections, and to the asker's with the id of the command it answers.
    """

    message: Message
    asker: Asker | None = None


@dataclass(frozen=True, slots=True)
class Ack:
    """A command was handled. What answers it at once was sent before this."""

    asker: Asker
    accepted: bool


@dataclass(frozen=True, slots=True)
class Probe:
    """Examine an uploaded clip; answer with `probe_accepted` or `probe_refused`."""

    ticket: int
    video: FileRef


@dataclass(frozen=True, slots=True)
class Book:
    """Ask for compute; answer with `compute_booked` or `compute_refused`."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Unbook:
    """Give booked compute back, or withdraw the request for it."""


@dataclass(frozen=True, slots=True)
class Abandon:
    """Drop all frames and stop all work of earlier runs."""

    next_run: int
    """Runs below this one are void."""


Effect = Send | Ack | Probe | Book | Unbook | Abandon
