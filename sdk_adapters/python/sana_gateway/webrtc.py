"""A session's media over WebRTC, by aiortc. Needs the extra `webrtc`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import av
import numpy as np
from aiortc import (
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCSessionDescription,
    VideoStreamTrack,
)
from aiortc.mediastreams import MediaStreamError

from sana_gateway.camera import Camera
from sana_gateway.errors import CallError, PeerLostError
from sana_gateway.media import CodecName
from sana_gateway.pictures import Picture

if TYPE_CHECKING:
    from sana_gateway.session import Session

CONNECT_S: Final = 15.0
"""How long ICE and DTLS may take."""
CLOSE_S: Final = 5.0
"""How long hanging up may take."""
_MIME: Final[dict[CodecName, str]] = {"h264": "video/H264", "vp8": "video/VP8"}
_CLOCK: Final = 1_000_000
_WAITING: Final = 4
"""Pictures that wait for a reader; older ones are dropped."""


class Peer:
    """A peer connection of a session: main_video in, a camera out.

    Better than gRPC over lossy networks. Use it with `async with`, which connects and hangs up.
    """

    def __init__(
        self,
        session: Session,
        *,
        camera: Camera | None = None,
        codec: CodecName | None = None,
        ice_servers: Sequence[RTCIceServer] = (),
    ) -> None:
        """Prepares a peer.

        Args:
            session: Whose media.
            camera: What to publish; None: nothing.
            codec: What to receive main_video in; None: what the service prefers.
            ice_servers: STUN and TURN servers, where the gateway cannot be reached directly.
        """
        self.dropped = 0
        """Pictures that were not read in time."""
        self._session = session
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=list(ice_servers)))
        self._lost = asyncio.Event()
        self._connected = asyncio.Event()
        self._number = 0
        self._camera = camera
        self._codec = codec
        self._receiving: asyncio.Task[None] | None = None
        self._waiting: deque[Any] = deque()
        self._more = asyncio.Event()

    async def connect(self) -> None:
        """Connects.

        Raises:
            PublisherTakenError: Another connection publishes the camera.
            CallError: The gateway refused.
            PeerLostError: There is no way between here and the gateway.
        """
        pc, tracks = self._pc, {}
        pc.on("connectionstatechange", self._changed)
        sending: Any = None
        if self._camera is not None:
            sending = pc.addTransceiver(_CameraTrack(self._camera), direction="sendonly")
        receiving = pc.addTransceiver("video", direction="recvonly")
        if self._codec is not None:
            known: Any = RTCRtpReceiver.getCapabilities("video")
            chosen = [each for each in known.codecs if each.mimeType == _MIME[self._codec]]
            receiving.setCodecPreferences(chosen)
        await pc.setLocalDescription(await pc.createOffer())
        if sending is not None:
            tracks[str(sending.mid)] = "camera"
        tracks[str(receiving.mid)] = "main_video"
        self._number, answer = await self._session.offer(pc.localDescription.sdp, tracks)
        await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        self._receiving = asyncio.create_task(
            self._receive(receiving.receiver.track), name="sana-gateway receiving"
        )
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._connected.wait()
        except TimeoutError:
            raise PeerLostError("no connection between here and the gateway") from None
        if self._lost.is_set():
            raise PeerLostError("no connection between here and the gateway")

    async def close(self) -> None:
        """Hangs up. Repeating it is no error."""
        if self._number:
            with suppress(CallError):
                await self._session.hangup(self._number)
            self._number = 0
        # aiortc's own closing, where it was cut short, never ends.
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._pc.close()
        if self._receiving is not None:
            self._receiving.cancel()
            with suppress(asyncio.CancelledError):
                await self._receiving

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:
            await asyncio.shield(self.close())
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def pictures(self) -> AsyncIterator[Picture]:
        """Yields the pictures of main_video as they are decoded. One reader at a time.

        Raises:
            PeerLostError: The connection broke; make a new peer.
        """
        while True:
            while not self._waiting:
                if self._receiving is None or self._receiving.done():
                    if self._lost.is_set():
                        raise PeerLostError("the connection was lost")
                    return
                self._more.clear()
                await self._more.wait()
            frame = self._waiting.popleft()
            rgb = await asyncio.to_thread(frame.to_ndarray, format="rgb24")
            at = round(float(frame.pts * frame.time_base) * _CLOCK)
            picture = np.asarray(rgb, dtype=np.uint8)
            yield Picture(picture, at, run=None, chunk=None, frame=None)

    async def _receive(self, track: Any) -> None:  # noqa: ANN401 - aiortc's tracks are untyped
        """Takes pictures as they come: aiortc itself would keep them without bound."""
        try:
            while True:
                self._waiting.append(await track.recv())
                if len(self._waiting) > _WAITING:
                    self._waiting.popleft()
                    self.dropped += 1
                self._more.set()
        except MediaStreamError:
            pass
        finally:
            self._more.set()

    def _changed(self) -> None:
        match self._pc.connectionState:
            case "connected":
                self._connected.set()
            case "failed" | "closed":
                self._lost.set()
                self._connected.set()
                if self._receiving is not None:
                    self._receiving.cancel()


class _CameraTrack(VideoStreamTrack):
    """A camera's pictures as aiortc wants them: one whenever it asks."""

    def __init__(self, camera: Camera) -> None:
        super().__init__()
        self._pictures = camera.pictures()

    async def recv(self) -> av.VideoFrame:
        """Returns the next picture."""
        try:
            rgb, taken = await anext(self._pictures)
        except StopAsyncIteration:
            self.stop()
            raise MediaStreamError from None
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame.pts, frame.time_base = taken, Fraction(1, _CLOCK)
        return frame
