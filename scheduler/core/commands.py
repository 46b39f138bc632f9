"""The commands of the editing surface, as values.

A command that exists is well formed: what a wire cannot turn into one of these
becomes an `Invalid`, which the session answers in its turn.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

MAX_SEED = 2**53 - 1
"""Seeds travel as doubles on some wires."""
MAX_TRANSITION_CHUNKS = 16
"""Most chunks over which one prompt becomes another: as many as can be made again elsewhere."""


class Mode(enum.Enum):
    """Where a session takes its source video from."""

    LIVE = "live"
    FILE = "file"


class RejectReason(enum.Enum):
    """Why a command was refused, for programs. Same names as on the wire."""

    UNKNOWN_COMMAND = "unknown_command"
    BAD_ARGUMENT = "bad_argument"
    WRONG_PHASE = "wrong_phase"
    NO_PROMPT = "no_prompt"
    NO_SOURCE = "no_source"
    BAD_VIDEO = "bad_video"
    NO_CAPACITY = "no_capacity"
    SUPERSEDED = "superseded"
    MODEL_FAILED = "model_failed"
    NOT_ALLOWED = "not_allowed"


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file uploaded to the session."""

    upload_id: str
    name: str = ""
    mime_type: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class SetMode:
    """Chooses the source of video."""

    mode: Mode


@dataclass(frozen=True, slots=True)
class SetVideo:
    """Stages an uploaded clip."""

    video: FileRef


@dataclass(frozen=True, slots=True)
class SetPrompt:
    """Sets or changes the edit prompt."""

    prompt: str
    transition_chunks: int = 0
    """Chunks of a run over which the prompt before becomes this one, 0 to
    `MAX_TRANSITION_CHUNKS`; 0: at once."""


@dataclass(frozen=True, slots=True)
class SetSeed:
    """Sets the noise seed of the next start."""

    seed: int


@dataclass(frozen=True, slots=True)
class Start:
    """Begins a run."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Halts after the chunk under way."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Goes on after a pause."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Drops clip, prompt and progress."""


@dataclass(frozen=True, slots=True)
class Invalid:
    """What a wire could not turn into a command."""

    name: str
    """The name as the client wrote it."""
    reason: str
    """Why, for people."""
    code: RejectReason


Command = SetMode | SetVideo | SetPrompt | SetSeed | Start | Pause | Resume | Reset | Invalid

NAMES: dict[type[Command], str] = {
    SetMode: "set_mode",
    SetVideo: "set_video",
    SetPrompt: "set_prompt",
    SetSeed: "set_seed",
    Start: "start",
    Pause: "pause",
    Resume: "resume",
    Reset: "reset",
}
"""The names of the commands on every wire."""
