"""Where a session's windows come from: its staged clip, or the camera that counts.

Carries out what the session machine wants of its sources, and tells it what becomes of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from model_actor.engine.participants import Participants
from model_actor.engine.probing import ClipProbe
from model_actor.engine.publishers import Publishers
from model_actor.engine.session_outputs import CODECS
from model_actor.engine.sources import CameraSource, ClipSource, StagedClip
from model_actor.media.camera import CameraPacket
from model_actor.media.frames import FrameBlock
from model_actor.media.workers import DecodeWorkers
from model_actor.plugin import ModelInfo
from sana_gateway_internal.v1 import stream_pb2
from scheduler.core import effects as fx
from scheduler.core.commands import Mode
from scheduler.core.effects import Effect
from scheduler.core.messages import Phase
from scheduler.core.run import WindowPlan
from scheduler.core.session import Session
from scheduler.process.storage import Storage

_CAMERA_PHASES = frozenset({Phase.AWAITING_COMPUTE, Phase.RUNNING, Phase.PAUSING})


class SessionSources:
    """The clip and the camera of one session."""

    def __init__(
        self,
        session_id: str,
        info: ModelInfo,
        machine: Session,
        gateways: Participants,
        *,
        storage: Storage,
        workers: DecodeWorkers,
        apply: Callable[[Sequence[Effect]], None],
        on_frames: Callable[[], None],
    ) -> None:
        """Prepares; nothing is staged and nobody publishes.

        Args:
            session_id: Whose.
            info: Size, rate and windows to bring frames to.
            machine: What is told of the sources.
            gateways: Who takes part, to be asked for keyframes.
            storage: Where uploads lie.
            workers: Where decoding happens.
            apply: Carries out what the machine answers.
            on_frames: More frames wait to be computed.
        """
        self._session_id = session_id
        self._info = info
        self._machine = machine
        self._gateways = gateways
        self._apply = apply
        self._on_frames = on_frames
        self._publishers = Publishers()
        self._clip = ClipSource(self._clip_read)
        self._probe = ClipProbe(
            session_id,
            storage,
            workers,
            info,
            accepted=self._clip_accepted,
            refused=self._clip_refused,
        )
        self._camera = CameraSource(
            workers,
            info,
            on_frames=on_frames,
            on_keyframe_needed=self._ask_keyframe,
            on_flow=self._camera_flow,
        )

    def follow(self) -> None:
        """Brings the sources in line with the machine after a step."""
        machine = self._machine
        live = machine.mode is Mode.LIVE
        self._camera.want(wanted=live and machine.phase in _CAMERA_PHASES)
        plan = machine.next_window
        if plan is not None and not live:
            self._clip.want(plan.first_frame, plan.source_frames)
        elif machine.phase is Phase.IDLE and machine.clip is not None:
            # Read ahead of `start`, so that its first window need not wait for the decoder.
            self._clip.want(0, self._info.geometry.first_window)

    def ready(self, plan: WindowPlan) -> bool:
        """Tells whether the source frames of a window are there."""
        if self._machine.mode is Mode.LIVE:
            return self._camera.available >= plan.source_frames
        return self._clip.is_ready(plan)

    def take(self, plan: WindowPlan) -> FrameBlock:
        """Hands out the source frames of a window that is ready; the caller releases them."""
        if self._machine.mode is Mode.LIVE:
            return self._camera.take(plan.source_frames)
        return self._clip.take()

    def probe(self, effect: fx.Probe) -> None:
        """Begins to examine an upload."""
        self._probe.begin(effect.ticket, effect.video)

    def drop_clip(self) -> None:
        """Clears the stage."""
        self._clip.stage(None)

    def published(self, gateway_id: str) -> None:
        """A camera is published at a gateway; it counts if it is the first."""
        before = self._publishers.first
        self._publishers.add(gateway_id)
        if before is None:
            self._apply(self._machine.camera_published(published=True, now=_now()))

    def unpublished(self, gateway_id: str) -> None:
        """None is published there any more; if it counted, the next one does."""
        before = self._publishers.first
        self._publishers.remove(gateway_id)
        if before != gateway_id:
            return
        self._camera.gone()
        published = self._publishers.first is not None
        self._apply(self._machine.camera_published(published=published, now=_now()))
        if published:
            self._ask_keyframe()

    def packet(self, gateway_id: str, packet: stream_pb2.CameraPacket) -> None:
        """Takes in an encoded frame of a camera, if that camera counts."""
        codec = CODECS.get(packet.codec)
        if codec is None or not self._publishers.passes(gateway_id):
            return
        follows_on = self._publishers.follows_on(gateway_id)
        self._camera.packet(
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
        await self._probe.close()
        await self._camera.close()
        await self._clip.close()

    def _clip_accepted(self, ticket: int, clip: StagedClip) -> bool:
        facts = clip.facts
        answer = self._machine.probe_accepted(
            ticket, facts.width, facts.height, facts.num_frames, _now()
        )
        if answer:
            self._clip.stage(clip)
            self._apply(answer)
        return bool(answer)

    def _clip_refused(self, ticket: int, reason: str) -> None:
        self._apply(self._machine.probe_refused(ticket, reason, _now()))

    def _clip_read(self) -> None:
        """The clip's next window was read, or cannot be: then the run that needs it ends."""
        failed, self._clip.failed = self._clip.failed, False
        plan = self._machine.next_window
        if failed and plan is not None:
            self._apply(self._machine.failed(plan.run, plan.index, _now()))
        self._on_frames()

    def _camera_flow(self, flowing: bool) -> None:
        machine = self._machine
        self._apply(machine.source_flowing(_now()) if flowing else machine.source_stalled(_now()))

    def _ask_keyframe(self) -> None:
        """Asks the publisher; where media has overtaken what is told of it, all may be."""
        asked = stream_pb2.ControlResponse(
            camera_keyframe=stream_pb2.CameraKeyframe(session_id=self._session_id)
        )
        publisher = self._gateways.get(self._publishers.first or "")
        if publisher is not None:
            publisher.control(asked)
        else:
            self._gateways.tell(asked)


def _now() -> float:
    return asyncio.get_running_loop().time()
