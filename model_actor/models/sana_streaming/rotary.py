"""Three-dimensional rotary positions, relative to the first frame of the window.

A head's channels are split into a temporal, a row and a column part, rotated by interleaved
pairs: pair `j` of a part of `dim` channels turns by `position * 10000^(-2j/dim)`. Attention
depends on differences of positions alone, so the window at hand always stands at 0, 1, 2, ...
and what is remembered of the past is turned back when the origin moves on. Tables are
constants, and a stream may be of any length.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BASE = 10_000.0


class Rotation(NamedTuple):
    """Cosines and sines of the angles of channel pairs, fp32, broadcast to (..., tokens, D/2)."""

    cos: Tensor
    sin: Tensor

    def inverse(self) -> Rotation:
        """Returns the rotation that takes this one back."""
        return Rotation(self.cos, -self.sin)


def parts(head_dim: int) -> tuple[int, int, int]:
    """Returns the channels of a head that tell time, row and column."""
    spatial = 2 * (head_dim // 6)
    return head_dim - 2 * spatial, spatial, spatial


def frequencies(dim: int, device: torch.device | None = None) -> Tensor:
    """Returns the angles that the pairs of a part turn by at position 1, float64."""
    pairs = torch.arange(dim // 2, dtype=torch.float64, device=device)
    return torch.pow(BASE, -2.0 * pairs / dim)


def positions(frames: Tensor, height: int, width: int, head_dim: int) -> Rotation:
    """Returns the rotation of every token of some frames.

    Args:
        frames: Temporal positions, (..., frames); float64, so that far ones are exact.
        height: Rows of tokens.
        width: Columns of tokens.
        head_dim: Channels of a head.

    Returns:
        (..., frames * height * width, head_dim / 2); tokens by frame, then row, then column.
    """
    device = frames.device
    of_time, of_row, of_column = (frequencies(dim, device) for dim in parts(head_dim))
    lead, count = frames.shape[:-1], frames.shape[-1]
    rows = torch.arange(height, dtype=torch.float64, device=device)
    columns = torch.arange(width, dtype=torch.float64, device=device)
    shape = (*lead, count, height, width)
    angles = torch.cat(
        (
            (frames[..., None, None, None] * of_time).expand(*shape, -1),
            (rows[:, None, None] * of_row).expand(*shape, -1),
            (columns[:, None] * of_column).expand(*shape, -1),
        ),
        dim=-1,
    ).flatten(-4, -2)
    return Rotation(angles.cos().float(), angles.sin().float())


def shift(frames: int, head_dim: int, device: torch.device | None = None) -> Rotation:
    """Returns the rotation by which a key of so many frames ago is turned back, (head_dim / 2)."""
    of_time, of_row, of_column = (frequencies(dim, device) for dim in parts(head_dim))
    angles = torch.cat((-frames * of_time, 0 * of_row, 0 * of_column))
    return Rotation(angles.cos().float(), angles.sin().float())


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turns the channel pairs of `x`, (..., tokens, head_dim), in fp32; keeps the dtype."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = rotation
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)
