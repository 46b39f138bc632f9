"""The two ways from edited latents to pictures, as the stages of a window see them.

*Causal*: a decoder made to look at no later frame. A window's frames are all there at once.
*Windowed*: the original decoder and the released recipe (`windowed_decoder.py`), two latents
late: a window owes its last 16 frames to the next one, and the last one of a clip owes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor

from model_actor.models.sana_streaming import windowed_decoder
from model_actor.models.sana_streaming.session import DecoderState
from model_actor.models.sana_streaming.streaming_vae import ConvState, StreamingVae
from model_actor.models.sana_streaming.windowed_decoder import WindowState
from model_actor.plugin import WindowTask


class Decoder(Protocol):
    """Decodes windows of several sessions."""

    def begin(self) -> DecoderState:
        """Returns the state before the first window of a run."""

    def alike(self, batch: Sequence[WindowTask]) -> list[list[WindowTask]]:
        """Splits windows into those that can be decoded together."""

    def decode(
        self, latents: Tensor, states: Sequence[DecoderState], *, last: bool
    ) -> tuple[Tensor, list[DecoderState]]:
        """Decodes a window each of several sessions.

        Args:
            latents: Edited, (B, channels, t, height, width).
            states: Of the sessions, before it.
            last: Whether their clips end with it.

        Returns:
            Pixels, (B, 3, frames, height, width), and the states after it.
        """


class CausalDecoder:
    """All frames of a window at once."""

    def __init__(self, vae: StreamingVae) -> None:
        """Takes an autoencoder with a causal decoder."""
        self._vae = vae

    def begin(self) -> DecoderState:
        """Returns the state before the first window of a run."""
        return ConvState()

    def alike(self, batch: Sequence[WindowTask]) -> list[list[WindowTask]]:
        """Splits windows into those that can be decoded together: all of them."""
        return [list(batch)]

    def decode(
        self, latents: Tensor, states: Sequence[DecoderState], *, last: bool
    ) -> tuple[Tensor, list[DecoderState]]:
        """Decodes; that a clip ends is nothing to it."""
        del last
        before = ConvState.stack(cast(list[ConvState], list(states)))
        frames, after = self._vae.decode(latents, before)
        return frames, list(after.split(len(states)))


class WindowedDecoder:
    """All frames but the last 16, which come with the next window."""

    def __init__(self, vae: StreamingVae) -> None:
        """Takes an autoencoder whose decoder looks both ways."""
        self._vae = vae

    def begin(self) -> DecoderState:
        """Returns the state before the first window of a run."""
        return WindowState()

    def alike(self, batch: Sequence[WindowTask]) -> list[list[WindowTask]]:
        """Splits windows into those with which a clip ends, which have more to do, and others."""
        split = ([task for task in batch if task.last is last] for last in (False, True))
        return [tasks for tasks in split if tasks]

    def decode(
        self, latents: Tensor, states: Sequence[DecoderState], *, last: bool
    ) -> tuple[Tensor, list[DecoderState]]:
        """Decodes what is complete; with the last window of a clip all of it."""
        before = WindowState.stack(cast(list[WindowState], list(states)))
        made, after = windowed_decoder.decode(self._vae, latents, before, last=last)
        frames = torch.empty(0) if made is None else made
        return frames, list(after.split(len(states)))


def decoder_of(vae: StreamingVae) -> Decoder:
    """Returns the way that an autoencoder decodes."""
    return CausalDecoder(vae) if vae.is_causal else WindowedDecoder(vae)
