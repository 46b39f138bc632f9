"""What clients have prepared for a run, and whether a command fits it."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.core.commands import (
    MAX_SEED,
    MAX_TRANSITION_CHUNKS,
    NAMES,
    Command,
    FileRef,
    Invalid,
    Mode,
    RejectReason,
    SetMode,
    SetPrompt,
    SetSeed,
    SetVideo,
    Start,
)
from scheduler.core.effects import Probe
from scheduler.core.messages import CommandError, Phase
from scheduler.core.session_table import SwitchMode, Trigger, allowed_phases

MAX_PROMPT_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip that was accepted."""

    video: FileRef
    width: int
    """Displayed width in pixels."""
    height: int
    """Displayed height in pixels."""
    num_frames: int
    """Presented frames."""

    @property
    def num_latent_frames(self) -> int:
        """Latents that a video autoencoder with 1 + 8k frames makes of it."""
        return (self.num_frames - 1) // 8 + 1


@dataclass(slots=True)
class Staging:
    """What the next `start` will use."""

    seed: int
    mode: Mode = Mode.LIVE
    prompt: str | None = None
    """The prompt last accepted; it also drives the run that exists."""
    clip: Clip | None = None
    probe: Probe | None = None
    """A clip that is still being examined."""

    def clear(self) -> None:
        """Drops all but mode and seed."""
        self.prompt = self.clip = self.probe = None

    def trigger(self, command: Command) -> Trigger:
        """Returns what the command is in the table."""
        if isinstance(command, SetMode) and command.mode is not self.mode:
            return SwitchMode
        return type(command)

    def refusal(self, command: Command, phase: Phase) -> CommandError | None:
        """Returns why a command cannot be obeyed; None if it can.

        The table is asked first, the arguments second, what is staged last.
        """
        if isinstance(command, Invalid):
            return CommandError(command.name, command.reason, command.code, phase)
        name = NAMES[type(command)]
        allowed = allowed_phases(self.trigger(command))
        if phase not in allowed:
            names = " or ".join(phase.value for phase in allowed)
            reason = f"not possible while {phase.value}, only while {names}"
            return CommandError(name, reason, RejectReason.WRONG_PHASE, phase, allowed)
        objection = self._objection(command)
        if objection is None:
            return None
        code, reason = objection
        return CommandError(name, reason, code, phase)

    def _objection(self, command: Command) -> tuple[RejectReason, str] | None:
        match command:
            case SetPrompt(prompt) if not prompt.strip():
                return RejectReason.BAD_ARGUMENT, "the prompt is empty"
            case SetPrompt(prompt) if len(prompt) > MAX_PROMPT_CHARACTERS:
                most = f"{MAX_PROMPT_CHARACTERS:,}"
                return RejectReason.BAD_ARGUMENT, f"the prompt is longer than {most} characters"
            case SetPrompt(_, chunks) if not 0 <= chunks <= MAX_TRANSITION_CHUNKS:
                return (
                    RejectReason.BAD_ARGUMENT,
                    f"transition_chunks is not an integer from 0 to {MAX_TRANSITION_CHUNKS}",
                )
            case SetSeed(seed) if isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
                return RejectReason.BAD_ARGUMENT, "the seed is not an integer from 0 to 2^53-1"
            case SetVideo(video) if not video.upload_id:
                return RejectReason.BAD_ARGUMENT, "the video names no upload"
            case Start() if self.prompt is None:
                return RejectReason.NO_PROMPT, "no prompt is set; send set_prompt first"
            case Start() if self.mode is Mode.FILE and self.clip is None and self.probe is None:
                return RejectReason.NO_SOURCE, "no clip is staged; send set_video first"
            case _:
                return None
