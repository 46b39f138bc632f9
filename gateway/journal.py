"""What a session has said to all, as far back as it is kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from sana_gateway.v1 import message_pb2

LENGTH = 256
"""Messages kept for who reconnects."""


class Journal:
    """The last messages to all connections, by revision."""

    def __init__(self) -> None:
        """Begins empty."""
        self.state: message_pb2.Message | None = None
        """The newest snapshot."""
        self._messages: deque[message_pb2.Message] = deque(maxlen=LENGTH)

    @property
    def revision(self) -> int:
        """Revision of the newest message; 0 without one."""
        return self._messages[-1].revision if self._messages else 0

    def add(self, message: message_pb2.Message) -> None:
        """Keeps a message; the oldest makes room."""
        if message.revision:
            self._messages.append(message)
        if message.HasField("state"):
            self.state = message

    def after(self, revision: int) -> Iterable[message_pb2.Message]:
        """Returns the kept messages above a revision, oldest first."""
        return [message for message in self._messages if message.revision > revision]

    def lacks(self, revision: int | None) -> bool:
        """Tells whether messages after a revision that a client saw last are not kept."""
        if revision is None or not self._messages:
            return revision is not None and revision > 0
        return not self._messages[0].revision - 1 <= revision <= self._messages[-1].revision

    def clear(self) -> None:
        """Forgets all."""
        self._messages.clear()
        self.state = None
