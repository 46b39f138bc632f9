"""Models of random weights, made on the device itself: of the true size, or tiny."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import torch
from diffusers import AutoencoderKLLTX2Video
from torch import Tensor

from model_actor.models.sana_streaming import tiny, weights
from model_actor.models.sana_streaming.bundle import Parts
from model_actor.models.sana_streaming.bundle_files import Description
from model_actor.models.sana_streaming.streaming_vae import StreamingVae
from model_actor.models.sana_streaming.text import Prompt
from model_actor.models.sana_streaming.transformer import SanaStreamingTransformer

SIZES: Final = ("2b", "tiny")


class RandomPrompts:
    """In place of the text encoder, which no window waits for: what it would have said."""

    def __init__(
        self, tokens: int, channels: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        random = torch.Generator(device).manual_seed(7)
        hidden = torch.randn(1, tokens, channels, generator=random, device=device)
        self._prompt = Prompt(hidden.to(dtype), torch.ones(1, tokens, device=device))

    def encode(self, prompt: str) -> Prompt:
        """Encodes any prompt as the same."""
        del prompt
        return self._prompt

    def mixture(self, shares: object) -> Prompt:
        """Mixes any prompts to the same."""
        del shares
        return self._prompt


@dataclass(frozen=True)
class Size:
    """What is built."""

    name: str
    height: int
    width: int
    prompt_tokens: int

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of latents."""
        return self.height // 32, self.width // 32


def size_of(name: str) -> Size:
    """Returns a size by its name."""
    return Size("2b", 704, 1280, 300) if name == "2b" else Size("tiny", 64, 128, tiny.TOKENS)


def empty(size: Size) -> tuple[SanaStreamingTransformer, Any]:
    """Returns transformer and autoencoder without weights."""
    with torch.device("meta"):
        if size.name == "tiny":
            return _tiny_transformer(), _tiny_vae()
        vae = AutoencoderKLLTX2Video(
            decoder_causal=True, spatial_compression_ratio=32, temporal_compression_ratio=8
        )
        return SanaStreamingTransformer(), vae


def random_parts(size: Size, device: torch.device, dtype: torch.dtype) -> Parts:
    """Makes a model with random weights; the same weights each time on the same device."""
    transformer, vae = empty(size)
    random = torch.Generator(device).manual_seed(1)
    for model in (transformer, vae):
        with weights.quiet():
            model.to(dtype)
        model.to_empty(device=device)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                _draw(name, parameter, random)
        model.eval().requires_grad_(requires_grad=False)
    vae.latents_mean.zero_()
    vae.latents_std.fill_(1.0)
    prompts: Any = RandomPrompts(
        size.prompt_tokens, transformer.config.caption_channels, device, dtype
    )
    description = Description(
        decoder="causal",
        prefix="",
        prompt_tokens=size.prompt_tokens,
        width=size.width,
        height=size.height,
    )
    return Parts(description, transformer, StreamingVae(vae), prompts)


def _draw(name: str, parameter: Tensor, random: torch.Generator) -> None:
    """Draws a weight, as large as keeps signals as they are."""
    if name.endswith(("bias", "decay_log", "decay_bias")):
        parameter.normal_(0, 0.1, generator=random)
    elif parameter.ndim == 1:
        parameter.normal_(1, 0.1, generator=random)
    elif name.endswith("scale_shift_table"):
        parameter.normal_(0, 0.3, generator=random)
    else:
        parameter.normal_(0, 1 / math.sqrt(parameter[0].numel()), generator=random)


def _tiny_transformer() -> SanaStreamingTransformer:
    return SanaStreamingTransformer(
        depth=4,
        hidden_size=48,
        num_heads=2,
        linear_head_dim=12,
        latent_channels=tiny.LATENTS,
        source_channels=tiny.LATENTS,
        caption_channels=tiny.CAPTION,
    )


def _tiny_vae() -> Any:
    return AutoencoderKLLTX2Video(
        latent_channels=tiny.LATENTS,
        block_out_channels=(8, 16, 16, 32),
        decoder_block_out_channels=(8, 16, 32),
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 4,
        decoder_causal=True,
        spatial_compression_ratio=32,
        temporal_compression_ratio=8,
    )
