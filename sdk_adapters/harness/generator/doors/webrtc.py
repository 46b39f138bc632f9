"""Media over WebRTC: ICE, DTLS and data channels by aiortc, packets by ourselves.

aiortc's receiver decodes, or at least takes every packet through queues and tasks. Here
its receivers and senders never start. The header of every packet is read where it lies;
only the last packet of a frame is decrypted, for the trailer with the frame's number.
Sessions that are decoded have all packets decrypted. Receiver reports and requests for
lost packets go out as from any viewer, so that the service keeps its rate.
"""

# ruff: noqa: SLF001 - private parts of aiortc are used here and in `sockets`

from __future__ import annotations

import asyncio
import json
import secrets
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import aiortc
import pylibsrtp
from aiortc import (
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCSessionDescription,
)
from aiortc.codecs import depayload
from aiortc.rtcconfiguration import RTCIceTransportPolicy

from sana_gateway import GatewayError
from sdk_adapters.harness.generator.doors import Seat, rtcp, trailer
from sdk_adapters.harness.generator.doors.published import Published
from sdk_adapters.harness.generator.doors.reception import Frame, Packet, Part, Reception
from sdk_adapters.harness.generator.doors.sockets import Sockets
from sdk_adapters.harness.networks.turn import TurnServer

SUPPORTED: Final = "1.16."
"""Releases of aiortc whose private parts are known here."""
CONNECT_S: Final = 30.0
"""How long ICE and DTLS may take."""
REPORT_S: Final = 1.0
"""Time between two receiver reports."""
LOOK_S: Final = 0.04
"""Time between two looks at packets that are missing."""
SILENCE_S: Final = 4.0
"""A playing session that heard nothing for so long has lost its connection."""
CLOSE_S: Final = 3.0
STATS_CHANNEL: Final = "sana.stats"
"""Data channel on which the service tells of every chunk."""

_MIME: Final = {"h264": "video/H264", "vp8": "video/VP8"}
_RTP: Final = struct.Struct("!BBHII")
_RTCP_KINDS: Final = range(192, 224)
_BASE: Final = "42e01f"
_START_CODE: Final = b"\x00\x00\x01"


class WebRtcDoor:
    """Implements `Door`."""

    async def prepare(self) -> None:
        """Does nothing: they share nothing of their own."""

    async def connect(self, seat: Seat) -> WebRtcLine:
        """Connects; see `Door.connect`."""
        server = None if seat.way is None else await seat.way.turn()
        line = WebRtcLine(seat, server)
        try:
            async with asyncio.timeout(CONNECT_S):
                await line.begin()
        except BaseException:
            await line.close()
            raise
        return line

    async def close(self) -> None:
        """Does nothing: they share nothing."""


def supported() -> bool:
    """Whether the installed aiortc is one that is known here."""
    return str(aiortc.__version__).startswith(SUPPORTED)


class WebRtcLine:
    """A peer connection; implements `Line`."""

    def __init__(self, seat: Seat, turn: TurnServer | None = None) -> None:
        """Prepares an offer.

        Args:
            seat: Whose line it is.
            turn: The only way that it may take; None: any.
        """
        self._seat = seat
        self._peer = RTCPeerConnection(_configuration(turn))
        self._lost = asyncio.Event()
        self._connected = asyncio.Event()
        self._number = 0
        self._times: dict[str, float] = {}
        self._loop = asyncio.get_running_loop()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._own_ssrc = secrets.randbits(32)
        self._reception = Reception(keep=seat.pictures is not None)
        self._ssrc: int | None = None
        self._codec: Any = None
        self._main_type = self._again_type = -1
        self._last_report: tuple[int, float] | None = None
        self._asked_at = 0.0
        self._heard_at = seat.clock()
        self._ticks = 0
        self._last_timestamp = 0
        self._numbered = True
        self._frames = 0
        self._dtls: Any = None
        self._sockets: Sockets | None = None
        self._published: Published | None = None

    async def begin(self) -> None:
        """Offers, and waits until the transport is connected.

        Raises:
            GatewayError: The gateway refused.
        """
        seat, peer = self._seat, self._peer
        tracks = {}
        if seat.camera is not None:
            sending: Any = peer.addTransceiver("video", direction="sendonly")
            sending.setCodecPreferences(_preferences(seat.codec))
            sending.sender.send = _nothing
        receiving: Any = peer.addTransceiver("video", direction="recvonly")
        receiving.setCodecPreferences(_preferences(seat.codec))
        receiving.receiver.receive = _nothing
        channel = peer.createDataChannel(STATS_CHANNEL)
        channel.on("message", self._stats)
        peer.on("iceconnectionstatechange", self._ice_changed)
        peer.on("connectionstatechange", self._changed)
        self._dtls = receiving.receiver.transport
        self._sockets = Sockets(self._dtls.transport._connection, self._take)
        await peer.setLocalDescription(await peer.createOffer())
        if seat.camera is not None:
            tracks[str(sending.mid)] = "camera"
        tracks[str(receiving.mid)] = "main_video"
        offer = trailer.asked_for(peer.localDescription.sdp)
        if seat.way is not None:
            offer = await seat.way.offered(offer)
        self._number, answer = await seat.session.offer(offer, tracks)
        if seat.way is not None:
            answer = await seat.way.answered(answer)
        self._numbered = trailer.OFFER in answer
        self._times["answered"] = seat.clock()
        await peer.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        self._learn(receiving._codecs)
        await self._connected.wait()
        if self._lost.is_set():
            raise ConnectionLostError
        self._told_times()
        seat.watching.connected()
        self._sockets.open()
        self._heard_at = seat.clock()
        self._again("report", REPORT_S * (0.5 + secrets.randbits(8) / 256), self._report)
        if seat.camera is not None:
            kind = next(each.payloadType for each in sending._codecs if each.name != "rtx")
            self._published = Published(
                seat.camera, sending.sender._ssrc, kind, self._send_rtp, seat.codec
            )

    async def lost(self) -> None:
        """Waits until the connection is lost; see `Line.lost`."""
        await self._lost.wait()

    async def close(self) -> None:
        """Ends the peer; see `Line.close`."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._lost.set()
        if self._published is not None:
            await self._published.close()
        session = self._seat.session
        with suppress(GatewayError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                if self._number and session.end_reason is None:
                    number, self._number = self._number, 0
                    await session.hangup(number)
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(CLOSE_S):
                await self._peer.close()

    # -- joining ---------------------------------------------------------------------------

    def _learn(self, codecs: list[Any]) -> None:
        """Notes which payload types are frames, and which are packets sent again."""
        self._codec = next(each for each in codecs if each.name.lower() != "rtx")
        self._main_type = self._codec.payloadType
        for each in codecs:
            if each.name.lower() == "rtx" and each.parameters.get("apt") == self._main_type:
                self._again_type = each.payloadType

    def _ice_changed(self) -> None:
        if self._peer.iceConnectionState == "completed":
            self._times.setdefault("ice", self._seat.clock())

    def _changed(self) -> None:
        state = self._peer.connectionState
        if state == "connected":
            self._times.setdefault("dtls", self._seat.clock())
            self._connected.set()
        elif state in ("failed", "closed"):
            self._lost.set()
            self._connected.set()

    def _told_times(self) -> None:
        times, add = self._times, self._seat.add
        if {"answered", "ice", "dtls"} <= times.keys():
            add("join_ice", (times["ice"] - times["answered"]) * 1e3, times["ice"])
            add("join_dtls", (times["dtls"] - times["ice"]) * 1e3, times["dtls"])

    def _stats(self, text: Any) -> None:  # noqa: ANN401 - what the channel brings
        stats = json.loads(text)
        self._seat.watching.chunk(
            stats.get("run", 0),
            stats.get("chunk", 0),
            stats.get("frame", 0),
            stats.get("underruns", 0),
            self._seat.clock(),
        )

    # -- what comes ------------------------------------------------------------------------

    def _take(self, data: memoryview, size: int, segment: int) -> None:
        """Takes what was read at once. What is in here is paid for with every frame."""
        at = self._heard_at = self._seat.clock()
        start = 0
        if size > segment:
            start = self._burst(data, size, segment)
        while start < size:
            end = min(size, start + segment)
            if data[start + 1] in _RTCP_KINDS:
                self._rtcp(bytes(data[start:end]), at)
            else:
                self._rtp(data, start, end, at)
            start = end

    def _burst(self, data: memoryview, size: int, segment: int) -> int:
        """Takes packets of one frame that follow one another; returns where the rest begins.

        The kernel joins datagrams in the order they came: with the right number at either
        end, so are those between. The last one is left, for it may end its frame.
        """
        count = (size - 1) // segment
        first, last = 0, (count - 1) * segment
        _, kind, sequence, timestamp, ssrc = _RTP.unpack_from(data, first)
        _, last_kind, last_sequence, last_timestamp, last_ssrc = _RTP.unpack_from(data, last)
        if (
            kind == last_kind == self._main_type
            and ssrc == last_ssrc == self._ssrc
            and timestamp == last_timestamp
            and (last_sequence - sequence) & 0xFFFF == count - 1
            and self._reception.burst(sequence, count, timestamp, count * segment)
        ):
            return count * segment
        return 0

    def _rtp(self, data: memoryview, start: int, end: int, at: float) -> None:
        """Takes one packet."""
        if end - start < _RTP.size:
            return
        _, kind, sequence, timestamp, ssrc = _RTP.unpack_from(data, start)
        payload_type, marker = kind & 0x7F, kind > 0x7F
        if payload_type == self._again_type:
            self._repeated(bytes(data[start:end]), at)
            return
        if payload_type != self._main_type or self._dtls._rx_srtp is None:
            return
        reception = self._reception
        if ssrc != self._ssrc:
            self._ssrc = ssrc
            reception = self._reception = Reception(keep=self._seat.pictures is not None)
        kept = marker or self._seat.pictures is not None
        part = Part(bytes(data[start:end]) if kept else b"", clear=False)
        frames = reception.packet(Packet(sequence, timestamp, marker, end - start, part), at)
        self._taken(frames, at)

    def _repeated(self, data: bytes, at: float) -> None:
        """Takes a packet that was sent again (RFC 4588)."""
        clear = self._decrypted(Part(data, clear=False))
        if clear is None or self._ssrc is None:
            return
        body = _payload(clear)
        if len(body) <= 2:
            return
        marker, timestamp = clear[1] > 0x7F, int.from_bytes(clear[4:8], "big")
        kind = self._main_type | (0x80 if marker else 0)
        sequence = int.from_bytes(body[:2], "big")
        packet = _RTP.pack(0x80, kind, sequence, timestamp, self._ssrc) + body[2:]
        found = Packet(sequence, timestamp, marker, len(packet), Part(packet, clear=True))
        self._taken(self._reception.packet(found, at, again=True), at)

    def _taken(self, frames: list[Frame], at: float) -> None:
        for frame in frames:
            self._frame(frame, at)
        if not self._reception.in_order and "look" not in self._timers:
            self._again("look", 0.0, self._look)

    def _frame(self, frame: Frame, at: float) -> None:
        """Takes a whole frame."""
        seat = self._seat
        self._reception.arrived(frame.timestamp, at)
        self._ticks += (frame.timestamp - self._last_timestamp + 2**31) % 2**32 - 2**31
        self._last_timestamp = frame.timestamp
        last = self._decrypted(frame.parts[-1])
        if last is None:
            return
        told = trailer.read(last) if self._numbered else None
        if seat.pictures is not None:
            self._show(frame, last, told, at)
        self._frames += 1
        run, number = (1, self._frames) if told is None else (told.run, told.frame)
        captured_at, published = 0.0, self._published
        if published is not None and told is not None and told.source_us:
            captured_at = (published.first_at or 0.0) + told.source_us / 1e6
        due_s = self._ticks / 90_000
        seat.watching.arrivals.append((at, run, number, due_s, frame.size, captured_at))

    def _show(self, frame: Frame, last: bytes, told: trailer.Trailer | None, at: float) -> None:
        """Hands a frame to whoever decodes it."""
        parts = [self._decrypted(part) for part in frame.parts[:-1]]
        parts.append(last if told is None else last[: -told.size])
        with suppress(ValueError, IndexError):
            data = b"".join(
                depayload(self._codec, _payload(part)) for part in parts if part is not None
            )
            if self._seat.pictures is not None and None not in parts:
                keyframe = _is_keyframe(self._seat.codec, data)
                number = None if told is None else (told.run, told.frame)
                self._seat.pictures.frame(data, at, number, keyframe=keyframe)

    def _decrypted(self, part: Part) -> bytes | None:
        if part.clear:
            return part.data
        try:
            clear: bytes = self._dtls._rx_srtp.unprotect(part.data)
        except (pylibsrtp.Error, TypeError):
            return None
        return clear

    # -- what is told ----------------------------------------------------------------------

    def _rtcp(self, data: bytes, at: float) -> None:
        try:
            clear = self._dtls._rx_srtp.unprotect_rtcp(data)
        except (pylibsrtp.Error, AttributeError):
            return
        for told in rtcp.heard(clear):
            match told:
                case rtcp.SenderReport(ssrc, middle) if ssrc == self._ssrc:
                    self._last_report = middle, at
                case rtcp.Lost(sequences) if self._published is not None:
                    self._published.again(sequences)
                case rtcp.KeyframeAsked() if self._published is not None:
                    self._published.camera.ask_keyframe()

    def _report(self) -> None:
        """Tells the service how its packets arrive, and looks whether there still is one."""
        now = self._seat.clock()
        self._again("report", REPORT_S, self._report)
        if self._seat.watching.playing and now - self._heard_at > SILENCE_S:
            self._lost.set()
        report = self._reception.report()
        if report is None or self._ssrc is None:
            return
        last = self._last_report
        since = None if last is None else (last[0], now - last[1])
        self._send_rtcp(rtcp.receiver_report(self._own_ssrc, self._ssrc, report, since))

    def _look(self) -> None:
        """Asks for missing packets, and gives up those that are late."""
        self._timers.pop("look", None)
        now, reception = self._seat.clock(), self._reception
        frames = reception.overdue(now)
        if self._ssrc is not None:
            if asked := reception.to_ask(now):
                self._send_rtcp(rtcp.nack(self._own_ssrc, self._ssrc, sorted(asked)))
            if reception.keyframe_wanted and now - self._asked_at > 0.5:
                reception.keyframe_wanted, self._asked_at = False, now
                self._send_rtcp(rtcp.picture_lost(self._own_ssrc, self._ssrc))
        if not reception.in_order:
            self._again("look", LOOK_S, self._look)
        for frame in frames:
            self._frame(frame, now)

    def _send_rtcp(self, data: bytes) -> None:
        if self._sockets is not None and self._dtls._tx_srtp is not None:
            self._sockets.send(self._dtls._tx_srtp.protect_rtcp(data))

    def _send_rtp(self, data: bytes) -> None:
        if self._sockets is not None and not self._lost.is_set():
            self._sockets.send(self._dtls._tx_srtp.protect(data))

    def _again(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        if not self._lost.is_set():
            self._timers[name] = self._loop.call_later(seconds, call)


class ConnectionLostError(GatewayError):
    """The transport did not connect."""


def _configuration(turn: TurnServer | None) -> RTCConfiguration:
    if turn is None:
        # Without a list aiortc asks a public STUN server, for seconds where there is none.
        return RTCConfiguration(iceServers=[])
    server = RTCIceServer(turn.url, turn.username or None, turn.credential or None)
    return RTCConfiguration(iceServers=[server], iceTransportPolicy=RTCIceTransportPolicy.RELAY)


def _preferences(codec: str) -> list[Any]:
    """Returns what is offered: one codec, of H.264 the constrained baseline, and repetition."""
    able: Any = RTCRtpReceiver.getCapabilities("video")
    wanted = (_MIME[codec], "video/rtx")
    return [
        each
        for each in able.codecs
        if each.mimeType in wanted and each.parameters.get("profile-level-id", _BASE) == _BASE
    ]


def _payload(packet: bytes) -> bytes:
    """Returns what an RTP packet in the clear carries."""
    start, end = 12 + 4 * (packet[0] & 0x0F), len(packet)
    if packet[0] & 0x10:
        start += 4 + 4 * int.from_bytes(packet[start + 2 : start + 4], "big")
    if packet[0] & 0x20:
        end -= packet[-1]
    return packet[start:end]


def _is_keyframe(codec: str, data: bytes) -> bool:
    """Whether a frame can be decoded alone: by its first NAL units, or by VP8's first bit."""
    if codec == "vp8":
        return bool(data) and not data[0] & 1
    at = data.find(_START_CODE)
    while at >= 0 and at + 3 < len(data):
        kind = data[at + 3] & 0x1F
        if 1 <= kind <= 5:
            return kind == 5
        at = data.find(_START_CODE, at + 3)
    return False


async def _nothing(_: object) -> None:
    """Stands where aiortc would begin to decode or to encode."""
