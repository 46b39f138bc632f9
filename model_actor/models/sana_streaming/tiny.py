"""A tiny bundle of random weights, in the very same layout: the whole model, in seconds.

What it makes of a video is no edit, but everything runs: every weight is random, also those
that a training would begin with nothing in, so that no path lies idle. The same seed makes the
same bundle.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKLLTX2Video
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import Gemma2Config, Gemma2Model, PreTrainedTokenizerFast

from model_actor.models.sana_streaming import bundle
from model_actor.models.sana_streaming.bundle_files import CELL, Decoder, Description
from model_actor.models.sana_streaming.streaming_vae import ConvState, StreamingVae
from model_actor.models.sana_streaming.transformer import SanaStreamingTransformer

LATENTS: Final = 8
CAPTION: Final = 32
TOKENS: Final = 64
"""Of a prompt: words beyond some forty letters are cut."""
PREFIX: Final = "Say what to see.\nUser Prompt: "
_SENTENCES: Final = (
    "Make it look like an oil painting of a stormy sea at night.",
    "Turn the street into a snowy winter evening with warm lights.",
)
_SPECIAL: Final = {
    "pad_token": "<pad>",
    "eos_token": "<eos>",
    "bos_token": "<bos>",
    "unk_token": "<unk>",
}
_VOCABULARY: Final = 320
_CALIBRATION: Final = (9, 2 * CELL, 2 * CELL)
_LOUDNESS: Final = 0.5
"""Standard deviation of decoded pixels, -1 to 1."""


def make(
    out: Path,
    *,
    grid: tuple[int, int] = (22, 40),
    seed: int = 0,
    decoder: Decoder = "causal",
    frame_rate: float = 24.0,
) -> Description:
    """Writes a bundle without its manifest.

    Args:
        out: An empty folder.
        grid: Rows and columns of latents; 2 at least.
        seed: Of the weights.
        decoder: Which kind.
        frame_rate: Frames per second.
    """
    description = Description(
        decoder=decoder,
        prefix=PREFIX,
        prompt_tokens=TOKENS,
        width=grid[1] * CELL,
        height=grid[0] * CELL,
        frame_rate=frame_rate,
    )
    random = torch.Generator().manual_seed(seed)
    bundle.save(
        out,
        description,
        transformer(random),
        vae(random, decoder),
        text_encoder(random),
        tokenizer(),
    )
    return description


def transformer(random: torch.Generator, **sizes: Any) -> SanaStreamingTransformer:  # noqa: ANN401
    """Makes a transformer: three gated delta blocks and a softmax block, unless told otherwise."""
    usual = {
        "depth": 4,
        "hidden_size": 48,
        "num_heads": 2,
        "linear_head_dim": 12,
        "latent_channels": LATENTS,
        "source_channels": LATENTS,
        "caption_channels": CAPTION,
    }
    return randomised(SanaStreamingTransformer(**{**usual, **sizes}), random)


def vae(random: torch.Generator, decoder: Decoder = "causal") -> AutoencoderKLLTX2Video:
    """Makes an autoencoder whose latents and pixels are about as loud as real ones."""
    model = randomised(
        AutoencoderKLLTX2Video(
            latent_channels=LATENTS,
            block_out_channels=(8, 16, 16, 32),
            decoder_block_out_channels=(8, 16, 32),
            layers_per_block=(1,) * 5,
            decoder_layers_per_block=(1,) * 4,
            decoder_causal=decoder == "causal",
            # These do not follow from so few blocks.
            spatial_compression_ratio=CELL,
            temporal_compression_ratio=8,
        ),
        random,
    )
    _calibrate(model, random)
    return model


def text_encoder(random: torch.Generator) -> Gemma2Model:
    """Makes a text encoder."""
    config = Gemma2Config(
        vocab_size=_VOCABULARY,
        hidden_size=CAPTION,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    return randomised(Gemma2Model(config), random)


def tokenizer() -> PreTrainedTokenizerFast:
    """Makes a tokenizer that reads any text: of bytes, with a mark at the beginning."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=list(_SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([PREFIX, *_SENTENCES], trainer)
    begin = _SPECIAL["bos_token"]
    made.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, made.token_to_id(begin))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, padding_side="right", **_SPECIAL)


def randomised(model: Any, random: torch.Generator) -> Any:  # noqa: ANN401 - any torch module
    """Draws all weights of a model anew, each as large as keeps signals as they are."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(_drawn(name, parameter, random))
    return model.eval().requires_grad_(requires_grad=False)


def _drawn(name: str, like: Tensor, random: torch.Generator) -> Tensor:
    drawn = torch.randn(like.shape, generator=random)
    if name.endswith("bias"):
        return 0.1 * drawn
    if like.ndim == 1:
        # Scales of norms and rates of decay: about what they are made as, which is no chance.
        return like + 0.1 * drawn
    if name.endswith("scale_shift_table"):
        return 0.3 * drawn
    return drawn / math.sqrt(like[0].numel())


@torch.no_grad()
def _calibrate(model: Any, random: torch.Generator) -> None:  # noqa: ANN401
    """Sets what a random autoencoder's latents and pixels are, by a random clip."""
    clip = torch.randn((1, 3, *_CALIBRATION), generator=random).clamp(-1, 1)
    streaming = StreamingVae(model)
    latents, _ = streaming.encode(clip, ConvState())
    # Rounded, so that the same seed makes the same bundle on another machine.
    model.latents_mean.copy_(latents.mean((0, 2, 3, 4)).round(decimals=2))
    model.latents_std.copy_(latents.std((0, 2, 3, 4)).clamp(min=0.1).round(decimals=2))
    noise = torch.randn((1, LATENTS, 2, 2, 2), generator=random)
    loudness = streaming.decode_window(noise).std().round(decimals=2)
    last: nn.Conv3d = model.decoder.conv_out.conv
    last.weight.mul_(_LOUDNESS / loudness)
