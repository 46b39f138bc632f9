"""Peers and data channels that the test plays, behind `gateway.ports`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway import ports
from gateway.ingress import ChannelHandler, IceServer
from sana_gateway.v1 import session_pb2
from scheduler.core.errors import BadOfferError


@dataclass(eq=False)
class FakePeer:
    """A peer; `fail()` plays a broken transport, `channels` takes data channels."""

    connection: ports.Connection
    sdp: str
    tracks: dict[str, str]
    channels: ChannelHandler | None
    on_closed: Callable[[], None]
    candidates: list[session_pb2.IceCandidate] = field(default_factory=list)
    paused: set[str] = field(default_factory=set)
    keyframe_requests: int = 0
    closed: bool = False

    def pause(self, track: str) -> None:
        self.paused.add(track)

    def resume(self, track: str) -> None:
        self.paused.discard(track)

    def request_camera_keyframe(self) -> None:
        self.keyframe_requests += 1

    async def add_candidates(self, candidates: Sequence[session_pb2.IceCandidate]) -> None:
        self.candidates.extend(candidates)

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.on_closed()

    def fail(self) -> None:
        """The transport breaks."""
        if not self.closed:
            self.closed = True
            self.on_closed()


class FakePeers:
    """Answers every offer but the word "bad"."""

    def __init__(self) -> None:
        self.peers: list[FakePeer] = []
        self.servers: list[IceServer] = []
        """What clients are given."""

    def ice_servers(self) -> Sequence[IceServer]:
        return self.servers

    async def answer(
        self,
        connection: ports.Connection,
        sdp: str,
        tracks: Mapping[str, str],
        *,
        channels: ChannelHandler | None = None,
        on_closed: Callable[[], None],
    ) -> tuple[FakePeer, str]:
        if sdp == "bad":
            raise BadOfferError("the offer has no video")
        peer = FakePeer(connection, sdp, dict(tracks), channels, on_closed)
        self.peers.append(peer)
        return peer, f"answer to {sdp}"


class FakeDataChannel:
    """A data channel; `receive` plays the client, `sent` is what the client got."""

    def __init__(self, label: str) -> None:
        self._label = label
        self.buffered_amount = 0
        self.sent: list[str | bytes] = []
        self._handler: Callable[[str | bytes], None] | None = None
        self._closed: Callable[[], None] | None = None
        self._early: list[str | bytes] = []

    @property
    def label(self) -> str:
        return self._label

    def send(self, data: str | bytes) -> None:
        self.sent.append(data)

    def set_handler(self, handler: Callable[[str | bytes], None]) -> None:
        self._handler = handler
        early, self._early = self._early, []
        for data in early:
            handler(data)

    def set_closed(self, callback: Callable[[], None]) -> None:
        self._closed = callback

    def receive(self, data: str | bytes) -> None:
        if self._handler is None:
            self._early.append(data)
        else:
            self._handler(data)

    def close(self) -> None:
        callback, self._closed = self._closed, None
        if callback is not None:
            callback()
