"""From noise and source latents of a window to edited latents: four Euler steps, and a commit.

The model predicts velocity along the straight path from noise to latents. The steps are those
it was distilled with. Between steps latents are fp32, rounded to the model's dtype each time,
as in training.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from model_actor.models.sana_streaming.state import TransformerState
from model_actor.models.sana_streaming.transformer import Context, SanaStreamingTransformer

TIMESTEPS: Final = (1000.0, 961.0, 893.0, 743.0)
"""At which the model is asked."""
SIGMAS: Final = (1.0, 0.961, 0.893, 0.743, 0.0)
"""Shares of noise before and after each step."""


def denoise(
    transformer: SanaStreamingTransformer, noise: Tensor, source: Tensor, context: Context
) -> Tensor:
    """Returns edited latents.

    Args:
        transformer: The model.
        noise: (B, channels, t, height, width) fp32.
        source: Latents of the source frames.
        context: Of the window.
    """
    latents, dtype = noise, transformer.proj_out.weight.dtype
    for step, timestep in enumerate(TIMESTEPS):
        at = torch.full((noise.shape[0],), timestep, device=noise.device)
        velocity, _ = transformer(latents, source, at, context)
        moved = latents.float() + (SIGMAS[step + 1] - SIGMAS[step]) * velocity.float()
        latents = moved.to(dtype).float()
    return latents


def commit(
    transformer: SanaStreamingTransformer,
    latents: Tensor,
    source: Tensor,
    context: Context,
    state: TransformerState,
) -> TransformerState:
    """Returns the state after a window: a pass over its finished latents, at time 0."""
    at = torch.zeros(latents.shape[0], device=latents.device)
    _, committed = transformer(latents, source, at, context)
    return transformer.advance(state, context, committed)
