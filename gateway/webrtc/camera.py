"""The client of a peer as the publisher of camera."""

from __future__ import annotations

from contextlib import suppress

from gateway import ports
from gateway.webrtc import aiortc_adapter
from gateway.webrtc.assembly import AssembledFrame
from gateway.webrtc.statistics import PeerStatistics
from scheduler.core.errors import RequestError


class PeerCamera:
    """The client as the publisher of camera. The first frame claims it."""

    def __init__(
        self,
        connection: ports.Connection,
        receiver: aiortc_adapter.FrameReceiver,
        statistics: PeerStatistics,
    ) -> None:
        self._connection = connection
        self._statistics = statistics
        self._published = False
        self.receiver = receiver
        receiver.deliver_to(self._frame)

    def close(self) -> None:
        """Publishes no more."""
        if self._published:
            self._connection.release_camera()

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
