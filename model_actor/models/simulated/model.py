"""`simulated` as a model plugin: timing, failures and marked pictures, no computation."""

from __future__ import annotations

import ctypes
import os
import random
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import structlog

from model_actor.media.codec import Codec
from model_actor.models.simulated.canned import Reel
from model_actor.models.simulated.marker import session_tag
from model_actor.models.simulated.options import OPTIONS, Settings, parse
from model_actor.models.simulated.picture import Screen
from model_actor.plugin import Frames, ModelInfo, SessionOptions, Stage, WindowTask
from scheduler.core.errors import InvariantError, PluginError

WARM_UP = "warm-up"
"""Name of the session in which an actor computes its first window, for nobody."""
CRASH_STATUS = 70
"""Exit status of a process that `crash_at` ends."""
_STATE = struct.Struct("<4sHqq")
_MAGIC = b"SIM2"
_GB = 1_000_000_000

log = structlog.get_logger(__name__)


class InjectedError(PluginError):
    """A failure that the operator asked for."""


@dataclass(slots=True)
class SimulatedSession:
    """What a session needs from one window to the next."""

    tag: int
    """What its markers hold. A session restored under another name keeps it, so that copies
    of one session are alike to the bit."""
    run: int = 0
    windows: int = 0
    """Windows of the run that are finished, since the model began anew."""
    fails: bool = True
    """Whether what the operator asked for may happen to it."""


@dataclass(slots=True)
class CannedSession(SimulatedSession):
    """A session that is shown the loop: a `PacketSource`."""

    reel: Reel = field(kw_only=True)

    def packet(self, codec: Codec, frame: int, size: int) -> bytes:
        """Returns an encoded frame, as `Reel.packet` does."""
        return self.reel.packet(codec, frame, size)


class SimulatedModel:
    """Spends the declared time and marks every frame with its number.

    Of the windows that a session is given, it remembers the last, and refuses one that does
    not follow it: where a real model would go on from a state of something else.
    """

    OPTIONS: ClassVar[dict[str, str]] = OPTIONS
    """Names and explanations of what `configure` takes."""

    info: ModelInfo = ModelInfo(
        name="simulated",
        summary=(
            "No model at all: spends declared time, fails on demand, and shows the source dimly "
            "under a frame number that machines can read. For load tests."
        ),
        stages=(Stage("generate", cost_ms=280.0),),
    )

    def __init__(self) -> None:
        self._settings = Settings()
        self._fewer_ms: dict[int, float] = {}
        self._screen = Screen(self.info.width, self.info.height)
        self._reel: Reel | None = None
        self._jitter = random.Random(0)  # noqa: S311 (spread of a simulation)
        self._windows = 0
        self._libc: ctypes.PyDLL | None = None

    def configure(self, options: dict[str, str]) -> None:
        """Takes the options in `OPTIONS`; what they declare shows in this instance's `info`.

        Raises:
            PluginError: An option is unknown, or its value makes no sense.
        """
        self._settings = settings = parse(options)
        declared = type(self).info
        width, height = settings.size or (declared.width, declared.height)
        self.info = replace(
            declared,
            width=width,
            height=height,
            summary=f"{declared.summary} Video: {settings.video}.",
            stages=settings.declared_stages(),
            weights_bytes=round(settings.weights_gb * _GB),
            session_bytes=round(settings.session_gb * _GB),
            resident_slots=settings.resident_slots,
            resident_bytes=round(settings.resident_gb * _GB),
            degraded_rates=settings.degraded_rates,
            degraded_steps=settings.degraded_steps,
            max_batch=settings.max_batch,
        )
        if any(each.chunk_ms >= self.info.chunk_ms for each in settings.degraded_steps):
            raise PluginError("simulated: fewer steps take less time than all of them")
        self._fewer_ms = {each.steps: each.chunk_ms for each in settings.degraded_steps}
        self._screen = Screen(width, height)

    def load(self) -> None:
        """Takes the time that loading is to take, and what `video=canned` needs to be made."""
        began = time.perf_counter()
        if self._settings.gil_ms:
            # Unlike CDLL, PyDLL keeps the interpreter locked during a call.
            self._libc = ctypes.PyDLL(None)
        if self._settings.video == "canned":
            self._reel = Reel(self.info)
        time.sleep(max(0.0, began + self._settings.load_s - time.perf_counter()))
        log.info("simulated.loaded", video=self._settings.video)

    def open(self, options: SessionOptions) -> SimulatedSession:
        """Makes the state of a session."""
        session = self._session(session_tag(options.session_id))
        session.fails = options.session_id != WARM_UP
        return session

    def stage(self, name: str, batch: Sequence[WindowTask]) -> None:
        """Runs a stage.

        Raises:
            InjectedError: As asked for by `fail_every` and `fail_at`.
            InvariantError: A window does not follow the one before it, or the windows of a
                batch are to be made with different steps.
        """
        began = time.perf_counter()
        stages = {stage.name: stage for stage in self.info.stages}
        if name not in stages:
            raise InvariantError(f"simulated has no stage {name!r}")
        for task in batch:
            _check_order(task)
        if len({task.steps for task in batch}) > 1:
            raise InvariantError("windows with different steps are no batch")
        cost_ms = self._cost_ms(stages[name], batch)
        if name == "generate":
            cost_ms += self._inject(batch)
            self._hold_interpreter()
        last = next(stage for stage in reversed(self.info.stages) if not stage.off_latency_path)
        pictures = [self._draw(task) for task in batch] if name == last.name else []
        self._spend(began + cost_ms / 1000)
        for task, picture in zip(batch, pictures, strict=False):
            task.result = picture
        if name == self.info.stages[-1].name:
            for task in batch:
                session = _session(task.session)
                session.run, session.windows = task.run, task.index + 1

    def _draw(self, task: WindowTask) -> Frames:
        if self._reel is not None:
            return self._reel.pictures(task.source.shape)
        tag = _session(task.session).tag
        return self._screen.draw(
            task.source, task.first_frame, task.run, tag, task.prompt, faint=task.steps > 0
        )

    def snapshot(self, session: object) -> bytes:
        """Serialises the state of a session: 22 bytes, or as many as `snapshot_bytes`."""
        state = _session(session)
        packed = _STATE.pack(_MAGIC, state.tag, state.run, state.windows)
        return packed.ljust(self._settings.snapshot_bytes, b"\0")

    def restore(self, options: SessionOptions, snapshot: bytes) -> SimulatedSession:
        """Makes a session from a snapshot.

        Raises:
            PluginError: The bytes are no snapshot of this version.
        """
        del options
        whole = len(snapshot) == max(_STATE.size, self._settings.snapshot_bytes)
        if not whole or not snapshot.startswith(_MAGIC):
            raise PluginError("not a snapshot of simulated")
        _, tag, run, windows = _STATE.unpack_from(snapshot)
        return self._session(tag, run, windows)

    def close(self, session: object) -> None:
        """Releases the state of a session, of which there is next to nothing."""
        _session(session)

    def _session(self, tag: int, run: int = 0, windows: int = 0) -> SimulatedSession:
        if self._reel is not None:
            return CannedSession(tag, run, windows, reel=self._reel)
        return SimulatedSession(tag, run, windows)

    def _cost_ms(self, stage: Stage, batch: Sequence[WindowTask]) -> float:
        settings, chunk_ms = self._settings, self.info.chunk_ms
        share = stage.cost_ms / chunk_ms if chunk_ms else float(stage.name == "generate")
        steps = batch[0].steps
        fewer = self._fewer_ms[steps] / chunk_ms if steps else 1.0
        spread = settings.jitter_ms * share * self._jitter.uniform(-1, 1)
        begins = settings.first_ms is not None and any(task.index == 0 for task in batch)
        cost_ms = (settings.first_ms or 0.0) * share if begins else stage.cost_ms
        alone_ms = max(0.0, cost_ms * fewer + spread)
        return alone_ms * (1 + settings.batch_share * (len(batch) - 1))

    def _inject(self, batch: Sequence[WindowTask]) -> float:
        """Fails, hangs or crashes as asked for; returns further milliseconds to spend."""
        settings = self._settings
        batch = [task for task in batch if _session(task.session).fails]
        indices = {task.index for task in batch}
        if settings.crash_at in indices:
            os._exit(CRASH_STATUS)
        if settings.hang_at in indices:
            threading.Event().wait()
        self._windows += len(batch)
        if indices & settings.fail_at:
            raise InjectedError("a window fails as asked for by fail_at")
        if settings.fail_every and self._windows // settings.fail_every > (
            (self._windows - len(batch)) // settings.fail_every
        ):
            raise InjectedError("a window fails as asked for by fail_every")
        return sum(settings.delay_at.get(index, 0.0) for index in indices)

    def _hold_interpreter(self) -> None:
        """Lets time pass in which no other thread of Python runs."""
        if self._libc is not None:
            self._libc.usleep(round(self._settings.gil_ms * 1000))

    def _spend(self, until: float) -> None:
        """Lets time pass up to a moment of `time.perf_counter`."""
        if self._settings.busy:
            while time.perf_counter() < until:
                pass
        else:
            time.sleep(max(0.0, until - time.perf_counter()))


def _check_order(task: WindowTask) -> None:
    session = _session(task.session)
    if task.index and (session.run, session.windows) != (task.run, task.index):
        raise InvariantError(
            f"window {task.index} of run {task.run} was asked for after {session.windows} windows "
            f"of run {session.run}"
        )


def _session(session: object) -> SimulatedSession:
    if not isinstance(session, SimulatedSession):
        raise InvariantError("not a session of simulated")
    return session
