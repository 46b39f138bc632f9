"""What a session needs from one window to the next, and its way to bytes and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from torch import Tensor

from model_actor.models.sana_streaming.clip_latents import ClipLatents
from model_actor.models.sana_streaming.state import TransformerState
from model_actor.models.sana_streaming.streaming_vae import ConvState
from model_actor.models.sana_streaming.windowed_decoder import WindowState
from scheduler.core.errors import InvariantError, PluginError

VERSION: Final = 2
"""Of the snapshots; another one is refused."""
_STATE, _ENCODER, _DECODER, _WINDOW, _CLIP = "state", "encoder", "decoder", "window", "clip"

DecoderState = ConvState | WindowState
"""Of the causal decoder, or of the one that looks ahead."""


@dataclass(slots=True)
class Underway:
    """A window on its way through the stages: nothing of the session changes before `commit`."""

    run: int
    index: int
    source: Tensor
    """Latents of the source frames, (1, channels, t, height, width)."""
    encoder: ConvState
    """After them; where they were known, still after those of `clip`."""
    clip: ClipLatents | None = None
    """What will be known of the clip."""
    latents: Tensor | None = None
    """Edited, set by `generate`."""
    text: Tensor | None = None
    """Hidden states of the prompt that it was made with, set by `generate`."""
    text_mask: Tensor | None = None
    """How much each of them counts."""
    decoder: DecoderState = field(default_factory=ConvState)
    """After the edited latents, set by `decode`."""


@dataclass(slots=True)
class SanaSession:
    """A session's stream."""

    run: int = -1
    windows: int = 0
    """Windows of the run that are finished."""
    state: TransformerState | None = None
    """None before a run's first window is finished."""
    encoder: ConvState = field(default_factory=ConvState)
    """After the last window of the run; in a replay, after the last one of `clip`."""
    clip: ClipLatents | None = None
    """Source latents of the clip that is played; None: of a camera, or of too long a clip."""
    decoder: DecoderState = field(default_factory=ConvState)
    sink: str = ""
    """Names what is remembered of the run's first window, once a snapshot has been taken."""
    underway: Underway | None = None

    def check(self, run: int, index: int) -> None:
        """Passes when a window is the next.

        Raises:
            InvariantError: It follows another than the last.
        """
        if index and (run, index) != (self.run, self.windows):
            raise InvariantError(
                f"window {index} of run {run} was asked for after {self.windows} windows of run "
                f"{self.run}"
            )

    def clear(self) -> None:
        """Lets go of all memory."""
        self.state = self.underway = self.clip = None
        self.encoder = self.decoder = ConvState()

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def header(self) -> dict[str, Any]:
        """Returns what of a snapshot is no tensor."""
        return {
            "version": VERSION,
            "run": self.run,
            "windows": self.windows,
            "clip": None if self.clip is None else self.clip.name,
        }

    def tensors(self) -> dict[str, Tensor]:
        """Returns the tensors of a snapshot, where they are, by name."""
        tensors: dict[str, Tensor] = {}
        if self.state is not None:
            tensors |= {f"{_STATE}.{name}": tensor for name, tensor in self.state.tensors()}
        tensors |= _numbered(_ENCODER, self.encoder.past)
        if isinstance(self.decoder, ConvState):
            tensors |= _numbered(_DECODER, self.decoder.past)
        else:
            tensors |= {f"{_WINDOW}.{name}": tensor for name, tensor in self.decoder.tensors()}
        if self.clip is not None:
            tensors |= _numbered(_CLIP, self.clip.windows)
        return tensors

    @classmethod
    def from_tensors(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> SanaSession:
        """Makes a session of what `header` and `tensors` returned.

        Raises:
            PluginError: They are of another version.
        """
        if header.get("version") != VERSION:
            raise PluginError("a snapshot of another version of sana-streaming")
        state, window = _named(tensors, _STATE), _named(tensors, _WINDOW)
        clip = header["clip"]
        decoder = ConvState(_ordered(tensors, _DECODER))
        return cls(
            run=int(header["run"]),
            windows=int(header["windows"]),
            state=TransformerState(**state) if state else None,
            encoder=ConvState(_ordered(tensors, _ENCODER)),
            clip=None if clip is None else ClipLatents(str(clip), _ordered(tensors, _CLIP)),
            decoder=WindowState(**window) if window else decoder,
        )


def _numbered(part: str, tensors: tuple[Tensor, ...]) -> dict[str, Tensor]:
    return {f"{part}.{at:05}": tensor for at, tensor in enumerate(tensors)}


def _named(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    lead = f"{part}."
    return {
        name.removeprefix(lead): tensor for name, tensor in tensors.items() if name.startswith(lead)
    }


def _ordered(tensors: Mapping[str, Tensor], part: str) -> tuple[Tensor, ...]:
    found = _named(tensors, part)
    return tuple(found[name] for name in sorted(found))
