"""The LTX-2 video autoencoder, a few frames at a time.

diffusers' modules hold the weights and compute frame by frame; what looks back in time is done
here, with a state that is handed in and out. Every causal convolution of kernel 3 sees the last
two frames of its own past, so encoding 33 and then 24 frames equals encoding 57 at once. Pixels
are -1 to 1; latents are as the transformer has them, normalised for each channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from scheduler.core.errors import InvariantError, PluginError

FRAMES = 8
"""Frames of a latent, after the first one of a stream, which has one."""


Past = tuple[Tensor, ...]
"""The last two inputs of every causal convolution, in the order of the walk; each (B, channels,
2, height, width). Empty before the first call."""
Step = Callable[[Tensor, Past], tuple[Tensor, Past]]
"""From what comes next in a stream, and its past, to what becomes of both."""


@dataclass(frozen=True)
class ConvState:
    """What a stream through the autoencoder remembers."""

    past: Past = ()

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(tensor.nbytes for tensor in self.past)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """Returns it on a device."""
        return type(self)(
            tuple(tensor.to(device, non_blocking=non_blocking) for tensor in self.past)
        )

    def split(self, batch: int) -> list[Self]:
        """Returns the sessions one by one; none keeps the memory of the others."""
        if batch == 1:
            return [self]
        return [
            type(self)(tuple(tensor[at : at + 1].clone() for tensor in self.past))
            for at in range(batch)
        ]

    @classmethod
    def stack(cls, states: list[Self]) -> Self:
        """Puts sessions into one batch.

        Raises:
            ValueError: Some are at their beginning, and others are not.
        """
        return cls(tuple(torch.cat(each) for each in zip(*(it.past for it in states), strict=True)))


class _Tape:
    """Pasts that one call reads, and those that it leaves, in the order of the walk."""

    def __init__(self, past: tuple[Tensor, ...], memory_format: torch.memory_format) -> None:
        self._before: Iterator[Tensor] = iter(past)
        self._format = memory_format
        self.is_first = len(past) == 0
        self.after: list[Tensor] = []

    def conv(self, layer: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - diffusers' own module
        """Applies a causal convolution after its past: before the first frame, that frame."""
        looks_back = layer.kernel_size[0] - 1
        if not looks_back:
            return layer.conv(x)
        past = x[:, :, :1].repeat(1, 1, looks_back, 1, 1) if self.is_first else next(self._before)
        joined = torch.cat((past, x), dim=2).contiguous(memory_format=self._format)
        # A view would keep the whole of `joined` alive.
        self.after.append(joined[:, :, -looks_back:].clone())
        return layer.conv(joined)

    def resnet(self, block: Any, x: Tensor) -> Tensor:  # noqa: ANN401
        """Applies a residual block."""
        made = self.conv(block.conv1, block.nonlinearity(block.norm1(x)))
        made = self.conv(block.conv2, block.nonlinearity(block.norm2(made)))
        if block.norm3 is not None:
            x = block.norm3(x.movedim(1, -1)).movedim(-1, 1)
        if block.conv_shortcut is not None:
            x = block.conv_shortcut(x)
        return made + x

    def down(self, block: Any, x: Tensor) -> Tensor:  # noqa: ANN401
        """Applies a down-sampler; the very first frame counts twice."""
        if self.is_first:
            x = torch.cat((x[:, :, : block.stride[0] - 1], x), dim=2)
        mean = _gathered(x, block.stride).unflatten(1, (-1, block.group_size)).mean(2)
        return _gathered(self.conv(block.conv, x), block.stride) + mean

    def up(self, block: Any, x: Tensor) -> Tensor:  # noqa: ANN401
        """Applies an up-sampler; of what the very first frame becomes, the first is left out."""
        made = _spread(self.conv(block.conv, x), block.stride)
        if block.residual:
            time, rows, columns = block.stride
            repeats = time * rows * columns // block.upscale_factor
            made = made + _spread(x, block.stride).repeat(1, repeats, 1, 1, 1)
        return made[:, :, block.stride[0] - 1 :] if self.is_first else made


def _gathered(x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """Moves blocks of time, rows and columns into the channels."""
    time, rows, columns = stride
    x = x.unflatten(4, (-1, columns)).unflatten(3, (-1, rows)).unflatten(2, (-1, time))
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)


def _spread(x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """Takes blocks of time, rows and columns out of the channels."""
    x = x.unflatten(1, (-1, *stride))
    return x.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)


class StreamingVae:
    """Encodes and decodes streams with an `AutoencoderKLLTX2Video`."""

    def __init__(self, vae: Any) -> None:  # noqa: ANN401 - diffusers is not typed
        """Takes an autoencoder.

        Raises:
            PluginError: It is built in a way that is not known here.
        """
        config = vae.config
        if config.timestep_conditioning or any(config.decoder_inject_noise):
            raise PluginError("this autoencoder is conditioned or noisy: not one of LTX-2's")
        if "conv" in config.downsample_type or config.patch_size_t != 1:
            raise PluginError("this autoencoder samples down in a way that is not LTX-2's")
        if not config.encoder_causal:
            raise PluginError("this autoencoder's encoder looks ahead: it cannot stream")
        self.vae = vae
        self.memory_format = torch.contiguous_format
        """How the convolutions are given what they see: as their weights lie."""
        self.encode_step: Step = self._encoded
        """Encodes a window; a faster function that does the same may be put in its place."""
        self.decode_step: Step = self._decoded
        """Decodes one."""

    @property
    def is_causal(self) -> bool:
        """Whether the decoder was made to look at no later frame."""
        return bool(self.vae.config.decoder_causal)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        dtype: torch.dtype = self.vae.dtype
        return dtype

    def encode(self, pixels: Tensor, state: ConvState) -> tuple[Tensor, ConvState]:
        """Encodes the next frames of a stream.

        Args:
            pixels: (B, 3, frames, height, width); 1 + 8k frames in the first call, 8k later.
            state: After the frames before.

        Returns:
            The most likely latents, normalised, fp32, and the new state.
        """
        if pixels.shape[2] % FRAMES != int(not state.past):
            raise InvariantError("frames come as 1 + 8k, and then as multiples of 8")
        latents, past = self.encode_step(pixels, state.past)
        return latents, ConvState(past)

    def _encoded(self, pixels: Tensor, past: Past) -> tuple[Tensor, Past]:
        encoder, tape = self.vae.encoder, _Tape(past, self.memory_format)
        x = _patched(pixels.to(self.dtype), encoder.patch_size)
        x = tape.conv(encoder.conv_in, x)
        for block in encoder.down_blocks:
            for resnet in block.resnets:
                x = tape.resnet(resnet, x)
            for sampler in block.downsamplers or ():
                x = tape.down(sampler, x)
        for resnet in encoder.mid_block.resnets:
            x = tape.resnet(resnet, x)
        x = tape.conv(encoder.conv_out, encoder.conv_act(encoder.norm_out(x)))
        # The last channel is the logarithm of the variance, one for all.
        mean, std = self._statistics(x)
        return (x[:, :-1].float() - mean) / std, tuple(tape.after)

    def decode(self, latents: Tensor, state: ConvState) -> tuple[Tensor, ConvState]:
        """Decodes the next latents of a stream with a causal decoder: 8 frames each, the very
        first latent one.

        Args:
            latents: Normalised, (B, channels, t, height, width).
            state: After the latents before.

        Returns:
            Pixels, (B, 3, frames, height, width), and the new state.
        """
        pixels, past = self.decode_step(latents, state.past)
        return pixels, ConvState(past)

    def _decoded(self, latents: Tensor, past: Past) -> tuple[Tensor, Past]:
        decoder, tape = self.vae.decoder, _Tape(past, self.memory_format)
        x = tape.conv(decoder.conv_in, self._raw(latents))
        for resnet in decoder.mid_block.resnets:
            x = tape.resnet(resnet, x)
        for block in decoder.up_blocks:
            if block.conv_in is not None:
                x = tape.resnet(block.conv_in, x)
            for sampler in block.upsamplers or ():
                x = tape.up(sampler, x)
            for resnet in block.resnets:
                x = tape.resnet(resnet, x)
        x = tape.conv(decoder.conv_out, decoder.conv_act(decoder.norm_out(x)))
        return _unpatched(x, decoder.patch_size), tuple(tape.after)

    def decode_window(self, latents: Tensor) -> Tensor:
        """Decodes a few latents with a decoder that looks both ways: 1 + 8 (t - 1) frames."""
        decoded: Tensor = self.vae.decoder(self._raw(latents), None, causal=False)
        return decoded

    def _raw(self, latents: Tensor) -> Tensor:
        mean, std = self._statistics(latents)
        return (latents.float() * std + mean).to(self.dtype)

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        vae = self.vae
        mean, std = (
            each.float().to(like.device)[:, None, None, None]
            for each in (vae.latents_mean, vae.latents_std)
        )
        return mean, std / vae.config.scaling_factor


def _patched(pixels: Tensor, size: int) -> Tensor:
    """Moves squares of pixels into the channels, as the released weights have them."""
    x = pixels.unflatten(4, (-1, size)).unflatten(3, (-1, size))
    return x.permute(0, 1, 6, 4, 2, 3, 5).flatten(1, 3)


def _unpatched(x: Tensor, size: int) -> Tensor:
    """Takes squares of pixels out of the channels."""
    x = x.unflatten(1, (-1, size, size))
    return x.permute(0, 1, 4, 5, 3, 6, 2).flatten(5, 6).flatten(3, 4)
