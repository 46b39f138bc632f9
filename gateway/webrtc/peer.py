"""WebRTC peers: the media of one connection, and its data channels, over one transport.

A peer passes encoded frames both ways. `main_video` goes out in H.264 where the client
offers it, else in VP8; `camera` comes in in whichever of the two the client sends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog
from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpCodecCapability,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCSessionDescription,
)

from gateway import ports
from gateway.ingress import ChannelHandler
from gateway.webrtc import aiortc_adapter
from gateway.webrtc.assembly import AssembledFrame
from gateway.webrtc.channels import MAX_CHANNELS, AiortcChannel
from gateway.webrtc.rates import DownlinkEstimate
from gateway.webrtc.sdp import (
    Offer,
    Section,
    parse_candidate,
    parse_offer,
    with_frame_metadata,
)
from sana_gateway.v1 import media_pb2, session_pb2
from scheduler.core.errors import BadOfferError, LimitError, RequestError

MAIN_VIDEO: Final = "main_video"
CAMERA: Final = "camera"

CLOSE_TIMEOUT_S: Final = 5.0
"""How long the far end may delay the end of a peer."""
MAX_JOIN_WAIT_S: Final = 3.0
"""Longest wait for one's turn to join; a client gives up on its answer after six seconds."""

_PREFERENCE: Final = (media_pb2.CODEC_H264, media_pb2.CODEC_VP8)
_MIME_TYPES: Final = {media_pb2.CODEC_H264: "video/H264", media_pb2.CODEC_VP8: "video/VP8"}

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server that the gateway's own side uses."""

    urls: tuple[str, ...]
    """For example `stun:stun.example.org:3478`."""
    username: str | None = None
    credential: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """Limits of the peers of one process."""

    ice_servers: tuple[IceServer, ...] = ()
    """None: only addresses of this host are offered."""
    max_peers: int = 40
    """Peers at once. One core carries some forty that both send and receive."""
    joins_per_second: float = 20.0
    """Setting up a peer takes 10 to 50 ms of the loop, felt by all others."""
    connect_timeout_s: float = 30.0
    """A peer that is not connected by then is closed."""


@dataclass(slots=True)
class PeerStatistics:
    """What all peers of this process have counted. Only grows, but for `peers`."""

    peers: int = 0
    """Peers at this moment."""
    connected: int = 0
    """Peers that were connected."""
    viewer_overflows: int = 0
    """Times a viewer fell behind and went on at a keyframe."""
    viewer_frames_dropped: int = 0
    """Frames not sent to a viewer that fell behind or waited for a keyframe."""
    camera_frames: int = 0
    """Camera frames handed to the hub."""
    camera_frames_lost: int = 0
    """Camera frames and gaps given up for packet loss."""
    camera_keyframe_requests: int = 0
    """Keyframes asked of publishers."""


class AiortcPeers:
    """Makes the WebRTC peers of a gateway; implements `gateway.ingress.PeerFactory`."""

    def __init__(self, settings: PeerSettings | None = None) -> None:
        """Checks aiortc.

        Raises:
            ConfigurationError: Another release of aiortc is installed.
        """
        aiortc_adapter.require_supported()
        self._settings = settings or PeerSettings()
        self._peers: set[AiortcPeer] = set()
        self._next_join = 0.0
        self.statistics = PeerStatistics()

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
            LimitError: Too many peers, or too many that join at this moment.
        """
        offer = parse_offer(sdp)
        if len(self._peers) >= self._settings.max_peers:
            raise LimitError("this gateway has no room for more peers", retry_after_s=5.0)
        peer = AiortcPeer(
            connection, self._settings, self.statistics, channels, partial(self._ended, on_closed)
        )
        self._peers.add(peer)
        self.statistics.peers += 1
        try:
            await self._wait_turn()
            return peer, await peer.negotiate(offer, tracks)
        except BaseException:
            peer.on_closed = self._ended_unanswered
            await peer.close()
            raise

    async def close(self) -> None:
        """Ends all peers."""
        await asyncio.gather(*(peer.close() for peer in tuple(self._peers)))

    def _ended(self, on_closed: Callable[[], None], peer: AiortcPeer) -> None:
        self._ended_unanswered(peer)
        on_closed()

    def _ended_unanswered(self, peer: AiortcPeer) -> None:
        self._peers.discard(peer)
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
        self._connection = connection
        self._settings = settings
        self._statistics = statistics
        self._channel_handler = channels
        self._channels: list[AiortcChannel] = []
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=_ice_servers(settings)))
        self._viewer: _Viewer | None = None
        self._camera: _Camera | None = None
        self._half_open: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    async def negotiate(self, offer: Offer, tracks: Mapping[str, str]) -> str:
        """Applies an offer and returns the answer.

        Raises:
            BadOfferError: No section of the offer is a track with a codec that we speak.
        """
        for section in offer.sections:
            if section.kind != "application":
                self._add_section(section, tracks.get(section.mid, ""), offer)
        if self._viewer is None and self._camera is None:
            raise BadOfferError("no section of the offer is one of the session's tracks")
        self._peer.on("connectionstatechange", self._state_changed)
        self._peer.on("datachannel", self._channel_opened)
        try:
            await self._peer.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
        except Exception as error:
            # Whatever aiortc trips over in a text from outside is the text's fault.
            raise BadOfferError("the offer cannot be answered") from error
        aiortc_adapter.protect(self._peer)
        loop = asyncio.get_running_loop()
        self._half_open = loop.call_later(self._settings.connect_timeout_s, self._end)
        await self._peer.setLocalDescription(await self._peer.createAnswer())
        aiortc_adapter.enlarge_receive_buffers(self._peer)
        await aiortc_adapter.add_candidates(self._peer, offer.candidates)
        answer = str(self._peer.localDescription.sdp)
        return with_frame_metadata(answer) if offer.frame_metadata else answer

    async def add_candidates(self, candidates: Sequence[session_pb2.IceCandidate]) -> None:
        """Adds ways to reach the client; those that cannot be used are passed over."""
        parsed = (parse_candidate(candidate.candidate) for candidate in candidates)
        usable = [candidate for candidate in parsed if candidate is not None]
        if self._closing is None:
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

    def _add_section(self, section: Section, track: str, offer: Offer) -> None:
        """Prepares the transceiver that the section of the offer will take."""
        if section.kind == "video" and track == MAIN_VIDEO and self._viewer is None:
            self._viewer = _Viewer(self._connection, section)
            transceiver = self._peer.addTransceiver("video", direction="sendonly")
            transceiver.setCodecPreferences(_preferences([self._viewer.codec]))
            self._viewer.attach(transceiver.sender, frame_metadata=offer.frame_metadata)
        elif section.kind == "video" and track == CAMERA and self._camera is None:
            if not section.codecs:
                raise BadOfferError("the offer sends the camera in no codec that we speak")
            transceiver = self._peer.addTransceiver("video", direction="recvonly")
            transceiver.setCodecPreferences(_preferences(section.codecs))
            self._camera = _Camera(self._connection, transceiver.receiver, self._statistics)
        else:
            self._peer.addTransceiver(section.kind, direction="inactive")

    def _state_changed(self) -> None:
        state = self._peer.connectionState
        if state == "connected" and self._half_open is not None:
            self._half_open.cancel()
            self._half_open = None
            self._statistics.connected += 1
        elif state in ("failed", "closed"):
            self._end()

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        if self._channel_handler is None or len(self._channels) >= MAX_CHANNELS:
            channel.close()
            return
        opened = AiortcChannel(channel)
        self._channels.append(opened)
        self._channel_handler.opened(opened)

    def _end(self) -> None:
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())

    async def _close(self) -> None:
        if self._half_open is not None:
            self._half_open.cancel()
        if self._viewer is not None:
            self._viewer.close(self._statistics)
        if self._camera is not None:
            self._camera.close(self._statistics)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._peer.close()
                if self._camera is not None:
                    await self._camera.receiver.close()
        except TimeoutError:
            _log.warning("peer did not close in time")
        for channel in self._channels:
            channel.lost()
        self.on_closed(self)


class _Viewer:
    """The client as a viewer of main_video. Paused until the transport is connected."""

    def __init__(self, connection: ports.Connection, section: Section) -> None:
        codecs = [codec for codec in _PREFERENCE if codec in section.codecs]
        if not codecs:
            raise BadOfferError("the offer receives video in no codec that we speak")
        self._source = aiortc_adapter.FrameSource(self)
        self._subscription: ports.Subscription = connection.subscribe(codecs, self._source)
        self._subscription.pause()
        self._network = DownlinkEstimate()
        self._now = asyncio.get_running_loop().time
        self._connected = False
        self._paused = False

    @property
    def codec(self) -> media_pb2.Codec.ValueType:
        """Codec of the frames."""
        return self._subscription.codec

    def attach(self, sender: RTCRtpSender, *, frame_metadata: bool) -> None:
        """Sends the frames through a sender."""
        aiortc_adapter.send_encoded(
            sender, self._source, self.codec, self, frame_metadata=frame_metadata
        )

    def pause(self) -> None:
        """Stops the frames."""
        self._paused = True
        self._subscription.pause()
        self._source.queue.restart()

    def resume(self) -> None:
        """Starts them again."""
        if self._paused:
            self._paused = False
            if self._connected:
                self._subscription.resume()

    def close(self, statistics: PeerStatistics) -> None:
        """Ends the subscription."""
        self._subscription.close()
        statistics.viewer_overflows += self._source.queue.overflows
        statistics.viewer_frames_dropped += self._source.queue.dropped

    def started(self) -> None:
        """The transport is connected."""
        self._connected = True
        if not self._paused:
            self._subscription.resume()

    def keyframe_needed(self) -> None:
        """The client lost its picture."""
        self._subscription.request_keyframe()

    def sent(self, octets: int) -> None:
        """A frame goes out."""
        self._network.sent(octets, self._now())

    def estimated(self, bits_per_second: int) -> None:
        """The client estimates its network."""
        estimate = self._network.reported(bits_per_second, self._now())
        if estimate is not None:
            self._subscription.estimate(estimate)


class _Camera:
    """The client as the publisher of camera. The first frame claims it."""

    def __init__(
        self, connection: ports.Connection, receiver: RTCRtpReceiver, statistics: PeerStatistics
    ) -> None:
        self._connection = connection
        self._statistics = statistics
        self._published = False
        self.receiver = aiortc_adapter.FrameReceiver(receiver, self._frame)

    def close(self, statistics: PeerStatistics) -> None:
        """Publishes no more."""
        if self._published:
            self._connection.release_camera()
        statistics.camera_frames_lost += self.receiver.assembler.discarded
        statistics.camera_keyframe_requests += self.receiver.keyframe_requests

    def _frame(self, frame: AssembledFrame) -> None:
        self._published = True
        self._statistics.camera_frames += 1
        # A session that has ended tells its wire, which closes this peer.
        with suppress(RequestError):
            self._connection.camera(
                ports.CameraFrame(
                    data=frame.data,
                    keyframe=frame.keyframe,
                    codec=frame.codec,
                    timestamp_us=frame.timestamp_us,
                    discontinuity=frame.discontinuity,
                )
            )


def _ice_servers(settings: PeerSettings) -> list[RTCIceServer]:
    """Returns a list in any case: without one aiortc takes a public STUN server."""
    return [
        RTCIceServer(list(server.urls), server.username, server.credential)
        for server in settings.ice_servers
    ]


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
