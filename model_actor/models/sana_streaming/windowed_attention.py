"""Gated softmax attention over the first window, the last one and the one at hand.

No mask within: frames of a window see one another. Keys are kept as they are and turned to
where they stand, seen from the window at hand, once a window.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_actor.models.sana_streaming.layers import RMSNorm
from model_actor.models.sana_streaming.rotary import Rotation, rotate


class Past(NamedTuple):
    """What a window sees of earlier ones, (B, H, tokens, D), keys turned."""

    keys: Tensor
    values: Tensor


class Window(NamedTuple):
    """Keys, not turned, and values of a window, (B, H, tokens, D)."""

    keys: Tensor
    values: Tensor


class WindowedAttention(nn.Module):
    """The layer: projections, attention, an output gate."""

    def __init__(self, channels: int, head_dim: int) -> None:
        """Makes the projections."""
        super().__init__()
        self.heads = channels // head_dim
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.norm_q = RMSNorm(channels, eps=1e-5)
        self.norm_k = RMSNorm(channels, eps=1e-5)
        self.to_gate = nn.Linear(channels, channels)
        self.to_out = nn.Linear(channels, channels)

    def forward(
        self, x: Tensor, rotation: Rotation, past: Past, mask: Tensor | None
    ) -> tuple[Tensor, Window]:
        """Computes.

        Args:
            x: (B, t, S, C).
            rotation: Of the window's tokens.
            past: What is seen of earlier windows.
            mask: Which keys there are, (B, 1, 1, keys) bool; None: all.

        Returns:
            (B, t, S, C), and the window's own keys and values.
        """
        queries = rotate(self._by_head(self.norm_q(self.to_q(x))), rotation)
        own = Window(self._by_head(self.norm_k(self.to_k(x))), self._by_head(self.to_v(x)))
        keys = torch.cat((past.keys, rotate(own.keys, rotation)), dim=2)
        values = torch.cat((past.values, own.values), dim=2)
        seen = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        y = seen.transpose(1, 2).flatten(2).unflatten(1, x.shape[1:3])
        return self.to_out(y * F.silu(self.to_gate(x))), own

    def _by_head(self, x: Tensor) -> Tensor:
        """(B, t, S, C) to (B, H, t * S, D)."""
        return x.flatten(1, 2).unflatten(-1, (self.heads, -1)).transpose(1, 2)
