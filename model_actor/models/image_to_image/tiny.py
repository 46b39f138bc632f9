"""A tiny folder of random weights, in the very layout that diffusers writes: seconds on a CPU.

What it makes of a video is no edit, but everything runs, and follows prompt and seed. The same
seed makes the same files.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    EulerDiscreteScheduler,
    LCMScheduler,
    UNet2DConditionModel,
)
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel

from model_actor.models.image_to_image import folder
from model_actor.models.image_to_image.loading import quiet

AUTOENCODERS: Final = {"tiny": AutoencoderTiny, "kl": AutoencoderKL}
SCHEDULERS: Final = {"euler": EulerDiscreteScheduler, "lcm": LCMScheduler}
TOKENS: Final = 77
_CAPTION: Final = 32
_LOUDNESS: Final = 0.5
"""Standard deviation of decoded pixels, -1 to 1."""
_BEGIN, _END = "<|startoftext|>", "<|endoftext|>"
_NOISE: Final = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}
"""That Stable Diffusion was trained with."""


def make(
    out: Path,
    *,
    autoencoder: str = "tiny",
    scheduler: str = "euler",
    guided: bool = False,
    seed: int = 0,
) -> None:
    """Writes a folder.

    Args:
        out: An empty folder.
        autoencoder: Which of `AUTOENCODERS`.
        scheduler: Which of `SCHEDULERS`.
        guided: Whether the model takes guidance as an input, as one that LCM was distilled into.
        seed: Of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts: dict[str, Any] = {
            folder.UNET: _unet(guided=guided),
            folder.VAE: _vae(autoencoder),
            folder.TEXT_ENCODER: _text_encoder(),
            folder.SCHEDULER: _scheduler(scheduler),
        }
        for name in (folder.UNET, folder.VAE, folder.TEXT_ENCODER):
            _redraw(parts[name])
        _calibrate(parts[folder.VAE])
    with quiet():
        for name, part in parts.items():
            part.save_pretrained(out / name)
    _write_tokenizer(out / folder.TOKENIZER)
    libraries = {folder.TEXT_ENCODER: "transformers"}
    index: dict[str, Any] = {"_class_name": "StableDiffusionImg2ImgPipeline"}
    for name, part in parts.items():
        index[name] = [libraries.get(name, "diffusers"), type(part).__name__]
    index[folder.TOKENIZER] = ["transformers", "CLIPTokenizer"]
    index |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
    _write(out / folder.INDEX, index)


def _unet(*, guided: bool) -> Any:  # noqa: ANN401 - diffusers is not typed
    return UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=_CAPTION,
        attention_head_dim=2,
        norm_num_groups=8,
        time_cond_proj_dim=16 if guided else None,
    )


def _vae(kind: str) -> Any:  # noqa: ANN401
    if kind == "kl":
        return AutoencoderKL(
            block_out_channels=(8, 8, 8, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            norm_num_groups=4,
        )
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
    )


def _text_encoder() -> Any:  # noqa: ANN401
    config = CLIPTextConfig(
        vocab_size=len(_vocabulary()),
        hidden_size=_CAPTION,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=_vocabulary()[_BEGIN],
        eos_token_id=_vocabulary()[_END],
        pad_token_id=_vocabulary()[_END],
    )
    return CLIPTextModel(config)


@torch.no_grad()
def _redraw(model: Any) -> None:  # noqa: ANN401
    """Draws weights as large as keeps signals as they are: as libraries begin them, for a training,
    neither prompt nor time would show.
    """
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_().div_(math.sqrt(parameter[0].numel()))


@torch.no_grad()
def _calibrate(vae: Any) -> None:  # noqa: ANN401
    """Makes latents and pictures of an autoencoder about as loud as real ones.

    Factors are rounded, so that the same seed makes the same files on another machine.
    """
    vae.eval()
    into = getattr(vae, "quant_conv", None) or _last_convolution(vae.encoder)
    out = _last_convolution(vae.decoder)
    told = vae.encode(torch.randn((4, 3, 64, 64)).clamp(-1, 1))
    latents = told.latents if hasattr(told, "latents") else told.latent_dist.mode()
    into.weight.div_((vae.config.scaling_factor * latents.std()).round(decimals=2))
    noise = torch.randn((4, folder.CHANNELS, 8, 8)) / vae.config.scaling_factor
    out.weight.mul_(_LOUDNESS / vae.decode(noise, return_dict=False)[0].std().round(decimals=2))
    shown = vae.decode(noise, return_dict=False)[0]
    # A tiny one doubles what comes out of its last layer.
    out.bias.sub_(shown.mean().round(decimals=1) / (2 if isinstance(vae, AutoencoderTiny) else 1))


def _last_convolution(model: Any) -> Any:  # noqa: ANN401
    return [each for each in model.modules() if isinstance(each, torch.nn.Conv2d)][-1]


def _scheduler(kind: str) -> Any:  # noqa: ANN401
    if kind == "euler":
        return EulerDiscreteScheduler(**_NOISE, timestep_spacing="trailing")
    return LCMScheduler(**_NOISE)


def _vocabulary() -> dict[str, int]:
    """Returns words of a single byte, within a word and at its end: any text can be read."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(f"{letter}</w>" for letter in alphabet), _BEGIN, _END]
    return {word: number for number, word in enumerate(words)}


def _write_tokenizer(out: Path) -> None:
    out.mkdir()
    _write(out / "vocab.json", _vocabulary())
    (out / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    told = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": TOKENS,
        "bos_token": _BEGIN,
        "eos_token": _END,
        "pad_token": _END,
        "unk_token": _END,
    }
    _write(out / "tokenizer_config.json", told)


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
