"""The messages of the editing surface, as values. Field names are the seed's."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from scheduler.core.commands import Mode, RejectReason


class Phase(enum.Enum):
    """Phase of the editing session."""

    IDLE = "idle"
    AWAITING_SOURCE = "awaiting_source"
    AWAITING_COMPUTE = "awaiting_compute"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class PromptAccepted:
    """A set_prompt was accepted."""

    prompt: str


@dataclass(frozen=True, slots=True)
class VideoAccepted:
    """A set_video was accepted."""

    width: int
    height: int
    num_frames: int
    num_latent_frames: int


@dataclass(frozen=True, slots=True)
class GenerationStarted:
    """The first chunk of a run was dispatched."""

    prompt: str
    chunk_num: int = 0
    frame_num: int = 0


@dataclass(frozen=True, slots=True)
class ChunkComplete:
    """A chunk was shown to its last frame."""

    chunk_index: int
    frames_emitted: int
    active_prompt: str


@dataclass(frozen=True, slots=True)
class GenerationComplete:
    """A clip was played through to its end."""

    total_chunks: int


@dataclass(frozen=True, slots=True)
class GenerationReset:
    """The answer to reset."""

    reason: str


@dataclass(frozen=True, slots=True)
class CommandError:
    """A command was refused; nothing else changed."""

    command: str
    reason: str
    code: RejectReason
    phase: Phase
    allowed_phases: tuple[Phase, ...] = ()
    retry_after_s: float = 0.0


class Continuity(enum.Enum):
    """How a session went on at another worker."""

    EXACT = "exact"
    """Nothing is missing or different."""
    LIVE_EDGE = "live_edge"
    """Live: what was under way is left out."""
    RESTARTED = "restarted"
    """The model began anew at the first frame not yet shown."""


@dataclass(frozen=True, slots=True)
class SessionMoved:
    """The session goes on at another worker."""

    continuity: Continuity
    reason: str


@dataclass(frozen=True, slots=True)
class State:
    """Snapshot of the session. The first nine fields are the seed's, in its order."""

    running: bool
    started: bool
    paused: bool
    current_chunk: int
    current_prompt: str | None
    has_prompt: bool
    has_video: bool
    num_source_frames: int
    seed: int
    mode: Mode
    phase: Phase
    queue_position: int = 0
    degraded_frame_rate: float = 0.0
    """Frames per second it runs at while that is less than the model's own; else 0."""
    degraded_steps: int = 0
    """Steps that the model takes while these are fewer than its own; else 0."""
    awaiting_room: bool = False
    """Whether its worker is being emptied while there is no room elsewhere."""


Payload = (
    PromptAccepted
    | VideoAccepted
    | GenerationStarted
    | ChunkComplete
    | GenerationComplete
    | GenerationReset
    | CommandError
    | SessionMoved
    | State
)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a session, in the order it happened."""

    revision: int
    """Grows by one with every message to all; 0 on a `CommandError`."""
    payload: Payload
