"""The released recipe of decoding with the original autoencoder, as a stream.

The original decoder looks both ways, so every latent is decoded with the three that follow it,
and each such window fades into the next over 16 frames. A run therefore lags two latents behind:
its chunks are of 17, 24, 24, ... frames, and 16 more come when it ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from model_actor.models.sana_streaming.streaming_vae import FRAMES, StreamingVae

WINDOW = 4
"""Latents that are decoded together."""
BLEND = 16
"""Frames over which a window fades into the next."""
LAG = 16
"""Frames of a stream that are not out before more latents come, or its end."""


@dataclass(frozen=True)
class WindowState:
    """What a stream needs of what it has decoded."""

    latents: Tensor | None = None
    """Latents whose own frames are not out yet, (B, channels, up to 3, height, width)."""
    fading: Tensor | None = None
    """The last frames of the window before, faded in themselves, (B, 3, 16, height, width)."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(tensor.nbytes for _, tensor in self.tensors())

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yields name and tensor of what there is: nothing before the first window."""
        for name, tensor in (("latents", self.latents), ("fading", self.fading)):
            if tensor is not None:
                yield name, tensor

    def split(self, batch: int) -> list[Self]:
        """Returns the sessions one by one; none keeps the memory of the others, or of frames
        that are out.
        """
        return [
            type(self)(**{name: each[at : at + 1].clone() for name, each in self.tensors()})
            for at in range(batch)
        ]

    @classmethod
    def stack(cls, states: Sequence[Self]) -> Self:
        """Puts sessions into one batch.

        Raises:
            ValueError: Some are at their beginning, and others are not.
        """
        columns = zip(*(each.tensors() for each in states), strict=True)
        return cls(**{column[0][0]: torch.cat([each for _, each in column]) for column in columns})


def decode(
    vae: StreamingVae, latents: Tensor | None, state: WindowState, *, last: bool = False
) -> tuple[Tensor | None, WindowState]:
    """Decodes the next latents of a stream.

    Args:
        vae: The autoencoder.
        latents: Normalised, (B, channels, t, height, width); None at the end.
        state: After the latents before.
        last: Whether the stream ends here.

    Returns:
        Pixels that are finished, (B, 3, frames, height, width), None where there are none, and
        the new state.
    """
    waiting = [each for each in (state.latents, latents) if each is not None]
    if not waiting:
        return None, state
    ready, fading, made = torch.cat(waiting, dim=2), state.fading, []
    least = 2 if last else WINDOW
    while ready.shape[2] >= least:
        window, whole = vae.decode_window(ready[:, :, :WINDOW]), FRAMES
        if fading is None:
            whole += 1
        else:
            # The first frame of a window is one that the window before has made better.
            window = _faded(fading, window[:, :, 1:])
        made.append(window[:, :, :whole])
        fading, ready = window[:, :, whole:], ready[:, :, 1:]
    pixels = torch.cat(made, dim=2) if made else None
    return pixels, WindowState() if last else WindowState(ready, fading)


def _faded(before: Tensor, after: Tensor) -> Tensor:
    """Fades linearly from the frames of one window to those of the next; over fewer at the end,
    where windows are cut short.
    """
    count = min(before.shape[2], after.shape[2], BLEND)
    share = torch.arange(count, dtype=torch.float32, device=after.device) / count
    share = share.to(after.dtype)[:, None, None]
    faded = before[:, :, :count] * (1 - share) + after[:, :, :count] * share
    return torch.cat((faded, after[:, :, count:]), dim=2)
