"""The streaming autoencoder against the oracle: whole clips, made piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from diffusers import AutoencoderKLLTX2Video
from torch import Tensor

from model_actor.models.sana_streaming import windowed_decoder
from model_actor.models.sana_streaming.streaming_vae import ConvState, StreamingVae
from model_actor.models.sana_streaming.transformer import FIRST_FRAMES, FRAMES
from model_actor.models.sana_streaming.windowed_decoder import WindowState
from tests.oracle.checks import DECODER, ENCODER, Part
from tests.oracle.folder import Folder

NAME: Final = "vae"
CAUSAL: Final = "decode_causal_half_res"
WINDOWED: Final = "decode_windowed_half_res"
PIXELS: Final = 8
"""Frames of a latent, but for the first one's."""


def check(folder: Folder) -> Part:
    """Compares the autoencoder of a folder."""
    part, io = Part(NAME), folder.io(NAME)
    weights, config = folder.weights(NAME), folder.config[NAME]["vae"]

    def made(**changed: Any) -> StreamingVae:
        vae = AutoencoderKLLTX2Video(**{**config, **changed})
        vae.load_state_dict(weights, strict=True)
        return StreamingVae(vae.eval())

    with torch.no_grad():
        _encode(part, made(), io)
        latents = io["latent_normalised"]
        for name in part.found(io, WINDOWED):
            part.compare(name, _halved(_windowed(made(), latents)), io[name], DECODER)
        for name in part.found(io, CAUSAL):
            frames = _halved(_causal(made(decoder_causal=True), latents))
            part.compare(name, frames, io[name], DECODER)
    return part


def windows(count: int) -> Iterator[tuple[int, int]]:
    """Yields bounds of the windows of a stream of so many latents."""
    begin, end = 0, min(FIRST_FRAMES, count)
    while begin < end:
        yield begin, end
        begin, end = end, min(end + FRAMES, count)


def _encode(part: Part, vae: StreamingVae, io: dict[str, Tensor]) -> None:
    pixels = io["video_u8"].float() / 127.5 - 1
    state, made = ConvState(), []
    for begin, end in windows((pixels.shape[2] - 1) // PIXELS + 1):
        first = 1 + PIXELS * (begin - 1) if begin else 0
        latents, state = vae.encode(pixels[:, :, first : 1 + PIXELS * (end - 1)], state)
        made.append(latents)
    normalised = torch.cat(made, dim=2)
    for name in part.found(io, "latent_normalised"):
        part.compare(name, normalised, io[name], ENCODER)
    for name in part.found(io, "latent_mode"):
        mean, std = (
            each[:, None, None, None] for each in (vae.vae.latents_mean, vae.vae.latents_std)
        )
        mode = normalised * std / vae.vae.config.scaling_factor + mean
        part.compare(name, mode, io[name], ENCODER)


def _windowed(vae: StreamingVae, latents: Tensor) -> Tensor:
    state, made = WindowState(), []
    for begin, end in windows(latents.shape[2]):
        pixels, state = windowed_decoder.decode(vae, latents[:, :, begin:end], state)
        made.append(pixels)
    pixels, _ = windowed_decoder.decode(vae, None, state, last=True)
    return torch.cat([each for each in (*made, pixels) if each is not None], dim=2)


def _causal(vae: StreamingVae, latents: Tensor) -> Tensor:
    state, made = ConvState(), []
    for begin, end in windows(latents.shape[2]):
        pixels, state = vae.decode(latents[:, :, begin:end], state)
        made.append(pixels)
    return torch.cat(made, dim=2)


def _halved(pixels: Tensor) -> Tensor:
    """Returns every second row and column, as references are stored."""
    return pixels[..., ::2, ::2]
