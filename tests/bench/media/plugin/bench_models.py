"""Models that only the benchmark serves: the clip of `clip.py`, and canned video, small.

Found as plugins through the metadata that `systems/ours.py` puts on the path of the
service, as an installed distribution's would be.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from model_actor.models.simulated import SimulatedModel
from model_actor.plugin import ModelInfo, SessionOptions, Stage, WindowTask
from scheduler.core.errors import PluginError
from tests.bench.media.clip import FRAMES, RATE, Clip

NAME = "bench-clip"
SMALL = "bench-small"
SMALL_SIZE = (160, 96)
"""Width and height of its pictures, and of the cameras' that go with it."""


@dataclass(slots=True)
class ClipSession:
    """When the runs of a session began."""

    session_id: str
    began: dict[int, float] = field(default_factory=dict)
    """Time of `time.monotonic` at which the first window of a run was given."""


class ClipModel:
    """Gives the frames of the clip, which exist already; computes nothing.

    Options: `clip`, the folder of the clip; `log`, a file that is told when each window
    was given; `pace`, one of

    * `early`: at once, when the engine asks;
    * `deadline`: a window whose first frame is n is given n / 24 s after the first one,
      neither before nor after: one chunk a second, the compute thread blocked meanwhile;
    * a number: after so many milliseconds, the compute thread blocked as by a GPU call.
    """

    info: ModelInfo = ModelInfo(
        name=NAME,
        summary="Replays a clip, for the benchmark.",
        stages=(Stage("generate", cost_ms=5.0),),
        resident_slots=64,
    )

    def configure(self, options: dict[str, str]) -> None:
        """Takes the options.

        Raises:
            PluginError: One is missing.
        """
        try:
            self._clip, self._pace = Path(options["clip"]), options["pace"]
            self._log_path = options["log"]
        except KeyError as error:
            raise PluginError(f"{NAME} needs the option {error}") from error
        if self._pace.isdecimal():
            self.info = replace(
                type(self).info, stages=(Stage("generate", cost_ms=float(self._pace)),)
            )

    def load(self) -> None:
        """Maps the clip."""
        self._frames = Clip(self._clip).i420
        self._log = os.open(self._log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def open(self, options: SessionOptions) -> ClipSession:
        """Makes the state of a session."""
        return ClipSession(options.session_id)

    def stage(self, name: str, batch: Sequence[WindowTask]) -> None:
        """Gives windows, each when it is time, and notes when that was."""
        del name
        for task in batch:
            assert isinstance(task.session, ClipSession)
            first = task.first_frame % FRAMES
            task.result = self._frames[first : first + len(task.source)]
            self._wait(task.session, task)
            line = f"{task.session.session_id} {task.run} {task.first_frame} {time.monotonic_ns()}"
            os.write(self._log, line.encode() + b"\n")

    def _wait(self, session: ClipSession, task: WindowTask) -> None:
        if self._pace.isdecimal():
            time.sleep(int(self._pace) / 1e3)
            return
        began = session.began.setdefault(task.run, time.monotonic())
        if self._pace == "deadline":
            time.sleep(max(0.0, began + task.first_frame / RATE - time.monotonic()))

    def snapshot(self, session: object) -> bytes:
        """Serialises the state of a session, of which nothing matters."""
        assert isinstance(session, ClipSession)
        return session.session_id.encode()

    def restore(self, options: SessionOptions, snapshot: bytes) -> ClipSession:
        """Makes the state of a session anew."""
        del snapshot
        return self.open(options)

    def close(self, session: object) -> None:
        """Releases nothing."""


class SmallModel(SimulatedModel):
    """`simulated` with small pictures.

    With `video=canned` its packets are as large as those of the full size, so the gateway
    has the same work, and 64 sessions' sources are cheap to decode beside it.
    """

    info: ModelInfo = replace(
        SimulatedModel.info, name=SMALL, width=SMALL_SIZE[0], height=SMALL_SIZE[1]
    )
