"""What every wire of the gateway is made with, and what it asks of the others.

A wire (plugin group `sana_gateway.ingress`) is constructed with one `IngressServices`
and offers `async start()`, `async stop(grace)`. It drives the hub through
`gateway.ports` and makes WebRTC peers through the factory given here, so that no
wire knows the media transport.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway import ports
from gateway.audit import AuditLog
from gateway.doors import Doors
from gateway.limits.calls import CallRates
from gateway.origins import EVERYWHERE, Origins
from gateway.readiness import Readiness
from gateway.recording.library import Library
from sana_gateway.v1 import event_pb2, pool_pb2, session_pb2, usage_pb2
from scheduler.core.ids import Principal

DescribePool = Callable[[pool_pb2.DescribePoolRequest], Awaitable[pool_pb2.DescribePoolResponse]]
ReadUsage = Callable[[usage_pb2.ReadUsageRequest], Awaitable[usage_pb2.ReadUsageResponse]]
ReadJournal = Callable[[Principal, str], AsyncIterator[bytes]]


class Authenticator(Protocol):
    """Turns a bearer token into who calls. Plugin group `sana_gateway.auth`."""

    def authenticate(self, token: str | None) -> Principal:
        """Returns the caller; `None` stands for a call without a token. Never blocks.

        Raises:
            UnauthenticatedError: The token is missing, wrong or expired.
        """


class DataChannel(Protocol):
    """An open data channel of a peer."""

    @property
    def label(self) -> str:
        """The label the client gave it."""

    @property
    def buffered_amount(self) -> int:
        """Bytes handed to `send` that have not left yet."""

    def send(self, data: str | bytes) -> None:
        """Sends one message. Dropped when the channel has closed."""

    def set_handler(self, handler: Callable[[str | bytes], None]) -> None:
        """Says who gets the messages that arrive; those before it are kept for it."""

    def set_closed(self, callback: Callable[[], None]) -> None:
        """Says whom to tell once, when the channel has closed."""


class ChannelHandler(Protocol):
    """Who takes the data channels of a peer."""

    def opened(self, channel: DataChannel) -> None:
        """A channel is open. Called on the event loop; must return at once."""


class Peer(Protocol):
    """One WebRTC peer connection."""

    async def add_candidates(self, candidates: Sequence[session_pb2.IceCandidate]) -> None:
        """Adds ways to reach the client."""

    def pause(self, track: str) -> None:
        """Stops sending a track; an unknown one is no error."""

    def resume(self, track: str) -> None:
        """Sends a track again, from a keyframe on."""

    def request_camera_keyframe(self) -> None:
        """Asks the client for a keyframe of its camera, if it publishes here."""

    async def close(self) -> None:
        """Ends it, and what it did to its connection. Repeating it is no error."""


class IceServer(Protocol):
    """A STUN or TURN server that clients may use."""

    @property
    def urls(self) -> Sequence[str]:
        """For example `stun:stun.example.org:3478`."""

    @property
    def username(self) -> str | None:
        """Name on a TURN server."""

    @property
    def credential(self) -> str | None:
        """Password there."""


class PeerFactory(Protocol):
    """Makes WebRTC peers."""

    def ice_servers(self) -> Sequence[IceServer]:
        """Returns the servers that clients should use: of the configured ones, those that
        answered lately.
        """

    async def answer(
        self,
        connection: ports.Connection,
        sdp: str,
        tracks: Mapping[str, str],
        *,
        channels: ChannelHandler | None = None,
        on_closed: Callable[[], None],
    ) -> tuple[Peer, str]:
        """Answers an offer with a peer that carries the media of `connection`.

        Args:
            connection: Whose media; it is the caller's to close.
            sdp: The offer.
            tracks: Name of the track (`camera`, `main_video`) by the mid of its section.
            channels: Who takes its data channels; without one they are refused.
            on_closed: Called once when the transport has failed or was closed.

        Returns:
            The peer, and the SDP answer with all of the server's candidates.

        Raises:
            BadOfferError: The offer has no video, or no codec that we speak.
            LimitError: Too many peers.
        """


class Operations(Protocol):
    """What operators ask of single sessions, and the event journal."""

    async def session(self, session_id: str) -> pool_pb2.DescribeSessionResponse:
        """Returns a session of any tenant as the scheduler sees it.

        Raises:
            UnknownSessionError: There is none.
            SchedulerAwayError: No answer.
        """

    async def end(self, session_id: str, reason: str) -> None:
        """Ends a session of any tenant.

        Raises:
            UnknownSessionError: There is none.
            SchedulerAwayError: No answer.
        """

    def watch(
        self, principal: Principal, asked: event_pb2.WatchEventsRequest, wire: str
    ) -> AsyncIterator[event_pb2.WatchEventsResponse]:
        """Follows the event journal, as far as the caller may know it, until this gateway stops.

        Args:
            principal: The caller.
            asked: From where on, and what of it.
            wire: `grpc` or `http`.

        Raises:
            ForbiddenError: What is asked for is for operators.
            LimitError: Too many follow it here.
        """


@dataclass(frozen=True, slots=True)
class IngressSettings:
    """What the wires need to know of the settings."""

    grpc_address: str = "127.0.0.1:50051"
    """Where gRPC listens, `host:port` or `unix:/path`; port 0 takes a free one."""
    http_address: str = "127.0.0.1:8080"
    """Where HTTP listens, `host:port` or `unix:/path`; port 0 takes a free one."""
    public_url: str | None = None
    """URL under which clients reach HTTP, where it is not the one they asked."""
    path_prefix: str = ""
    """What stands before the paths of URLs that only this process can answer; a front door
    takes it away again."""
    max_upload_bytes: int = 512 * 1024**2
    """Size of one upload."""
    upload_session_bytes: int = 2 * 1024**3
    """Size of all uploads of one session."""
    max_connections: int = 16
    """Connections of one session at once."""
    max_streams: int = 4096
    """gRPC calls in progress at once; further ones are refused."""
    origins: Origins = EVERYWHERE
    """Web pages that may call."""


@dataclass(frozen=True, slots=True)
class IngressServices:
    """What a wire is made with."""

    hub: ports.Hub
    """The sessions."""
    uploads: ports.Uploads
    """The clips."""
    auth: Authenticator
    """Who calls."""
    peers: PeerFactory
    """WebRTC."""
    pool: DescribePool
    """Asks the scheduler for the operator's view."""
    drain: Callable[[pool_pb2.DrainActorRequest], AsyncIterator[pool_pb2.DrainActorResponse]]
    """Has the scheduler empty an actor; yields how far it has come."""
    operations: Operations
    """Asks it about single sessions, and follows its journal."""
    settings: IngressSettings = field(default_factory=IngressSettings)
    """Addresses and limits."""
    readiness: Readiness | None = None
    """How this process is; None: ready while a model is served."""
    doors: Doors = field(default_factory=Doors)
    """Has servers listen for clients."""
    rates: CallRates | None = None
    """How often who may call; None: a front door counts, or nobody."""
    audit: AuditLog = field(default_factory=AuditLog)
    """Remembers what operators did."""
    usage: ReadUsage | None = None
    """Asks the scheduler what was used; None: nobody knows."""
    journals: ReadJournal | None = None
    """Reads the journal of a session that a caller may read; None: none is kept."""
    recordings: Library | None = None
    """What was recorded; None: nothing is."""
