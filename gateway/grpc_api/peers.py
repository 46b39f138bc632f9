"""The WebRTC peers that clients made with Signal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway import ports
from gateway.ingress import Peer, PeerFactory
from sana_gateway.v1 import message_pb2, session_pb2
from scheduler.core.errors import BadArgumentError, RequestError

SDP_LIMIT: Final = 65_536
"""Most characters of an offer: it is parsed on the event loop."""

Key = tuple[str, int]


class MediaOnlySink:
    """A sink of a connection that carries no messages."""

    def __init__(self) -> None:
        self.on_ended: Callable[[], None] = lambda: None
        """Called when the session has ended."""
        self.on_camera_keyframe: Callable[[], None] = lambda: None
        """Called when the camera's decoder needs a keyframe."""

    def queued(self, position: int, estimated_wait_s: float) -> None:
        """Nobody listens."""

    def ready(self) -> None:
        """Nobody listens."""

    def message(self, message: message_pb2.Message) -> None:
        """Nobody listens."""

    def ack(self, command_id: str, accepted: bool) -> None:
        """Nobody asks."""

    def camera_keyframe(self) -> None:
        """The camera's decoder needs a keyframe."""
        self.on_camera_keyframe()

    def ended(self, reason: str) -> None:  # noqa: ARG002 - not for a peer
        """The session has ended."""
        self.on_ended()


@dataclass(eq=False)
class _Entry:
    connection: ports.Connection
    lock: asyncio.Lock
    peer: Peer | None = None
    generation: int = 0
    """Grows with every offer: what an earlier peer says of its end is void."""


class SignalledPeers:
    """Peers by session and connection. Each has a connection of its own."""

    def __init__(self, factory: PeerFactory) -> None:
        self._factory = factory
        self._entries: dict[Key, _Entry] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def offer(
        self, session: ports.HubSession, connection_id: int, offer: session_pb2.Offer
    ) -> tuple[int, str]:
        """Makes a peer, or replaces the one of `connection_id`.

        Returns:
            The connection's number, and the SDP answer.

        Raises:
            BadArgumentError: No such peer, or a mapping that makes no sense.
            BadOfferError: The offer has no video, or no codec that we speak.
        """
        tracks = _tracks(offer)
        if connection_id:
            entry = self._entry(session.session_id, connection_id)
        else:
            entry = self._connect(session)
        key = (session.session_id, entry.connection.connection_id)
        async with entry.lock:
            entry.generation += 1
            lost = partial(self._lost, key, entry, entry.generation)
            try:
                await _drop_peer(entry)
                entry.peer, answer = await self._factory.answer(
                    entry.connection, offer.sdp, tracks, on_closed=lost
                )
            except BaseException:
                self._remove(key, entry)
                raise
        if self._entries.get(key) is not entry:
            await _drop_peer(entry)
        return entry.connection.connection_id, answer

    async def candidates(
        self,
        session_id: str,
        connection_id: int,
        candidates: Sequence[session_pb2.IceCandidate],
    ) -> None:
        """Adds ways to reach the client of a peer.

        Raises:
            BadArgumentError: No such peer.
        """
        entry = self._entry(session_id, connection_id)
        async with entry.lock:
            if entry.peer is not None:
                await entry.peer.add_candidates(candidates)

    async def hangup(self, session_id: str, connection_id: int) -> None:
        """Ends a peer; ending one that is gone is no error."""
        entry = self._entries.get((session_id, connection_id))
        if entry is not None:
            self._remove((session_id, connection_id), entry)
            await _drop_peer(entry)

    async def close(self) -> None:
        """Ends all peers."""
        for session_id, connection_id in tuple(self._entries):
            await self.hangup(session_id, connection_id)
        while self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)

    def _connect(self, session: ports.HubSession) -> _Entry:
        sink = MediaOnlySink()
        connection, _ = session.connect(sink)
        entry = _Entry(connection, asyncio.Lock())
        key = (session.session_id, connection.connection_id)
        self._entries[key] = entry
        sink.on_ended = lambda: self._lost(key, entry, entry.generation)
        sink.on_camera_keyframe = lambda: _ask_keyframe(entry)
        return entry

    def _entry(self, session_id: str, connection_id: int) -> _Entry:
        try:
            return self._entries[session_id, connection_id]
        except KeyError:
            raise BadArgumentError("no such peer connection") from None

    def _lost(self, key: Key, entry: _Entry, generation: int) -> None:
        """The transport failed, or the session ended."""
        if entry.generation != generation or self._entries.get(key) is not entry:
            return
        self._remove(key, entry)
        task = asyncio.create_task(_drop_peer(entry))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _remove(self, key: Key, entry: _Entry) -> None:
        if self._entries.get(key) is entry:
            del self._entries[key]
        entry.connection.close()


def _ask_keyframe(entry: _Entry) -> None:
    if entry.peer is not None:
        entry.peer.request_camera_keyframe()


async def _drop_peer(entry: _Entry) -> None:
    peer, entry.peer = entry.peer, None
    if peer is not None:
        with suppress(RequestError):
            await peer.close()


def _tracks(offer: session_pb2.Offer) -> dict[str, str]:
    if len(offer.sdp) > SDP_LIMIT:
        raise BadArgumentError(f"the offer is longer than {SDP_LIMIT} characters")
    tracks = {each.mid: each.name for each in offer.tracks}
    if len(tracks) != len(offer.tracks) or not all(tracks.values()):
        raise BadArgumentError("every track needs a mid of its own and a name")
    return tracks
