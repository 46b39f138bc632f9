"""The parts of a block that do not look at other frames, and the embeddings."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FREQUENCIES = 128
"""Frequencies of the time embedding: half as many as its channels."""


class RMSNorm(nn.Module):
    """Divides by the root mean square over all channels, in fp32."""

    def __init__(self, channels: int, eps: float) -> None:
        """Makes a norm of weight 1."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalises the last dimension; keeps the dtype."""
        exact = x.float()
        scale = torch.rsqrt(exact.square().mean(-1, keepdim=True) + self.eps)
        return (exact * scale * self.weight.float()).to(x.dtype)


class TimeEmbedding(nn.Module):
    """Sinusoids of the time step, cosines first, and a small network."""

    def __init__(self, channels: int) -> None:
        """Makes the network."""
        super().__init__()
        self.linear_1 = nn.Linear(2 * FREQUENCIES, channels)
        self.linear_2 = nn.Linear(channels, channels)

    def forward(self, timestep: Tensor) -> Tensor:
        """Embeds time steps (B), of which the whole part counts; returns (B, C)."""
        numbers = torch.arange(FREQUENCIES, dtype=torch.float32, device=timestep.device)
        # The exponents are fp32, as in training; a thousand times a rate that an approximate
        # exponential has a bit of wrong would be seen.
        rates = (-math.log(10_000.0) * numbers / FREQUENCIES).double().exp().float()
        angles = timestep.long().float()[:, None] * rates
        waves = torch.cat((angles.cos(), angles.sin()), dim=-1)
        return self.linear_2(F.silu(self.linear_1(waves.to(self.linear_1.weight.dtype))))


class CaptionProjection(nn.Module):
    """From the text encoder's channels to the transformer's."""

    def __init__(self, caption_channels: int, channels: int) -> None:
        """Makes the two layers."""
        super().__init__()
        self.linear_1 = nn.Linear(caption_channels, channels)
        self.linear_2 = nn.Linear(channels, channels)

    def forward(self, caption: Tensor) -> Tensor:
        """Projects (B, tokens, caption channels)."""
        return self.linear_2(F.gelu(self.linear_1(caption), approximate="tanh"))


class CrossAttention(nn.Module):
    """Tokens look at the prompt."""

    def __init__(self, channels: int, heads: int) -> None:
        """Makes the projections."""
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels)
        self.to_kv = nn.Linear(channels, 2 * channels)
        self.norm_q = RMSNorm(channels, eps=1e-6)
        self.norm_k = RMSNorm(channels, eps=1e-6)
        self.to_out = nn.Linear(channels, channels)

    def context(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Returns keys and values of a prompt, (B, H, tokens, D): the same for a whole window."""
        keys, values = self.to_kv(text).chunk(2, dim=-1)
        return self._by_head(self.norm_k(keys)), self._by_head(values)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """Attends.

        Args:
            x: (B, N, C).
            keys: As `context` made them.
            values: As `context` made them.
            bias: Added to the scores: 0 for a token that counts, -10000 for padding;
                (B, 1, 1, tokens).
        """
        queries = self._by_head(self.norm_q(self.to_q(x)))
        seen = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
        return self.to_out(seen.transpose(1, 2).flatten(2))

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """A gated inverted bottleneck with a spatial and a temporal convolution.

    The temporal one sees one frame to either side: to the left the last frame of the window
    before, to the right nothing beyond the window.
    """

    def __init__(self, channels: int, ratio: float, temporal_kernel: int = 3) -> None:
        """Makes the layers; `ratio` times as wide inside."""
        super().__init__()
        hidden = int(channels * ratio)
        self.expand = nn.Linear(channels, 2 * hidden)
        self.spatial = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden)
        self.contract = nn.Linear(hidden, channels, bias=False)
        self.temporal = nn.Parameter(torch.zeros(channels, temporal_kernel * channels))
        """From the channels of three neighbouring frames, oldest first."""
        self.mix: nn.Module | None = None
        """Does what `temporal` says, where a faster way was chosen."""

    def forward(self, x: Tensor, grid: tuple[int, int], tail: Tensor) -> tuple[Tensor, Tensor]:
        """Computes.

        Args:
            x: (B, t, S, C).
            grid: Rows and columns of the tokens of a frame.
            tail: What an earlier window returned, (B, S, C); zeros before the first.

        Returns:
            (B, t, S, C), and the new tail.
        """
        wide = F.silu(self.expand(x)).flatten(0, 1).transpose(1, 2).unflatten(2, grid)
        wide = self.spatial(wide).flatten(2).transpose(1, 2).unflatten(0, x.shape[:2])
        value, gate = wide.chunk(2, dim=-1)
        made = self.contract(value * F.silu(gate))
        padded = torch.cat((tail[:, None].to(made), made, torch.zeros_like(made[:, :1])), dim=1)
        neighbours = torch.cat((padded[:, :-2], padded[:, 1:-1], padded[:, 2:]), dim=-1)
        mixed = F.linear(neighbours, self.temporal) if self.mix is None else self.mix(neighbours)
        return made + mixed, made[:, -1]
