"""WebRTC peers: the media of one connection, and its data channels, over one transport.

A peer passes encoded frames both ways. `main_video` goes out in H.264 where the client
offers it, else in VP8; `camera` comes in in whichever of the two the client sends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import structlog
from aiortc import (
    RTCDataChannel,
    RTCRtpCodecCapability,
    RTCRtpSender,
    RTCRtpTransceiver,
    RTCSessionDescription,
)

from gateway import ports
from gateway.ingress import ChannelHandler
from gateway.webrtc import aiortc_adapter
from gateway.webrtc.camera import PeerCamera
from gateway.webrtc.channels import MAX_CHANNELS, AiortcChannel, StatsChannel
from gateway.webrtc.ice import IceServer as IceServer
from gateway.webrtc.ice import IceServerProber
from gateway.webrtc.sdp import (
    Offer,
    Section,
    parse_candidate,
    parse_offer,
    with_frame_metadata,
    with_profiles,
)
from gateway.webrtc.statistics import PeerStatistics
from gateway.webrtc.turn import TurnLogins
from gateway.webrtc.udp import UdpPorts
from gateway.webrtc.viewer import STATS_CHANNEL, PeerViewer
from sana_gateway.v1 import media_pb2, session_pb2
from scheduler.core.errors import BadOfferError, LimitError

MAIN_VIDEO: Final = "main_video"
CAMERA: Final = "camera"

CLOSE_TIMEOUT_S: Final = 5.0
"""How long the far end may delay the end of a peer."""
MAX_JOIN_WAIT_S: Final = 3.0
"""Longest wait for one's turn to join; a client gives up on its answer after six seconds."""
HALF_OPEN_GRACE_S: Final = 3.0
"""Time in which a peer may connect before it has to make room for others."""
FULL_RETRY_S: Final = 5.0
"""When to come back after all places were taken."""

_MIME_TYPES: Final = {media_pb2.CODEC_H264: "video/H264", media_pb2.CODEC_VP8: "video/VP8"}

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """Limits of the peers of one process."""

    ice_servers: tuple[IceServer, ...] = ()
    """None: only addresses of this host are offered."""
    turn_logins: TurnLogins | None = None
    """Makes a login on TURN servers for each connection; None: those of the servers are for all."""
    udp_ports: tuple[int, int] | None = None
    """First and last UDP port of the peers; each takes one for every address of this
    host. None: whichever the system gives."""
    udp_address: str | None = None
    """Where clients reach these ports besides, if they cannot reach this host itself."""
    max_peers: int = 40
    """Peers at once. One core carries some forty that both send and receive."""
    max_half_open: int = 32
    """Peers at once that are answered and not connected yet."""
    joins_per_second: float = 20.0
    """Setting up a peer takes some milliseconds of the loop, felt by all others."""
    connect_timeout_s: float = 30.0
    """A peer that is not connected by then is closed."""


class AiortcPeers:
    """Makes the WebRTC peers of a gateway; implements `gateway.ingress.PeerFactory`.

    With ICE servers it is made, and closed, on the running event loop.
    """

    def __init__(self, settings: PeerSettings | None = None) -> None:
        """Checks aiortc and begins to ask which ICE servers answer.

        Raises:
            ConfigurationError: Another release of aiortc is installed, an ICE server's URL
                or the range of ports is malformed.
        """
        aiortc_adapter.require_supported()
        self._settings = settings or PeerSettings()
        self._peers: dict[AiortcPeer, None] = {}
        self._next_join = 0.0
        self._ports = UdpPorts(self._settings.udp_ports, self._settings.udp_address)
        self._certificates = aiortc_adapter.Certificates(time.monotonic)
        # The first one takes several milliseconds, which no join has to wait for.
        self._certificates.current()
        self._servers = IceServerProber(
            self._settings.ice_servers, logins=self._settings.turn_logins
        )
        self._servers.start()
        self.statistics = PeerStatistics()

    def bound(self, max_peers: int) -> None:
        """Changes how many peers there may be; those that are there stay."""
        self._settings = replace(self._settings, max_peers=max_peers)

    def use(self, ice_servers: Sequence[IceServer]) -> None:
        """Goes on with other ICE servers; peers that are there stay as they are.

        Raises:
            ConfigurationError: A URL is malformed; nothing has changed.
        """
        self._servers.change(ice_servers)

    def ice_servers(self) -> Sequence[IceServer]:
        """Returns those of the configured ICE servers that answered lately, for clients."""
        return self._servers.reachable()

    async def answer(
        self,
        connection: ports.Connection,
        sdp: str,
        tracks: Mapping[str, str],
        *,
        channels: ChannelHandler | None = None,
        on_closed: Callable[[], None],
    ) -> tuple[AiortcPeer, str]:
        """Answers an offer with a peer that carries the media of `connection`.

        Args:
            connection: Whose media; it is the caller's to close.
            sdp: The offer.
            tracks: Name of the track (`camera`, `main_video`) by the mid of its section.
            channels: Who takes its data channels; without one they are refused.
            on_closed: Called once when the peer has ended, whoever ended it.

        Returns:
            The peer, and the SDP answer with all of the server's candidates.

        Raises:
            BadOfferError: The offer has no video, or no codec that we speak.
            LimitError: Too many peers, or too many that join at this moment, or no UDP
                port is free.
        """
        offer = parse_offer(sdp)
        try:
            await self._make_room()
            return await self._answer(connection, offer, tracks, channels, on_closed)
        except LimitError:
            self.statistics.joins_refused += 1
            raise

    async def close(self) -> None:
        """Ends all peers, and asks no ICE server any more."""
        await self._servers.close()
        await asyncio.gather(*(peer.close() for peer in tuple(self._peers)))

    async def _answer(
        self,
        connection: ports.Connection,
        offer: Offer,
        tracks: Mapping[str, str],
        channels: ChannelHandler | None,
        on_closed: Callable[[], None],
    ) -> tuple[AiortcPeer, str]:
        peer = AiortcPeer(
            connection, self._settings, self.statistics, channels, partial(self._ended, on_closed)
        )
        self._peers[peer] = None
        self.statistics.peers += 1
        self.statistics.half_open += 1
        try:
            await self._wait_turn()
            made = aiortc_adapter.PeerConnection(
                certificate=self._certificates.current(),
                ports=self._ports,
                statistics=self.statistics,
                ice_servers=self._servers.resolved(),
            )
            return peer, await peer.negotiate(made, offer, tracks)
        except BaseException:
            peer.on_closed = self._ended_unanswered
            await peer.close()
            raise

    async def _make_room(self) -> None:
        """Ends the peer that has failed to connect for longest, while there is no room.

        Raises:
            LimitError: There is none to end.
        """
        limits = self._settings
        while (
            len(self._peers) >= limits.max_peers
            or self.statistics.half_open >= limits.max_half_open
        ):
            idle = next((peer for peer in self._peers if peer.waits_since is not None), None)
            if idle is None or idle.waits_since is None:
                raise LimitError(
                    "this gateway has no room for more peers", retry_after_s=FULL_RETRY_S
                )
            left = idle.waits_since + HALF_OPEN_GRACE_S - time.monotonic()
            if left > 0:
                raise LimitError("too many peers join at once", retry_after_s=left)
            self.statistics.half_open_evicted += 1
            await idle.close()

    def _ended(self, on_closed: Callable[[], None], peer: AiortcPeer) -> None:
        self._ended_unanswered(peer)
        on_closed()

    def _ended_unanswered(self, peer: AiortcPeer) -> None:
        del self._peers[peer]
        self.statistics.peers -= 1

    async def _wait_turn(self) -> None:
        """Spaces joins evenly.

        Raises:
            LimitError: Too many wait already.
        """
        now = time.monotonic()
        turn = max(now, self._next_join)
        if turn - now > MAX_JOIN_WAIT_S:
            raise LimitError("too many peers join at once", retry_after_s=turn - now)
        self._next_join = turn + 1 / self._settings.joins_per_second
        await asyncio.sleep(turn - now)


class AiortcPeer:
    """One WebRTC peer connection; implements `gateway.ingress.Peer`."""

    def __init__(
        self,
        connection: ports.Connection,
        settings: PeerSettings,
        statistics: PeerStatistics,
        channels: ChannelHandler | None,
        on_closed: Callable[[AiortcPeer], None],
    ) -> None:
        self.on_closed = on_closed
        """Called once, with the peer, when it has ended."""
        self.waits_since: float | None = None
        """Since when its client has its answer and is not connected; None: it is, or has none."""
        self._connection = connection
        self._settings = settings
        self._statistics = statistics
        self._channel_handler = channels
        self._channels: list[AiortcChannel] = []
        self._peer: aiortc_adapter.PeerConnection | None = None
        self._viewer: PeerViewer | None = None
        self._viewer_transceiver: RTCRtpTransceiver | None = None
        self._camera: PeerCamera | None = None
        self._half_open = True
        self._expiry: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    async def negotiate(
        self, peer: aiortc_adapter.PeerConnection, offer: Offer, tracks: Mapping[str, str]
    ) -> str:
        """Applies an offer to a new peer connection and returns the answer.

        Raises:
            BadOfferError: No section of the offer is a track with a codec that we speak.
            LimitError: No UDP port is free.
        """
        self._peer = peer
        for section in offer.sections:
            if section.kind != "application":
                self._add_section(peer, section, tracks.get(section.mid, ""), offer)
        if self._viewer is None and self._camera is None:
            raise BadOfferError("no section of the offer is one of the session's tracks")
        peer.on("connectionstatechange", self._state_changed)
        peer.on("datachannel", self._channel_opened)
        try:
            await peer.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
        except Exception as error:
            # Whatever aiortc trips over in a text from outside is the text's fault.
            raise BadOfferError("the offer cannot be answered") from error
        if self._viewer_transceiver is not None:
            peer.accept_transport_feedback(self._viewer_transceiver)
        loop = asyncio.get_running_loop()
        self._expiry = loop.call_later(self._settings.connect_timeout_s, self._expire)
        await peer.setLocalDescription(await peer.createAnswer())
        await aiortc_adapter.add_candidates(peer, offer.candidates)
        self.waits_since = time.monotonic() if self._half_open else None
        answer = with_profiles(str(peer.localDescription.sdp), offer.profiles)
        return with_frame_metadata(answer) if offer.frame_metadata else answer

    async def add_candidates(self, candidates: Sequence[session_pb2.IceCandidate]) -> None:
        """Adds ways to reach the client; those that cannot be used are passed over."""
        parsed = (parse_candidate(candidate.candidate) for candidate in candidates)
        usable = [candidate for candidate in parsed if candidate is not None]
        if self._closing is None and self._peer is not None:
            await aiortc_adapter.add_candidates(self._peer, usable)

    def pause(self, track: str) -> None:
        """Stops sending a track; an unknown one is no error."""
        if track == MAIN_VIDEO and self._viewer is not None:
            self._viewer.pause()

    def resume(self, track: str) -> None:
        """Sends a track again, from a keyframe on."""
        if track == MAIN_VIDEO and self._viewer is not None:
            self._viewer.resume()

    def request_camera_keyframe(self) -> None:
        """Asks the client for a keyframe of its camera, if it publishes here."""
        if self._camera is not None:
            self._camera.receiver.request_keyframe()

    async def close(self) -> None:
        """Ends the peer, and what it did to its connection. Repeating it is no error."""
        self._end()
        if self._closing is not None:
            await asyncio.shield(self._closing)

    def _add_section(
        self, peer: aiortc_adapter.PeerConnection, section: Section, track: str, offer: Offer
    ) -> None:
        """Prepares the transceiver that the section of the offer will take."""
        if section.kind == "video" and track == MAIN_VIDEO and self._viewer is None:
            self._viewer = PeerViewer(self._connection, section)
            transceiver = peer.addTransceiver("video", direction="sendonly")
            transceiver.setCodecPreferences(_preferences([self._viewer.codec]))
            self._viewer.attach(transceiver.sender, frame_metadata=offer.frame_metadata)
            self._viewer_transceiver = transceiver
        elif section.kind == "video" and track == CAMERA and self._camera is None:
            if not section.codecs:
                raise BadOfferError("the offer sends the camera in no codec that we speak")
            transceiver = peer.addTransceiver("video", direction="recvonly")
            transceiver.setCodecPreferences(_preferences(section.codecs))
            receiver = peer.receiver_of(transceiver)
            self._camera = PeerCamera(self._connection, receiver, self._statistics)
        else:
            peer.addTransceiver(section.kind, direction="inactive")

    def _state_changed(self) -> None:
        state = self._peer.connectionState if self._peer is not None else "closed"
        if state == "connected" and self._half_open:
            self._no_longer_half_open()
            self._statistics.connected += 1
        elif state in ("failed", "closed"):
            self._end()

    def _no_longer_half_open(self) -> None:
        if self._half_open:
            self._half_open, self.waits_since = False, None
            self._statistics.half_open -= 1
        if self._expiry is not None:
            self._expiry.cancel()

    def _expire(self) -> None:
        self._statistics.half_open_expired += 1
        self._end()

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        ours = channel.label == STATS_CHANNEL and self._viewer is not None
        if len(self._channels) >= MAX_CHANNELS or (self._channel_handler is None and not ours):
            channel.close()
            return
        opened = AiortcChannel(channel)
        self._channels.append(opened)
        if ours and self._viewer is not None:
            self._viewer.on_stats = StatsChannel(opened, self._statistics).send
        elif self._channel_handler is not None:
            self._channel_handler.opened(opened)

    def _end(self) -> None:
        if self._closing is None:
            self._no_longer_half_open()
            self._closing = asyncio.ensure_future(self._close())

    async def _close(self) -> None:
        if self._viewer is not None:
            self._viewer.close(self._statistics)
        if self._camera is not None:
            self._camera.close()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                if self._peer is not None:
                    await self._peer.close()
        except Exception as error:
            _log.warning("peer did not close", error=type(error).__name__)
            if self._peer is not None:
                aiortc_adapter.release_sockets(self._peer)
        for channel in self._channels:
            channel.lost()
        self.on_closed(self)


def _preferences(
    codecs: Sequence[media_pb2.Codec.ValueType],
) -> list[RTCRtpCodecCapability]:
    """Returns aiortc's capabilities for our codecs, with retransmission, in this order.

    Of the two H.264 profiles that aiortc knows the constrained one comes first.
    """
    known = RTCRtpSender.getCapabilities("video").codecs
    chosen: list[RTCRtpCodecCapability] = []
    for codec in codecs:
        matching = [each for each in known if each.mimeType == _MIME_TYPES[codec]]
        chosen += sorted(
            matching, key=lambda each: each.parameters.get("profile-level-id") != "42e01f"
        )
    return chosen + [each for each in known if each.mimeType == "video/rtx"]
