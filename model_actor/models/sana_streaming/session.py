"""What a session needs from one window to the next, and its way to bytes and back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from safetensors.torch import load, save
from torch import Tensor

from model_actor.models.sana_streaming.state import TransformerState
from model_actor.models.sana_streaming.streaming_vae import ConvState
from scheduler.core.errors import InvariantError, PluginError

VERSION: Final = 1
"""Of the snapshots; another one is refused."""
_HEADER: Final = "header"


@dataclass(slots=True)
class Underway:
    """A window on its way through the stages: nothing of the session changes before `commit`."""

    run: int
    index: int
    source: Tensor
    """Latents of the source frames, (1, channels, t, height, width)."""
    encoder: ConvState
    """After them."""
    latents: Tensor | None = None
    """Edited, set by `generate`."""
    text: Tensor | None = None
    """Hidden states of the prompt that it was made with, set by `generate`."""
    text_mask: Tensor | None = None
    """Which of them count."""
    decoder: ConvState = field(default_factory=ConvState)
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
    decoder: ConvState = field(default_factory=ConvState)
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

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        state = self.state.nbytes if self.state is not None else 0
        return state + self.encoder.nbytes + self.decoder.nbytes

    def to_bytes(self) -> bytes:
        """Returns a snapshot between two windows."""
        tensors: dict[str, Tensor] = {}
        if self.state is not None:
            tensors |= {f"state.{name}": tensor for name, tensor in self.state.tensors()}
        for part, held in (("encoder", self.encoder), ("decoder", self.decoder)):
            tensors |= {f"{part}.{at:03}": tensor for at, tensor in enumerate(held.past)}
        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        header = {"version": VERSION, "run": self.run, "windows": self.windows}
        return save(whole, {_HEADER: json.dumps(header)})

    @classmethod
    def from_bytes(cls, snapshot: bytes, device: torch.device) -> SanaSession:
        """Makes a session of a snapshot.

        Raises:
            PluginError: The bytes are no snapshot of this version.
        """
        try:
            header = _header(snapshot)
            tensors = load(snapshot)
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise PluginError("not a snapshot of sana-streaming") from error
        except Exception as error:
            # safetensors has an error of its own that it does not export everywhere.
            if type(error).__name__ != "SafetensorError":
                raise
            raise PluginError("not a snapshot of sana-streaming") from error
        if header.get("version") != VERSION:
            raise PluginError("a snapshot of another version of sana-streaming")
        placed = {name: tensor.to(device) for name, tensor in tensors.items()}
        state = {
            name.removeprefix("state."): tensor
            for name, tensor in placed.items()
            if name.startswith("state.")
        }
        return cls(
            run=int(header["run"]),
            windows=int(header["windows"]),
            state=TransformerState(**state) if state else None,
            encoder=_held(placed, "encoder"),
            decoder=_held(placed, "decoder"),
        )


def _header(snapshot: bytes) -> dict[str, Any]:
    """Reads what stands before the tensors: eight bytes of length, then JSON."""
    length = int.from_bytes(snapshot[:8], "little")
    if not 0 < length <= len(snapshot) - 8:
        raise ValueError("too short")
    metadata = json.loads(snapshot[8 : 8 + length])["__metadata__"]
    header: dict[str, Any] = json.loads(metadata[_HEADER])
    return header


def _held(tensors: dict[str, Tensor], part: str) -> ConvState:
    names = sorted(name for name in tensors if name.startswith(f"{part}."))
    return ConvState(tuple(tensors[name] for name in names))
