"""The camera of one session: whose counts, and its frames at the model's rate.

It may run before its session does: where a session is about to go on, its camera is decoded
ahead, so that the first window finds its frames. Whoever listens is told of everything from
then on, and at once of what is already so.
"""

from __future__ import annotations

from typing import Protocol

from model_actor.engine.participants import Participants
from model_actor.engine.publishers import Publishers
from model_actor.engine.session_outputs import CODECS
from model_actor.engine.sources import CameraSource
from model_actor.media.camera import CameraPacket
from model_actor.media.frames import FrameBlock
from model_actor.media.workers import DecodeWorkers
from model_actor.plugin import ModelInfo
from sana_gateway_internal.v1 import stream_pb2


class CameraListener(Protocol):
    """What is told of a camera."""

    def camera_published(self, published: bool) -> None:
        """Some gateway has one, or none has any more."""

    def camera_flowing(self, flowing: bool) -> None:
        """Packets began, or stopped, to arrive."""

    def camera_frames(self) -> None:
        """More frames wait."""


class SessionCamera:
    """The camera that counts among those at the gateways."""

    def __init__(self, info: ModelInfo, gateways: Participants, workers: DecodeWorkers) -> None:
        """Prepares; nobody publishes.

        Args:
            info: Size and rate to fit the frames to.
            gateways: Who takes part, to be asked for keyframes.
            workers: Where decoding happens.
        """
        self._gateways = gateways
        self._publishers = Publishers()
        self._listener: CameraListener | None = None
        self.flows = False
        """Whether packets arrive."""
        self.taken_us = 0
        """Capture time of the last frame that was taken; 0: none was."""
        self._source = CameraSource(
            workers,
            info,
            on_frames=self._frames,
            on_keyframe_needed=self._ask_keyframe,
            on_flow=self._flow,
        )

    @property
    def available(self) -> int:
        """Frames that wait, at the model's rate."""
        return self._source.available

    def listen(self, listener: CameraListener) -> None:
        """Tells `listener` from now on."""
        self._listener = listener
        if self._publishers.first is not None:
            listener.camera_published(published=True)
        if self.flows:
            listener.camera_flowing(flowing=True)

    def want(self, wanted: bool) -> None:
        """Says whether frames are needed now; the first ones follow a fresh keyframe."""
        self._source.want(wanted)

    def pace(self, info: ModelInfo) -> None:
        """Gives frames at the rate of `info` from now on; those that wait stay."""
        self._source.pace(info)

    def take(self, count: int) -> FrameBlock:
        """Hands out the oldest `count` frames; they are the caller's to release."""
        block = self._source.take(count)
        self.taken_us = block.pts_us[-1]
        return block

    def skip_to(self, taken_us: int) -> None:
        """Leaves out frames up to a capture time: another actor has taken them."""
        self.taken_us = taken_us
        if taken_us:
            self._source.skip_to(taken_us)

    def published(self, gateway_id: str) -> None:
        """A camera is published at a gateway; it counts if it is the first."""
        before = self._publishers.first
        self._publishers.add(gateway_id)
        if before is None and self._listener is not None:
            self._listener.camera_published(published=True)

    def unpublished(self, gateway_id: str) -> None:
        """None is published there any more; if it counted, the next one does."""
        before = self._publishers.first
        self._publishers.remove(gateway_id)
        if before != gateway_id:
            return
        self._source.gone()
        published = self._publishers.first is not None
        if self._listener is not None:
            self._listener.camera_published(published)
        if published:
            self._ask_keyframe()

    def packet(self, gateway_id: str, packet: stream_pb2.CameraPacket) -> None:
        """Takes in an encoded frame of a camera, if that camera counts."""
        codec = CODECS.get(packet.codec)
        if codec is None or not self._publishers.passes(gateway_id):
            return
        follows_on = self._publishers.follows_on(gateway_id)
        self._source.packet(
            CameraPacket(
                codec,
                packet.keyframe,
                packet.timestamp_us,
                packet.data,
                packet.discontinuity or not follows_on,
            )
        )

    async def close(self) -> None:
        """Releases everything."""
        self._listener = None
        await self._source.close()

    def _frames(self) -> None:
        if self._listener is not None:
            self._listener.camera_frames()

    def _flow(self, flowing: bool) -> None:
        self.flows = flowing
        if self._listener is not None:
            self._listener.camera_flowing(flowing)

    def _ask_keyframe(self) -> None:
        """Asks the publisher; where media has overtaken what is told of it, all may be."""
        self._gateways.ask_keyframe(self._publishers.first or "")
