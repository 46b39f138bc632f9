"""Streams over the oracle's inputs, window by window."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from model_actor.models.sana_streaming import sampler
from model_actor.models.sana_streaming.state import TransformerState
from model_actor.models.sana_streaming.transformer import SanaStreamingTransformer

BOUNDS = (0, 5, 8, 11, 14)


class Stream:
    """One session: `which` is the suffix of its inputs, `prompt` the number of its prompt."""

    def __init__(
        self,
        model: SanaStreamingTransformer,
        io: Mapping[str, Tensor],
        which: str = "",
        prompt: int = 0,
    ) -> None:
        self.model, self.window = model, 0
        self._noise, self._source = io[f"noise{which}"], io[f"source_latents{which}"]
        self.text = io["prompts"][prompt : prompt + 1]
        self.mask = io["prompt_masks"][prompt : prompt + 1]
        self.grid = (self._noise.shape[3], self._noise.shape[4])
        self.state = model.begin(1, self.grid)

    @property
    def frames(self) -> int:
        """Latent frames of the window at hand."""
        return BOUNDS[self.window + 1] - BOUNDS[self.window]

    @property
    def inputs(self) -> tuple[Tensor, Tensor]:
        """Noise and source latents of the window at hand."""
        window = slice(BOUNDS[self.window], BOUNDS[self.window + 1])
        return self._noise[:, :, window], self._source[:, :, window]

    def step(self) -> tuple[Tensor, TransformerState]:
        """Makes one window alone; returns latents and the state after it."""
        return together([self])[0]


@torch.no_grad()
def together(streams: list[Stream]) -> list[tuple[Tensor, TransformerState]]:
    """Makes one window of several streams in one batch."""
    model, first = streams[0].model, streams[0]
    state = TransformerState.stack([each.state for each in streams])
    text, mask = torch.cat([each.text for each in streams]), torch.cat([s.mask for s in streams])
    context = model.context(state, text, mask, first.frames, first.grid)
    noise, source = (torch.cat(each) for each in zip(*(s.inputs for s in streams), strict=True))
    latents = sampler.denoise(model, noise, source, context)
    after = sampler.commit(model, latents, source, context, state).split()
    for stream, own in zip(streams, after, strict=True):
        stream.state, stream.window = own, stream.window + 1
    return list(zip(latents.split(1), after, strict=True))
