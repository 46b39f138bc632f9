"""Control snapshots of one session on their way to its gateways.

Whatever changes a session is followed by a snapshot in the same turn of the event loop, one for
all that the turn brought; it leaves together with what was told in that turn. A command is
acknowledged after a snapshot that knows of it: what was acknowledged cannot be lost with this
actor.

The machine numbers whoever asked by a table of this actor. On the wire a snapshot has the
numbers that its gateway gave to its own connections, and 0 for those of others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from model_actor.engine.askers import Askers
from model_actor.engine.participants import Participants
from sana_gateway_internal.v1 import snapshot_pb2, stream_pb2
from scheduler.core.session import Session
from scheduler.wire_snapshot import snapshot_out

NOBODY = 0
"""The number of a connection that is not known."""


class Controls:
    """Tells the gateways what the session is now."""

    def __init__(
        self,
        session_id: str,
        epoch: int,
        machine: Session,
        gateways: Participants,
        *,
        host: Callable[[], str],
        source_us: Callable[[], int],
        metered: Callable[[snapshot_pb2.ControlSnapshot], None],
    ) -> None:
        """Prepares.

        Args:
            session_id: Whose.
            epoch: Of its lease.
            machine: What it is.
            gateways: Who is told.
            host: Host on which the model's state was last kept; empty: none.
            source_us: Capture time of the last camera frame that a window was made of.
            metered: Adds what was used of it, and where its journal lies.
        """
        self._session_id = session_id
        self._epoch = epoch
        self._machine = machine
        self._gateways = gateways
        self._host = host
        self._source_us = source_us
        self._metered = metered
        self._due: asyncio.Handle | None = None

    def changed(self) -> None:
        """Something is about to be told that changes the session.

        Called before it is told, so that the snapshot is queued before the link's turn comes.
        """
        if self._due is None and self._gateways:
            self._due = asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Sends the snapshot that is due, if one is."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
            for link in self._gateways.links():
                taken = stream_pb2.SnapshotTaken(
                    session_id=self._session_id, snapshot=self.snapshot(link.gateway_id)
                )
                link.control(stream_pb2.ControlResponse(snapshot=taken))

    def snapshot(self, gateway_id: str = "") -> snapshot_pb2.ControlSnapshot:
        """Returns the session as it is now, for a gateway, or for nobody in particular."""
        message = snapshot_out(
            self._machine.snapshot(),
            session_id=self._session_id,
            epoch=self._epoch,
            host=self._host(),
        )
        message.source_us = self._source_us()
        self._metered(message)
        _name_connections(message, self._gateways.askers, gateway_id)
        return message

    def close(self) -> None:
        """Nothing more is told."""
        if self._due is not None:
            self._due.cancel()
            self._due = None


def _name_connections(
    message: snapshot_pb2.ControlSnapshot, askers: Askers, gateway_id: str
) -> None:
    """Turns our numbers of who asked into the gateway's."""
    for each in _askers(message):
        gateway, connection = askers.connection(each.connection_id)
        each.connection_id = connection if gateway == gateway_id else NOBODY


def number_connections(
    message: snapshot_pb2.ControlSnapshot, askers: Askers, gateway_id: str
) -> None:
    """Turns a gateway's numbers of who asked into ours."""
    for each in _askers(message):
        if each.connection_id != NOBODY and gateway_id:
            each.connection_id = askers.number(gateway_id, each.connection_id)
        else:
            each.connection_id = NOBODY


def _askers(
    message: snapshot_pb2.ControlSnapshot,
) -> Iterator[snapshot_pb2.HandledCommand | snapshot_pb2.DueAnswer]:
    yield from message.handled
    yield from message.due
