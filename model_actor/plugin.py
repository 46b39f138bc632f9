"""The interface of a model plugin (entry point group `sana_gateway.models`).

A model runs *windows* of source frames in ordered stages. The engine owns the
sessions, their sources and their clock; the model owns only what it needs to turn
one window into as many edited frames. All calls come from one thread, the compute
thread of the actor, so a model needs no locks and may keep a device context.

Frames are planar I420 in one `uint8` array of shape `(frames, height * 3 // 2, width)`,
limited range, BT.709: the Y plane, then U and V at half size, row by row (the layout
of PyAV's and OpenCV's "yuv420p").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from model_actor.media.codec import Codec
from scheduler.core.commands import NAMES
from scheduler.core.geometry import Geometry
from scheduler.core.prompts import Share

Frames = npt.NDArray[np.uint8]
"""I420 frames, shape `(frames, height * 3 // 2, width)`."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step on the way from source frames to edited frames."""

    name: str
    """For example `encode`, `generate`, `decode`, `commit`."""
    cost_ms: float
    """Declared time of one steady window; refined by measurement."""
    off_latency_path: bool = False
    """True for a stage that runs after the frames are handed out (`commit`)."""


@dataclass(frozen=True, slots=True)
class FewerSteps:
    """A cheaper way to make a window, of the same size and at the same frame rate."""

    steps: int
    """Steps that it takes; fewer than the model takes otherwise."""
    chunk_ms: float
    """Declared time of one steady window, less than that with all steps; refined by
    measurement."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a model declares before it is loaded."""

    name: str
    """The name that clients ask for."""
    summary: str
    """One sentence for people; says plainly what kind of model it is."""
    stages: tuple[Stage, ...]
    """In order."""
    width: int = 1280
    height: int = 704
    frame_rate: float = 24.0
    """Frames per second of source and result."""
    geometry: Geometry = field(default_factory=Geometry)
    weights_bytes: int = 0
    """Memory of the loaded model."""
    session_bytes: int = 0
    """Memory of each open session."""
    resident_slots: int = 8
    """Sessions that one actor holds at once."""
    resident_bytes: int = 0
    """Memory that one actor has for sessions, of `session_bytes` each; 0: only
    `resident_slots` counts."""
    degraded_rates: tuple[float, ...] = ()
    """Shares of `frame_rate`, above 0 and below 1, at which sessions may run where there is no
    room for more; highest first. Live sources are resampled; a clip keeps every frame and is
    shown more slowly. 2/3 makes 16 frames a second out of 24."""
    degraded_steps: tuple[FewerSteps, ...] = ()
    """Fewer steps with which sessions may run where there is no room for more; may be joined
    with any of `degraded_rates`."""
    max_batch: int = 1
    """Most sessions in one call of `stage`."""
    prompt_transitions: bool = False
    """Whether it makes windows of mixed prompts (`WindowTask.earlier`); without it, clients are
    refused to have one prompt become another over several chunks."""
    commands: tuple[str, ...] = tuple(NAMES.values())
    speaks_sana_streaming: bool = True
    """Whether it answers the command surface of SANA-Streaming and may stand in for it."""

    @property
    def chunk_ms(self) -> float:
        """Declared compute of one steady window in milliseconds."""
        return sum(stage.cost_ms for stage in self.stages)


@dataclass(slots=True)
class WindowTask:
    """One window of one session on its way through the stages."""

    session: object
    """What `open` returned: the model's own, opaque to the engine."""
    run: int
    """Changes with every start: the model begins anew, from the seed."""
    index: int
    """Index of the window in the run, from 0."""
    first_frame: int
    """Index of its first source frame in the run."""
    source: Frames
    """Source frames; read-only, valid until the last stage returns. A last window cut
    short by the end of a clip is padded by repeating its last frame."""
    seed: int
    prompt: str
    """Latched when the stage `generate` starts: before, it may yet become another."""
    steps: int = 0
    """Steps to take: one of `ModelInfo.degraded_steps`, the same for a whole batch, and from
    one window of a session to the next it may change; 0: all."""
    earlier: tuple[Share, ...] = ()
    """What is to be seen of prompts before `prompt`, whose share is the rest of 1. Only where the
    model declares `prompt_transitions`."""
    clip: str = ""
    """Which clip of the session the source is of: the same frames at the same index whenever it
    is the same, and a name for nothing else in this session. Empty: of a camera."""
    last: bool = False
    """Whether a clip ends with it: a model that looks ahead (`Geometry.lag`) has to answer all
    that it owes."""
    result: Frames | None = None
    """Edited frames, set by the last stage on the latency path: as many as `source` has, where
    the model has no `Geometry.lag`; else as many as that says."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a model is told of a session when it opens."""

    session_id: str


@runtime_checkable
class Model(Protocol):
    """A model. Constructed without arguments, cheaply: no device, no network."""

    @property
    def info(self) -> ModelInfo:
        """What the model declares; read from the instance, after `configure`.

        A class attribute will do, where no option changes it.
        """

    def configure(self, options: dict[str, str]) -> None:
        """Takes the operator's `--model-option key=value` pairs, before `load`.

        Raises:
            PluginError: For an option that it does not know or cannot use.
        """

    def load(self) -> None:
        """Loads weights and warms up; called once, on the compute thread."""

    def open(self, options: SessionOptions) -> object:
        """Makes the state of a session; may be a `PacketSource`."""

    def stage(self, name: str, batch: Sequence[WindowTask]) -> None:
        """Runs one stage on windows of different sessions.

        An exception leaves every session of the batch as it was before the window.
        """

    def snapshot(self, session: object) -> bytes:
        """Serialises the state of a session between two windows."""

    def restore(self, options: SessionOptions, snapshot: bytes) -> object:
        """Makes a session from a snapshot; it goes on bit-equal at equal batch size."""

    def close(self, session: object) -> None:
        """Releases the state of a session."""


class SnapshotPart(Protocol):
    """Bytes of a large snapshot that are read when they are written somewhere.

    By another thread than the compute thread, while the model goes on; maybe more than once,
    maybe never. What they are read from must not change meanwhile.
    """

    @property
    def size(self) -> int:
        """Bytes."""

    def pieces(self) -> Iterator[memoryview]:
        """Yields them in order; each piece is valid until the next is asked for."""


@dataclass(frozen=True, slots=True)
class SnapshotParts:
    """A large snapshot: what changes from window to window, and what does not."""

    changing: SnapshotPart
    """Comes first."""
    constant: Mapping[str, SnapshotPart]
    """Comes after that, in this order. Each is written once: its name (up to 64 of 0-9, a-z)
    tells its bytes from all others for ever."""

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return self.changing.size + sum(part.size for part in self.constant.values())

    def pieces(self) -> Iterator[memoryview]:
        """Yields the whole snapshot; each piece is valid until the next is asked for."""
        yield from self.changing.pieces()
        for part in self.constant.values():
            yield from part.pieces()


@runtime_checkable
class PartedModel(Model, Protocol):
    """A model whose snapshots are too large to be copied more often than needed.

    Where a model has these, they are used in place of `snapshot` and `restore`, which stay
    equal to them: `snapshot` is the bytes of the parts, one after the other.
    """

    def snapshot_parts(self, session: object) -> SnapshotParts:
        """Returns the state of a session between two windows. Copies nothing yet, or little."""

    def restore_parts(self, options: SessionOptions, snapshot: memoryview) -> object:
        """Makes a session from the bytes of the parts, one after the other."""


@runtime_checkable
class PacketSource(Protocol):
    """A session whose frames exist encoded already; its outputs encode nothing.

    What `open` and `restore` return may be one. For load tests, which are to measure the
    service and not an encoder.
    """

    def packet(self, codec: Codec, frame: int, size: int) -> bytes:
        """Returns one encoded frame, decodable alone.

        The one call that comes from the event loop of the actor and not from the compute
        thread, once a frame and output: it has microseconds, enough to copy bytes.

        Args:
            codec: H.264 (Annex B, parameter sets included) or VP8.
            frame: Index of the frame in its run.
            size: Bytes that the output's bitrate grants a frame. Padding up to it makes
                the load of a real encoder.
        """


@runtime_checkable
class PromptReader(Protocol):
    """A model that has to read a prompt before it can use it, and remembers what it has read."""

    def read_prompt(self, prompt: str) -> None:
        """Reads a prompt as soon as a client has set it, or it came with a session that moved.

        Between two windows of anybody's, and one prompt at a time, so that no window waits for
        more than one. It is a hint: a window may come with a prompt that was never read, or
        whose reading failed, and is then to read it itself. What this raises is logged by its
        kind, and no more.
        """
