"""`painter` as a model plugin. OpenCV is imported by `load`, never before."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from model_actor.models.painter.recipe import read
from model_actor.plugin import FewerSteps, Frames, ModelInfo, SessionOptions, Stage, WindowTask
from scheduler.core.errors import InvariantError, PluginError

if TYPE_CHECKING:
    from model_actor.models.painter.picture import Plane
    from model_actor.models.painter.studio import Studio

NO_OPENCV = "the model painter needs OpenCV: pip install 'sana-gateway[painter]'"

ON_TWOS = 12
"""Pictures that are painted for a steady window, each shown twice, where time is short."""
_HEADER = struct.Struct("<4sqq?")
_MAGIC = b"PNT1"


@dataclass(slots=True)
class PainterSession:
    """What a session needs from one window to the next."""

    run: int = -1
    next_frame: int = 0
    luma: Plane | None = None
    """Steadied luma after the last frame, at half size; None before the first."""


class PainterModel:
    """Paints every frame in looks that the prompt names."""

    OPTIONS: ClassVar[dict[str, str]] = {}
    """Names and explanations of what `configure` takes: nothing."""

    info: ClassVar[ModelInfo] = ModelInfo(
        name="painter",
        summary=(
            "Image processing on the CPU in looks that the prompt names (oil, pencil, night, "
            "snow, ...). It is not a diffusion model and does not understand the picture."
        ),
        stages=(Stage("generate", cost_ms=210.0),),
        weights_bytes=15_000_000,
        session_bytes=50_000_000,
        degraded_steps=(FewerSteps(ON_TWOS, chunk_ms=115.0),),
        prompt_transitions=True,
    )

    def __init__(self) -> None:
        self._studio: Studio | None = None

    def configure(self, options: dict[str, str]) -> None:
        """Takes no options, and looks for OpenCV without importing it.

        Raises:
            PluginError: For any option, or without OpenCV.
        """
        if options:
            raise PluginError(f"painter has no option {next(iter(options))!r}")
        if importlib.util.find_spec("cv2") is None:
            raise PluginError(NO_OPENCV)

    def load(self) -> None:
        """Makes the brush strokes that all sessions share.

        Raises:
            PluginError: OpenCV is not installed.
        """
        try:
            from model_actor.models.painter.studio import Studio
        except ModuleNotFoundError as error:
            if error.name != "cv2":
                raise
            raise PluginError(NO_OPENCV) from error
        self._studio = Studio((self.info.height, self.info.width))

    def open(self, options: SessionOptions) -> PainterSession:
        """Makes the state of a session."""
        del options
        return PainterSession()

    def stage(self, name: str, batch: Sequence[WindowTask]) -> None:
        """Paints the windows. Nothing of a session changes before all of them are painted."""
        if self._studio is None or name != "generate":
            raise InvariantError(f"painter is not loaded, or has no stage {name!r}")
        if any(task.steps not in (0, ON_TWOS) for task in batch):
            raise InvariantError("painter paints every picture or every second one")
        painted = [self._paint(self._studio, task) for task in batch]
        for task, (result, luma) in zip(batch, painted, strict=True):
            session = _session(task.session)
            session.run = task.run
            session.next_frame = task.first_frame + len(task.source)
            session.luma = luma
            task.result = result

    @staticmethod
    def _paint(studio: Studio, task: WindowTask) -> tuple[Frames, Plane | None]:
        session = _session(task.session)
        follows = session.run == task.run and session.next_frame == task.first_frame
        goes_on = task.index > 0 and follows
        former = session.luma if goes_on else None
        every = 2 if task.steps == ON_TWOS else 1

        def painted(prompt: str) -> tuple[Frames, Plane | None]:
            return studio.paint(
                task.source, read(prompt), task.seed, task.first_frame, former, every=every
            )

        result, luma = painted(task.prompt)
        if task.earlier:
            # One look is faded from, the one that is seen most: each takes as long as a window.
            before = max(task.earlier, key=lambda each: each.share)
            rest = 1.0 - sum(each.share for each in task.earlier)
            share = before.share / (before.share + rest)
            result = studio.fade(result, painted(before.prompt)[0], share)
        return result, luma

    def snapshot(self, session: object) -> bytes:
        """Serialises the state of a session: about 225 kB, the steadied luma."""
        state = _session(session)
        luma = b"" if state.luma is None else state.luma.tobytes()
        return _HEADER.pack(_MAGIC, state.run, state.next_frame, bool(luma)) + luma

    def restore(self, options: SessionOptions, snapshot: bytes) -> PainterSession:
        """Makes a session from a snapshot.

        Raises:
            PluginError: The bytes are no snapshot of this version.
        """
        del options
        shape = (self.info.height // 2, self.info.width // 2)
        if len(snapshot) < _HEADER.size or not snapshot.startswith(_MAGIC):
            raise PluginError("not a snapshot of painter")
        _, run, next_frame, has_luma = _HEADER.unpack_from(snapshot)
        if len(snapshot) != _HEADER.size + has_luma * shape[0] * shape[1]:
            raise PluginError("a snapshot of painter of the wrong size")
        if not has_luma:
            return PainterSession(run, next_frame)
        luma = np.frombuffer(snapshot, np.uint8, offset=_HEADER.size).reshape(shape)
        return PainterSession(run, next_frame, luma)

    def close(self, session: object) -> None:
        """Releases the state of a session."""
        _session(session).luma = None


def _session(session: object) -> PainterSession:
    if not isinstance(session, PainterSession):
        raise InvariantError("not a session of painter")
    return session
