"""The camera of a session on its way to the actor: one publisher, undecoded frames.

While a session moves there are two actors, and each is sent the camera: the decoder of
each begins at a keyframe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gateway.ports import CameraFrame
from gateway.viewer_stats import ViewerClock
from sana_gateway_internal.v1 import stream_pb2

if TYPE_CHECKING:
    from gateway.client_connection import ClientConnection


class Receiver(Protocol):
    """An actor, as far as the camera goes."""

    def send(self, request: stream_pb2.ControlRequest, *, urgent: bool = True) -> None:
        """Sends on its control stream."""

    def camera(self, packet: stream_pb2.CameraPacket) -> bool:
        """Sends a camera frame; False when there was no room for it."""


@dataclass(slots=True)
class _Feed:
    """What one actor is sent."""

    receiver: Receiver
    skips: bool = True
    """Whether its next frame has to be a keyframe."""


class Publishing:
    """Who publishes, and whether its frames may follow on."""

    def __init__(self, session_id: str, times: ViewerClock, clock: Callable[[], float]) -> None:
        """Begins without a publisher and without an actor.

        Args:
            session_id: Whose camera.
            times: Hears when frames arrive.
            clock: The time of the event loop.
        """
        self.is_live = True
        """Whether the session shows its camera, and not a clip."""
        self.bytes_in = 0
        """Bytes of frames that the publisher sent."""
        self._session_id = session_id
        self._times = times
        self._clock = clock
        self._feeds: tuple[_Feed, ...] = ()
        self._publisher: ClientConnection | None = None

    @property
    def publisher(self) -> ClientConnection | None:
        """The connection that publishes."""
        return self._publisher

    def publish(self, connection: ClientConnection | None) -> None:
        """Changes who publishes."""
        self._publisher = connection
        self._times.publisher_changed()
        for feed in self._feeds:
            # Another publisher's frames do not follow on: they begin at a keyframe.
            feed.skips = True
            self._tell(feed.receiver)

    def linked(self, *receivers: Receiver) -> None:
        """Says which actors the session has now; one that is new begins at a keyframe."""
        known = {id(feed.receiver): feed for feed in self._feeds}
        self._feeds = tuple(known.get(id(each)) or _Feed(each) for each in receivers)

    def opened(self, receiver: Receiver) -> None:
        """An actor takes part: it has to hear of a camera, and to get a keyframe."""
        if self._publisher is not None:
            self._tell(receiver)
            self.ask_keyframe()

    def frame(self, frame: CameraFrame) -> None:
        """Hands a frame of the publisher on, or drops up to the next keyframe."""
        self.bytes_in += len(frame.data)
        keyframe, timestamp_us, noted = frame.keyframe, frame.timestamp_us, not self.is_live
        for feed in self._feeds:
            if feed.skips and not keyframe:
                continue
            if not noted:
                noted = True
                self._times.camera_frame(timestamp_us, self._clock())
            packet = stream_pb2.CameraPacket(
                session_id=self._session_id,
                codec=frame.codec,
                keyframe=keyframe,
                timestamp_us=timestamp_us,
                data=frame.data,
                discontinuity=frame.discontinuity or feed.skips,
            )
            sent = feed.receiver.camera(packet)
            if not sent and not feed.skips:
                self.ask_keyframe()
            feed.skips = not sent

    def ask_keyframe(self) -> None:
        """A decoder of the camera needs a keyframe."""
        if self._publisher is not None:
            self._publisher.sink.camera_keyframe()

    def _tell(self, receiver: Receiver) -> None:
        status = stream_pb2.CameraStatus(
            session_id=self._session_id, published=self._publisher is not None
        )
        receiver.send(stream_pb2.ControlRequest(camera=status))
