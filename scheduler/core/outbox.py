"""What a session says and to whom: revisions, the journal, answers still due, repeats."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import replace

from scheduler.core.commands import NAMES, Command, RejectReason
from scheduler.core.effects import Ack, Asker, Send
from scheduler.core.messages import CommandError, Message, Payload, Phase
from scheduler.core.snapshot import DueAnswer, Handled

JOURNAL_MESSAGES = 256
REMEMBERED_COMMANDS = 256


class Outbox:
    """The words of one session. Both its tables are bounded; the oldest entry goes first."""

    def __init__(
        self,
        revision: int = 0,
        handled: Iterable[Handled] = (),
        due: Iterable[DueAnswer] = (),
    ) -> None:
        self.revision = revision
        """Revision of the last message to all."""
        self.journal: deque[Message] = deque(maxlen=JOURNAL_MESSAGES)
        """The last messages to all, oldest first."""
        self._due: dict[type[Command], Asker] = {each.command: each.asker for each in due}
        self._handled = OrderedDict((each.asker.command_id, each) for each in handled)

    @property
    def handled(self) -> tuple[Handled, ...]:
        """The commands that can be repeated, oldest first."""
        return tuple(self._handled.values())

    @property
    def due(self) -> tuple[DueAnswer, ...]:
        """The answers that are due."""
        return tuple(DueAnswer(command, asker) for command, asker in self._due.items())

    def tell(self, payload: Payload, asker: Asker | None = None) -> Send:
        """Says something to all."""
        self.revision += 1
        message = Message(self.revision, payload)
        self.journal.append(message)
        return Send(message, asker)

    def expect(self, command: type[Command], asker: Asker) -> None:
        """Notes that a command was accepted and its answer is still due."""
        self._due[command] = asker

    def take(self, command: type[Command]) -> Asker | None:
        """Returns whom the due answer goes to, if one is due, and counts it as given.

        Of a command that was repeated, this is the last to have asked.
        """
        asker = self._due.pop(command, None)
        if asker is None:
            return None
        handled = self._handled.get(asker.command_id)
        return handled.asker if handled is not None else asker

    def fail(
        self,
        command: type[Command],
        code: RejectReason,
        reason: str,
        phase: Phase,
        retry_after_s: float = 0.0,
    ) -> list[Send]:
        """Gives the due answer in the negative, if one is due."""
        asker = self.take(command)
        if asker is None:
            return []
        error = CommandError(NAMES[command], reason, code, phase=phase, retry_after_s=retry_after_s)
        return [Send(Message(0, error), asker)]

    def repeated(self, asker: Asker) -> Ack | None:
        """Returns the ack of a command handled before; its due answer now goes to `asker`."""
        handled = self._handled.get(asker.command_id)
        if handled is None:
            return None
        self._handled[asker.command_id] = replace(handled, asker=asker)
        return Ack(asker, handled.accepted)

    def acknowledge(self, asker: Asker, *, accepted: bool) -> Ack:
        """Returns the ack of a command, and remembers it if it can be repeated."""
        if asker.command_id:
            self._handled[asker.command_id] = Handled(asker, accepted)
        if len(self._handled) > REMEMBERED_COMMANDS:
            self._handled.popitem(last=False)
        return Ack(asker, accepted)
