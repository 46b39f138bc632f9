"""A conversation with our own TypeScript client, over `wire_typed`.

What comes before the data channel is open is kept: a client that reconnects is told what it
missed, in order, and nothing twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from gateway import ports
from gateway.ingress import DataChannel
from sana_gateway.v1 import message_pb2
from scheduler.core.errors import LimitError, NotReadyError, RequestError, SessionClosedError
from sdk_adapters.reactor import translate, wire, wire_typed
from sdk_adapters.reactor.channels import Conversation, wire_of

MAX_EARLY: Final = 1024
"""What is kept for a data channel that is not open yet; the oldest goes first, and the client
is told of a gap. The journal repeats at most 256 messages."""


class TypedConversation(Conversation):
    """See `Conversation`; every command is answered by its id."""

    def __init__(
        self,
        session: ports.HubSession,
        client_info: object,
        *,
        now: Callable[[], float],
        on_broken: Callable[[str], None],
        on_ended: Callable[[], None],
    ) -> None:
        """Prepares a conversation that nobody takes part in yet.

        Args:
            session: What it is about.
            client_info: Of the client's offer: the revision to resume after stands there.
            now: Monotonic clock in seconds.
            on_broken: Called with a reason when the connection should be closed.
            on_ended: Called when the session has ended and the client has been told.
        """
        super().__init__(session, wire_typed, now=now, on_broken=on_broken, on_ended=on_ended)
        self.resume_after = wire_typed.resume_after(client_info)
        self._settled = True
        self._early: deque[wire_typed.Outbound] | None = deque()
        self._gap = False

    def joined(self, connection: ports.Connection, *, gap: bool = False) -> None:
        """Says which connection the commands go to; messages are kept until it can be told."""
        super().joined(connection)
        self._gap = self._gap or gap

    # From the client.

    def opened(self, channel: DataChannel) -> None:
        """Takes the data channel; the client is greeted, and told what is kept."""
        super().opened(channel)
        if channel.label != wire.Label.DATA or self._early is None or self._connection is None:
            return
        early, self._early = self._early, None
        self._tell(wire_typed.Attached(self._connection.connection_id, self._gap))
        for each in early:
            self._tell(each)

    def _handle(self, said: wire.Inbound) -> None:
        if isinstance(said, wire.Ping):
            self._tell(wire_typed.Pong(said.request_id))
        else:
            super()._handle(said)

    def _command(self, said: wire.Command) -> None:
        if self._connection is None:
            return
        command_id = said.request_id
        made = translate.command(command_id, said.name, said.arguments, said.uploads)
        name = translate.name_of(made)
        if not command_id:
            text = f"a command needs an id of 1 to {wire_typed.ID_LENGTH} plain characters"
            code = message_pb2.REJECT_REASON_BAD_ARGUMENT
            self._refuse("", message_pb2.CommandError(command=name, reason=text, code=code))
            return
        try:
            self._connection.command(made, said.traceparent)
        except (LimitError, NotReadyError) as error:
            self._refuse(command_id, _over_limit(name, error))
        except SessionClosedError:
            pass  # the client is told of the end

    def _refuse(self, command_id: str, error: message_pb2.CommandError) -> None:
        said = message_pb2.Message(command_id=command_id, command_error=error)
        self._tell(wire_typed.Told(said))
        self._tell(wire_typed.Answered(command_id, accepted=False))

    # From the hub.

    def queued(self, position: int, estimated_wait_s: float) -> None:
        """Passes the place in the queue on."""
        self._tell(wire_typed.Queued(position, estimated_wait_s or None))

    def message(self, message: message_pb2.Message) -> None:
        """Passes a message of the session on, whole."""
        self._tell(wire_typed.Told(message))

    def ack(self, command_id: str, accepted: bool) -> None:
        """Answers a command."""
        self._tell(wire_typed.Answered(command_id, accepted))

    # To the client.

    def _say(self, said: wire.Outbound) -> None:
        self._tell(said)

    def _tell(self, said: wire_typed.Outbound) -> None:
        if self._early is None:
            encoded = wire_typed.encode(said)
            if encoded is not None:
                self._send(*encoded)
            return
        if len(self._early) >= MAX_EARLY:
            self._early.popleft()
            self._gap = True
        self._early.append(said)


def conversation_about(
    session: ports.HubSession,
    client_info: object,
    *,
    now: Callable[[], float],
    on_broken: Callable[[str], None],
    on_ended: Callable[[], None],
) -> Conversation:
    """Returns the conversation for a client, by the `client_info` of its offer."""
    guess = wire_of(client_info)
    if guess is wire_typed:
        return TypedConversation(
            session, client_info, now=now, on_broken=on_broken, on_ended=on_ended
        )
    return Conversation(session, guess, now=now, on_broken=on_broken, on_ended=on_ended)


def _over_limit(name: str, error: RequestError) -> message_pb2.CommandError:
    """Returns the refusal of a command that no session was asked about."""
    return message_pb2.CommandError(
        command=name, reason=str(error), retry_after_s=error.retry_after_s or 1.0
    )
