"""Where a session's windows come from: its staged clip, or the camera that counts.

Carries out what the session machine wants of its sources, and tells it what becomes of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from model_actor.engine.probing import ClipProbe
from model_actor.engine.session_camera import SessionCamera
from model_actor.engine.sources import ClipSource, StagedClip, open_clip
from model_actor.media.errors import ClipFailedError, ClipRefusedError
from model_actor.media.frames import FrameBlock
from model_actor.media.workers import DecodeWorkers
from model_actor.plugin import ModelInfo
from scheduler.core import effects as fx
from scheduler.core.commands import Mode
from scheduler.core.effects import Effect
from scheduler.core.messages import Phase
from scheduler.core.run import WindowPlan
from scheduler.core.session import Session
from scheduler.process.storage import Storage

log = structlog.get_logger(__name__)

_CAMERA_PHASES = frozenset({Phase.AWAITING_COMPUTE, Phase.RUNNING, Phase.PAUSING})
RESTAGE_S = 30.0
"""How long a clip is asked for that was accepted by another actor; until then its run waits. A
storage may be away for a while, and the clip of a copy may still be on its way."""
FIRST_PAUSE_S = 0.1
"""Pause before it is asked for again; it doubles up to the next."""
MOST_PAUSE_S = 2.0
REFUSALS = 3
"""Times that decode workers may refuse it, which had taken it before."""


class SessionSources:
    """The clip and the camera of one session."""

    def __init__(
        self,
        session_id: str,
        info: ModelInfo,
        machine: Session,
        camera: SessionCamera,
        *,
        storage: Storage,
        workers: DecodeWorkers,
        apply: Callable[[Sequence[Effect]], None],
        on_frames: Callable[[], None],
    ) -> None:
        """Prepares; nothing is staged.

        Args:
            session_id: Whose.
            info: Size, rate and windows to bring frames to.
            machine: What is told of the sources.
            camera: The camera; `begin` lets it tell the machine.
            storage: Where uploads lie.
            workers: Where decoding happens.
            apply: Carries out what the machine answers.
            on_frames: More frames wait to be computed.
        """
        self._session_id = session_id
        self._info = info
        self._machine = machine
        self._storage = storage
        self._workers = workers
        self._apply = apply
        self._on_frames = on_frames
        self._clip = ClipSource(self._clip_read)
        self._lost = False
        """The staged clip cannot be had; a run of it ends."""
        self._restaging: asyncio.Task[None] | None = None
        self._probe = ClipProbe(
            session_id,
            storage,
            workers,
            info,
            accepted=self._clip_accepted,
            refused=self._clip_refused,
        )
        self._camera = camera

    def begin(self) -> None:
        """Stages the clip that another actor had accepted, and listens to the camera."""
        clip = self._machine.clip
        if clip is not None:
            self._restaging = asyncio.create_task(self._restage(clip.video.upload_id))
        self._camera.listen(self)

    @property
    def camera(self) -> SessionCamera:
        """The camera."""
        return self._camera

    def pace(self, info: ModelInfo) -> None:
        """Brings frames at the rate of `info` from now on. A clip keeps all of its own."""
        self._info = info
        self._camera.pace(info)

    def follow(self) -> None:
        """Brings the sources in line with the machine after a step."""
        machine = self._machine
        live = machine.mode is Mode.LIVE
        self._camera.want(wanted=live and machine.phase in _CAMERA_PHASES)
        plan = machine.next_window
        if plan is not None and not live:
            if self._lost:
                asyncio.get_running_loop().call_soon(self._fail)
            self._clip.want(plan.first_frame, plan.source_frames)
        elif machine.phase is Phase.IDLE and machine.clip is not None:
            # Read ahead of `start`, so that its first window need not wait for the decoder.
            self._clip.want(0, self._info.geometry.first_window)

    def ready(self, plan: WindowPlan) -> bool:
        """Tells whether the source frames of a window are there."""
        if self._machine.mode is Mode.LIVE:
            return self._camera.available >= plan.source_frames
        return self._clip.is_ready(plan)

    def ready_in(self, plan: WindowPlan) -> float | None:
        """Returns the seconds until they are, 0 if they are; None while that is not foreseen."""
        if self.ready(plan):
            return 0.0
        if self._machine.mode is Mode.LIVE and self._camera.flows:
            return (plan.source_frames - self._camera.available) / self._info.frame_rate
        return None

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
        self._stage(None)

    async def close(self) -> None:
        """Releases everything."""
        if self._restaging is not None:
            self._restaging.cancel()
            await asyncio.gather(self._restaging, return_exceptions=True)
        await self._probe.close()
        await self._camera.close()
        await self._clip.close()

    # -- the camera tells -------------------------------------------------------------------

    def camera_published(self, published: bool) -> None:
        """Some gateway has a camera, or none has any more."""
        self._apply(self._machine.camera_published(published=published, now=_now()))

    def camera_flowing(self, flowing: bool) -> None:
        """Packets began, or stopped, to arrive."""
        machine = self._machine
        self._apply(machine.source_flowing(_now()) if flowing else machine.source_stalled(_now()))

    def camera_frames(self) -> None:
        """More frames wait."""
        self._on_frames()

    # -- the clip ---------------------------------------------------------------------------

    def _stage(self, clip: StagedClip | None) -> None:
        if self._restaging is not None:
            self._restaging.cancel()
        self._lost = False
        self._clip.stage(clip)

    def _clip_accepted(self, ticket: int, clip: StagedClip) -> bool:
        facts = clip.facts
        answer = self._machine.probe_accepted(
            ticket, facts.width, facts.height, facts.num_frames, _now()
        )
        if answer:
            self._stage(clip)
            self._apply(answer)
        return bool(answer)

    def _clip_refused(self, ticket: int, reason: str) -> None:
        self._apply(self._machine.probe_refused(ticket, reason, _now()))

    async def _restage(self, upload_id: str) -> None:
        """Opens a clip whose facts are known; says nothing when it is there."""
        key = f"{self._session_id}/{upload_id}"
        clip, pause_s, refusals = None, FIRST_PAUSE_S, 0
        until = _now() + RESTAGE_S
        while refusals < REFUSALS and _now() < until:
            try:
                clip = await open_clip(self._storage, self._workers, key, self._info)
            except Exception as error:  # whatever it was, without the clip no run can go on
                kind = type(error).__name__
                log.warning("clip.not_restaged", session_id=self._session_id, error=kind)
                refusals += isinstance(error, (ClipRefusedError, ClipFailedError))
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, MOST_PAUSE_S)
            else:
                break
        self._restaging = None
        self._lost = clip is None
        self._clip.stage(clip)
        self.follow()

    def _fail(self) -> None:
        plan = self._machine.next_window
        if self._lost and plan is not None and self._machine.mode is Mode.FILE:
            self._apply(self._machine.failed(plan.run, plan.index, _now()))

    def _clip_read(self) -> None:
        """The clip's next window was read, or cannot be: then the run that needs it ends."""
        failed, self._clip.failed = self._clip.failed, False
        plan = self._machine.next_window
        if failed and plan is not None:
            self._apply(self._machine.failed(plan.run, plan.index, _now()))
        self._on_frames()


def _now() -> float:
    return asyncio.get_running_loop().time()
