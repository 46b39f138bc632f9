"""The folder that holds all weights, as models: saving, checking, loading.

Nothing is ever downloaded: what a folder lacks is an error. Nothing in it is code: weights are
safetensors, the rest is JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKLLTX2Video
from transformers import Gemma2Model

from model_actor.models.sana_streaming import bundle_files, weights
from model_actor.models.sana_streaming.bundle_files import (
    TEXT_ENCODER,
    TOKENIZER,
    TRANSFORMER,
    VAE,
    BundleError,
    Description,
)
from model_actor.models.sana_streaming.streaming_vae import StreamingVae
from model_actor.models.sana_streaming.text import PromptEncoder
from model_actor.models.sana_streaming.transformer import SanaStreamingTransformer

_ONE_FILE: Final = "100GB"


@dataclass(frozen=True)
class Parts:
    """A loaded bundle."""

    description: Description
    transformer: SanaStreamingTransformer
    vae: StreamingVae
    text: PromptEncoder


def load(
    folder: Path,
    device: torch.device | str = weights.CPU,
    dtype: torch.dtype | None = None,
    *,
    verify: bool = True,
) -> Parts:
    """Loads a bundle.

    Args:
        folder: The bundle.
        device: Where all parts go.
        dtype: Of all weights; None: as they are stored.
        verify: Whether checksums are compared: about a second for each gigabyte of the largest
            file.

    Raises:
        BundleError: Something is missing, truncated or damaged, or parts do not fit together.
    """
    if verify:
        bundle_files.verify(folder)
    description, device = bundle_files.describe(folder), torch.device(device)
    transformer = weights.load_model(SanaStreamingTransformer, folder / TRANSFORMER, device, dtype)
    vae = weights.load_vae(folder / VAE, device, dtype)
    text_encoder = weights.load_text_encoder(folder / TEXT_ENCODER, device, dtype)
    tokenizer = weights.load_tokenizer(folder / TOKENIZER)
    check_fit(description, transformer, vae, text_encoder, tokenizer)
    prompts = PromptEncoder(text_encoder, tokenizer, description.prefix, description.prompt_tokens)
    return Parts(description, transformer, vae, prompts)


def save(
    folder: Path,
    description: Description,
    transformer: SanaStreamingTransformer,
    vae: Any,  # noqa: ANN401 - diffusers and transformers are not typed
    text_encoder: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Writes a bundle without its manifest.

    Args:
        folder: An empty folder.
        description: What it is.
        transformer: The transformer.
        vae: An `AutoencoderKLLTX2Video`.
        text_encoder: A `Gemma2Model`.
        tokenizer: Its tokenizer.
        progress: Told of each part before it is written.
    """
    check_fit(description, transformer, StreamingVae(vae), text_encoder, tokenizer)
    models = ((TRANSFORMER, transformer), (VAE, vae), (TEXT_ENCODER, text_encoder))
    for name, model in models:
        progress(name)
        with weights.quiet():
            model.save_pretrained(folder / name, max_shard_size=_ONE_FILE)
    tokenizer.save_pretrained(folder / TOKENIZER)
    bundle_files.write(folder, description)


def check(folder: Path) -> dict[str, weights.Contents]:
    """Compares names and shapes of all tensors of a bundle with what its models need.

    Reads no weights, only what they are.

    Returns:
        What each part holds.

    Raises:
        BundleError: Something is missing, unknown or of another shape.
    """
    weights.load_tokenizer(folder / TOKENIZER)
    kinds = (
        (TRANSFORMER, SanaStreamingTransformer),
        (VAE, AutoencoderKLLTX2Video),
        (TEXT_ENCODER, Gemma2Model),
    )
    return {name: weights.contents(kind, folder / name) for name, kind in kinds}


def check_fit(
    description: Description,
    transformer: SanaStreamingTransformer,
    vae: StreamingVae,
    text_encoder: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
) -> None:
    """Checks that parts were made for one another.

    Raises:
        BundleError: They were not.
    """
    config, channels = transformer.config, vae.vae.config.latent_channels
    wanted = (
        ("transformer's latents", config.latent_channels, "autoencoder's", channels),
        ("transformer's source latents", config.source_channels, "autoencoder's", channels),
        (
            "transformer's prompts",
            config.caption_channels,
            "text encoder's states",
            text_encoder.config.hidden_size,
        ),
    )
    for name, ours, other, theirs in wanted:
        if ours != theirs:
            raise BundleError(f"the {name} have {ours} channels, the {other} {theirs}")
    if len(tokenizer) > text_encoder.config.vocab_size:
        raise BundleError("the tokenizer knows more tokens than the text encoder")
    if tokenizer.pad_token_id is None:
        raise BundleError("the tokenizer has no token for padding: it is not Gemma's")
    if description.decoder == "causal" and not vae.is_causal:
        raise BundleError("this autoencoder's decoder looks ahead: its decoder is `windowed`")
    if description.decoder == "windowed" and vae.is_causal:
        raise BundleError("this autoencoder's decoder is causal: its decoder is `causal`")
    ratio = (vae.vae.spatial_compression_ratio, vae.vae.temporal_compression_ratio)
    if ratio != (bundle_files.CELL, 8):
        raise BundleError(f"this autoencoder makes latents of {ratio[0]} pixels, not of 32")
