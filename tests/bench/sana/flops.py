"""How many operations a steady window takes, by stage: counted on tensors of shape alone."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from model_actor.models.sana_streaming import sampler
from model_actor.models.sana_streaming.streaming_vae import ConvState, StreamingVae
from model_actor.models.sana_streaming.transformer import FIRST_FRAMES, FRAMES
from tests.bench.sana.models import Size, empty

STEADY = 2
"""From this window on all are alike."""


def counted(size: Size) -> dict[str, int]:
    """Returns floating-point operations of a window of one session, a multiplication and an
    addition counting two.
    """
    transformer, vae = empty(size)
    stream, config = StreamingVae(vae.eval()), transformer.config
    made: dict[str, int] = {}
    with torch.device("meta"), torch.no_grad():
        text = torch.empty(1, size.prompt_tokens, config.caption_channels)
        mask = torch.ones(1, size.prompt_tokens)
        state = transformer.begin(1, size.grid)
        past, after = ConvState(), ConvState()
        for window in range(STEADY + 1):
            frames = FRAMES if window else FIRST_FRAMES
            pictures = 8 * frames - (0 if window else 7)
            pixels = torch.empty(1, 3, pictures, size.height, size.width)
            latents = torch.empty(1, config.latent_channels, frames, *size.grid)
            with FlopCounterMode(display=False) as encode:
                _, past = stream.encode(pixels, past)
            with FlopCounterMode(display=False) as generate:
                context = transformer.context(state, text, mask, frames, size.grid)
                sampler.denoise(transformer, latents, latents, context)
            with FlopCounterMode(display=False) as decode:
                _, after = stream.decode(latents, after)
            with FlopCounterMode(display=False) as commit:
                context = transformer.context(state, text, mask, frames, size.grid)
                state = sampler.commit(transformer, latents, latents, context, state)
            stages = {"encode": encode, "generate": generate, "decode": decode, "commit": commit}
            made = {name: counter.get_total_flops() for name, counter in stages.items()}
    return made
