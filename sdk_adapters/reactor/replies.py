"""Which message answers which request of the protobuf wire.

The native client sends every command as a request and gives up after 10 s. A command
with a reply of its own (`set_prompt` -> `prompt_accepted`) is answered by that message;
the others by a bare ack as soon as they are accepted, since what they lead to may take
longer. A refusal is answered by its `command_error`. Whatever comes after the answer is
a notification, so that nobody gets one message twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from scheduler.core.errors import LimitError

REPLY_OF: Final = {
    "set_prompt": "prompt_accepted",
    "set_video": "video_accepted",
    "reset": "generation_reset",
}
"""The message that a command waits for; the others wait for none."""

REPLY_WITHIN_S: Final = 9.0
"""How long a request stays open for the reply of its command."""

MAX_PENDING: Final = 256
"""Requests of one connection without an answer."""


@dataclass(slots=True)
class _Pending:
    request_id: str
    reply: str | None
    accepted: bool = False


class Replies:
    """The open requests of one connection, by the command id they became."""

    def __init__(self) -> None:
        self._pending: dict[str, _Pending] = {}

    def expect(self, command_id: str, request_id: str, name: str) -> None:
        """Opens a request.

        Raises:
            LimitError: Too many are open.
        """
        if len(self._pending) >= MAX_PENDING:
            raise LimitError("too many unanswered commands")
        self._pending[command_id] = _Pending(request_id, REPLY_OF.get(name))

    def forget(self, command_id: str) -> None:
        """Drops a request that is answered otherwise."""
        self._pending.pop(command_id, None)

    def message(self, command_id: str, name: str) -> str:
        """Returns the request that a message answers; empty when it is a notification."""
        pending = self._pending.get(command_id)
        if pending is None or name not in (pending.reply, "command_error"):
            return ""
        del self._pending[command_id]
        return pending.request_id

    def ack(self, command_id: str, *, accepted: bool) -> str | None:
        """Notes that a command was handled.

        Returns:
            The request to answer with a bare ack, or None while its reply is awaited.
        """
        pending = self._pending.get(command_id)
        if pending is None:
            return None
        pending.accepted = accepted
        if not accepted or pending.reply is not None:
            return None
        del self._pending[command_id]
        return pending.request_id

    def awaits(self, command_id: str) -> bool:
        """Tells whether a request is still open."""
        return command_id in self._pending

    def overdue(self, command_id: str) -> str | None:
        """Stops waiting for a reply: it will be a notification, and an ack answers instead.

        Returns:
            The request to answer with a bare ack, or None where there is no ack yet.
        """
        pending = self._pending.get(command_id)
        if pending is None:
            return None
        pending.reply = None
        if not pending.accepted:
            return None
        del self._pending[command_id]
        return pending.request_id
