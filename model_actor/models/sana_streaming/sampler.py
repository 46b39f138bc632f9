"""From noise and source latents of a window to edited latents: four Euler steps, and a commit.

The model predicts velocity along the straight path from noise to latents. The steps are those
it was distilled with. Between steps latents are fp32, rounded to the model's dtype each time,
as in training.

Where time is short, two steps or one take the place of four: every second of its times, or the
first alone. The times lie evenly before the shift that the schedule was made with (s = 8u / (1 +
7u) for u = 1, 3/4, 1/2, 1/4), so do these, and the model is asked at no time that it was not
trained at.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from model_actor.models.sana_streaming.state import TransformerState
from model_actor.models.sana_streaming.transformer import Context, SanaStreamingTransformer
from scheduler.core.errors import InvariantError

TIMESTEPS: Final = (1000.0, 961.0, 893.0, 743.0)
"""At which the model is asked."""
SIGMAS: Final = (1.0, 0.961, 0.893, 0.743, 0.0)
"""Shares of noise before and after each step."""
STEPS: Final = (4, 2, 1)
"""Numbers of steps that there are, all of them first."""


def schedule(steps: int = 0) -> tuple[tuple[float, float, float], ...]:
    """Returns the steps from noise to latents: when the model is asked, and the shares of noise
    before and after.

    Args:
        steps: One of `STEPS`; 0: all.

    Raises:
        InvariantError: There is no such number of steps.
    """
    steps = steps or len(TIMESTEPS)
    if steps not in STEPS:
        raise InvariantError(f"sana-streaming takes {STEPS} steps, not {steps}")
    stride = len(TIMESTEPS) // steps
    times, sigmas = TIMESTEPS[::stride], (*SIGMAS[:-1:stride], SIGMAS[-1])
    return tuple(zip(times, sigmas[:-1], sigmas[1:], strict=True))


def denoise(
    transformer: SanaStreamingTransformer,
    noise: Tensor,
    source: Tensor,
    context: Context,
    steps: int = 0,
) -> Tensor:
    """Returns edited latents.

    Args:
        transformer: The model.
        noise: (B, channels, t, height, width) fp32.
        source: Latents of the source frames.
        context: Of the window.
        steps: One of `STEPS`; 0: all.
    """
    latents, dtype = noise, transformer.proj_out.weight.dtype
    for timestep, before, after in schedule(steps):
        at = torch.full((noise.shape[0],), timestep, device=noise.device)
        velocity, _ = transformer(latents, source, at, context)
        moved = latents.float() + (after - before) * velocity.float()
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
