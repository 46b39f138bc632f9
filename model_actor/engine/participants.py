"""The gateways that take part in a session: who owns its clock, and who is told what.

The *owner* is the gateway that takes part longest: its play-out clock is the session's,
and its commits alone count. The others play the same chunks by clocks of their own. When
the owner is gone, the next one owns.
"""

from __future__ import annotations

from collections.abc import Iterable

from model_actor.engine.askers import Askers
from model_actor.engine.session_outputs import GatewayLink
from sana_gateway_internal.v1 import stream_pb2
from scheduler import wire
from scheduler.core import effects as fx
from scheduler.core.effects import Asker
from scheduler.core.messages import CommandError, Message

JOURNAL_BYTES = 1024 * 1024
"""Most bytes of journal that a gateway is sent when it joins; a client that asks for older
messages is told of a gap."""


class Participants:
    """The gateways of one session, in the order they joined."""

    def __init__(self, session_id: str) -> None:
        """Nobody takes part."""
        self._session_id = session_id
        self._links: dict[str, GatewayLink] = {}
        self._expected: dict[str, GatewayLink] = {}
        self.askers = Askers()
        """Who asked, by number."""

    def __bool__(self) -> bool:
        """Whether anybody takes part."""
        return bool(self._links)

    @property
    def owner(self) -> GatewayLink | None:
        """The gateway whose play-out clock counts."""
        return next(iter(self._links.values()), None)

    def owned_by(self, gateway_id: str) -> bool:
        """Tells whether a gateway is the owner."""
        return self.owner is not None and self.owner.gateway_id == gateway_id

    def get(self, gateway_id: str) -> GatewayLink | None:
        """Returns a gateway that takes part; None when it does not."""
        return self._links.get(gateway_id)

    def reach(self, gateway_id: str) -> GatewayLink | None:
        """Returns a gateway that takes part or is about to; None when it does not."""
        return self._links.get(gateway_id) or self._expected.get(gateway_id)

    def expect(self, link: GatewayLink) -> None:
        """A gateway is about to take part: it sends its camera and is told nothing."""
        self._expected[link.gateway_id] = link

    def stand_by(self, link: GatewayLink, epoch: int) -> None:
        """A gateway is about to take part, and waits for word that its camera is awaited."""
        self.expect(link)
        opened = stream_pb2.Opened(session_id=self._session_id, epoch=epoch, standby=True)
        link.control(stream_pb2.ControlResponse(opened=opened))

    def links(self) -> list[GatewayLink]:
        """Returns all that take part, the owner first."""
        return list(self._links.values())

    def join(self, link: GatewayLink, epoch: int, journal: Iterable[Message]) -> None:
        """A gateway takes part; it is sent the last messages to all, oldest first."""
        kept = [wire.message_out(message) for message in journal]
        while len(kept) > 1 and sum(message.ByteSize() for message in kept) > JOURNAL_BYTES:
            kept = kept[len(kept) // 2 :]
        self._expected.pop(link.gateway_id, None)
        self._links[link.gateway_id] = link
        opened = stream_pb2.Opened(session_id=self._session_id, epoch=epoch, journal=kept)
        link.control(stream_pb2.ControlResponse(opened=opened))

    def leave(self, gateway_id: str) -> bool:
        """A gateway takes part no longer; returns whether it did."""
        self._expected.pop(gateway_id, None)
        return self._links.pop(gateway_id, None) is not None

    def clear(self) -> None:
        """Nobody takes part any more."""
        self._links.clear()
        self._expected.clear()

    def asker(self, gateway_id: str, connection_id: int, command_id: str) -> Asker:
        """Returns who asks, as the session machine knows it."""
        return Asker(self.askers.number(gateway_id, connection_id), command_id)

    def tell(self, response: stream_pb2.ControlResponse) -> None:
        """Tells all gateways."""
        for link in self._links.values():
            link.control(response)

    def ask_keyframe(self, gateway_id: str) -> None:
        """Asks for a keyframe of the camera at a gateway; of any, where it is not known."""
        asked = stream_pb2.ControlResponse(
            camera_keyframe=stream_pb2.CameraKeyframe(session_id=self._session_id)
        )
        publisher = self.reach(gateway_id)
        for link in [publisher] if publisher else {**self._expected, **self._links}.values():
            link.control(asked)

    def announce(self, chunks: Iterable[stream_pb2.ChunkReady]) -> None:
        """Tells all gateways of chunks that wait to be shown."""
        for chunk in chunks:
            self.tell(stream_pb2.ControlResponse(chunk=chunk))

    def send(self, effect: fx.Send) -> None:
        """Sends a message: a refusal to the asker's gateway alone, others to all; the id of
        the command goes to the asker's alone.
        """
        message = wire.message_out(effect.message)
        asker = effect.asker
        gateway_id, connection_id = self.askers.connection(asker.connection_id if asker else 0)
        private = asker is not None and isinstance(effect.message.payload, CommandError)
        for link in self._links.values():
            asked = asker is not None and link.gateway_id == gateway_id
            if private and not asked:
                continue
            wired = stream_pb2.SessionMessage(session_id=self._session_id, message=message)
            if asker is not None and asked:
                wired.connection_id = connection_id
                wired.message.command_id = asker.command_id
            link.control(stream_pb2.ControlResponse(message=wired))

    def ack(self, effect: fx.Ack) -> None:
        """Tells the asker's gateway that a command was handled."""
        gateway_id, connection_id = self.askers.connection(effect.asker.connection_id)
        link = self._links.get(gateway_id)
        if link is not None:
            ack = stream_pb2.SessionAck(
                session_id=self._session_id,
                connection_id=connection_id,
                command_id=effect.asker.command_id,
                accepted=effect.accepted,
            )
            link.control(stream_pb2.ControlResponse(ack=ack))


def parting(session_id: str, reason: str, *, goes_on: bool) -> stream_pb2.ControlResponse:
    """Returns the last word of a session to its gateways.

    Args:
        session_id: Which.
        reason: Why, for people.
        goes_on: It is here no more, and not over: they are to have it placed elsewhere.
    """
    if goes_on:
        refused = stream_pb2.Refused(session_id=session_id, reason=reason)
        return stream_pb2.ControlResponse(refused=refused)
    closed = stream_pb2.Closed(session_id=session_id, reason=reason)
    return stream_pb2.ControlResponse(closed=closed)
