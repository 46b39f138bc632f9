"""The camera of a session on its way to the actor: one publisher, undecoded frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.ports import CameraFrame
from gateway.viewer_stats import ViewerClock
from sana_gateway_internal.v1 import stream_pb2

if TYPE_CHECKING:
    from gateway.client_connection import ClientConnection
    from gateway.links import ActorLink


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
        self._session_id = session_id
        self._times = times
        self._clock = clock
        self._link: ActorLink | None = None
        self._publisher: ClientConnection | None = None
        self._skips = False

    @property
    def publisher(self) -> ClientConnection | None:
        """The connection that publishes."""
        return self._publisher

    def publish(self, connection: ClientConnection | None) -> None:
        """Changes who publishes."""
        self._publisher = connection
        # Another publisher's frames do not follow on: they begin at a keyframe.
        self._skips = True
        self._times.publisher_changed()
        self._tell()

    def linked(self, link: ActorLink | None) -> None:
        """The session has an actor, or has lost it."""
        self._link = link

    def opened(self) -> None:
        """The actor takes part: it has to hear of a camera."""
        if self._publisher is not None:
            self._tell()

    def frame(self, frame: CameraFrame) -> None:
        """Hands a frame of the publisher on, or drops up to the next keyframe."""
        link = self._link
        if link is None:
            self._skips = True
            return
        keyframe, timestamp_us = frame.keyframe, frame.timestamp_us
        if self._skips and not keyframe:
            return
        if self.is_live:
            self._times.camera_frame(timestamp_us, self._clock())
        packet = stream_pb2.CameraPacket(
            session_id=self._session_id,
            codec=frame.codec,
            keyframe=keyframe,
            timestamp_us=timestamp_us,
            data=frame.data,
            discontinuity=frame.discontinuity or self._skips,
        )
        sent = link.camera(packet)
        if not sent and not self._skips:
            self.ask_keyframe()
        self._skips = not sent

    def ask_keyframe(self) -> None:
        """The camera's decoder needs a keyframe."""
        if self._publisher is not None:
            self._publisher.sink.camera_keyframe()

    def _tell(self) -> None:
        if self._link is not None:
            status = stream_pb2.CameraStatus(
                session_id=self._session_id, published=self._publisher is not None
            )
            self._link.send(stream_pb2.ControlRequest(camera=status))
