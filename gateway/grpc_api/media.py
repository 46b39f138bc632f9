"""Media: encoded frames both ways, for clients without WebRTC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from gateway import ports
from gateway.grpc_api.queues import MediaOutbox
from gateway.links import CAMERA_FRAME_BYTES
from sana_gateway.v1 import media_pb2
from scheduler.core.errors import BadArgumentError

_PREFERRED: Final = (media_pb2.CODEC_H264, media_pb2.CODEC_VP8)
"""What a client gets that does not choose: the first that is made."""


class MediaViewer:
    """Queues the frames of one subscription."""

    def __init__(self, outbox: MediaOutbox) -> None:
        self._outbox = outbox
        self.subscription: ports.Subscription | None = None

    def frame(self, frame: ports.EncodedFrame) -> None:
        """Queues a frame; a viewer that fell behind goes on at a keyframe."""
        if self._outbox.put_frame(frame) and self.subscription is not None:
            self.subscription.request_keyframe()

    def stats(self, stats: media_pb2.ViewerStats) -> None:
        """Queues what is known of the chunk right after its first frame.

        The network is gRPC's affair: of it nothing is known here.
        """
        self._outbox.put_stats(stats)


class MediaCall:
    """One Media call on its connection."""

    def __init__(
        self, start: media_pb2.MediaStart, connection: ports.Connection, outbox: MediaOutbox
    ) -> None:
        self._start = start
        self._connection = connection
        self._outbox = outbox
        self._subscription: ports.Subscription | None = None
        self._last_us = 0

    def open(self) -> None:
        """Claims and subscribes what the start asks for, and answers it.

        Raises:
            BadOfferError: The codec is not made here.
            PublisherTakenError: Another connection publishes.
        """
        if self._start.publish:
            self._connection.claim_camera()
        started = media_pb2.MediaStarted()
        if self._start.watch:
            viewer = MediaViewer(self._outbox)
            wanted = self._start.watch_codec
            codecs = (wanted,) if wanted else _PREFERRED
            self._subscription = self._connection.subscribe(codecs, viewer)
            viewer.subscription = self._subscription
            started.watch_codec = self._subscription.codec
        self._outbox.put(media_pb2.MediaResponse(started=started))

    async def read(self, requests: AsyncIterator[media_pb2.MediaRequest]) -> None:
        """Handles the requests after the start, to their end.

        Raises:
            BadArgumentError: A request that makes no sense here.
        """
        async for request in requests:
            match request.WhichOneof("request"):
                case "camera":
                    self._camera(request.camera)
                case "keyframe" if self._subscription is not None:
                    self._subscription.request_keyframe()
                case _:
                    raise BadArgumentError("the request does not fit what start asked for")
        if self._start.publish:
            self._connection.release_camera()
        if not self._start.watch:
            self._outbox.close()

    def _camera(self, frame: media_pb2.CameraFrame) -> None:
        if not self._start.publish:
            raise BadArgumentError("start did not ask to publish")
        if not frame.data:
            raise BadArgumentError("a camera frame is empty")
        if len(frame.data) > CAMERA_FRAME_BYTES:
            raise BadArgumentError(f"a camera frame has more than {CAMERA_FRAME_BYTES:,} bytes")
        if frame.timestamp_us < self._last_us:
            raise BadArgumentError("timestamp_us fell")
        self._last_us = frame.timestamp_us
        self._connection.camera(
            ports.CameraFrame(
                data=frame.data,
                keyframe=frame.keyframe,
                codec=self._start.publish_codec,
                timestamp_us=frame.timestamp_us,
            )
        )


def check_start(start: media_pb2.MediaStart) -> None:
    """Passes a start that makes sense.

    Raises:
        BadArgumentError: It asks for nothing, or for what nobody speaks.
    """
    if not (start.watch or start.publish):
        raise BadArgumentError("start must ask to watch or to publish")
    if start.watch and start.watch_codec not in (media_pb2.CODEC_UNSPECIFIED, *_PREFERRED):
        raise BadArgumentError("watch_codec is unknown")
    if start.publish and start.publish_codec not in _PREFERRED:
        raise BadArgumentError("publish_codec must be said")
