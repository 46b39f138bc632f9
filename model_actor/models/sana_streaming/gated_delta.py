"""Gated delta attention, one joint update a frame: linear in the number of tokens.

Per head, a memory `M` maps keys to values and a normaliser `z` sums keys. Frame `f` with keys
`K`, values `V` (columns are tokens) and strengths `B = diag(beta)` writes

    M_f = alpha_f M_{f-1} (I - K B K^T) + V B K^T        keys turned to their positions
    z_f = alpha_f (I - K B K^T) z_{f-1} + K beta         keys as they are

and reads `y_f = (M_f + R_f) Q_f / ((z_f + r_f)^T Q_f)`, where `R` and `r` are the same scan run
backwards over the later frames of the window, from nothing. With `P = I - K B K^T` and
`A = V B K^T` made for all frames at once, the scans are a few products of small matrices.
Source: arXiv 2605.30409, section 2.3 and appendix D.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_actor.models.sana_streaming.layers import RMSNorm
from model_actor.models.sana_streaming.rotary import Rotation, rotate

_EPS = 1e-8


class Memory(NamedTuple):
    """What a layer remembers, fp32."""

    written: Tensor
    """`M`, (B, H, D, D): rows are value channels, columns key channels."""
    normalizer: Tensor
    """`z`, (B, H, D)."""


class Frames(NamedTuple):
    """What the frames of a window write, (B, H, t, ...)."""

    keep: Tensor
    """`alpha P`, (..., D, D): symmetric up to alpha."""
    write: Tensor
    """`A`, (..., D, D)."""
    keep_sum: Tensor
    """`alpha P` of the keys as they are, (..., D, D)."""
    write_sum: Tensor
    """`K beta`, (..., D)."""


def updates(
    keys: Tensor, turned_keys: Tensor, values: Tensor, beta: Tensor, alpha: Tensor
) -> Frames:
    """Returns what each frame writes.

    Args:
        keys: (B, H, t, S, D) fp32.
        turned_keys: The same at their positions.
        values: (B, H, t, S, D) fp32.
        beta: Strength of each token, (B, H, t, S).
        alpha: What each frame keeps, (B, H, t).
    """
    weighted = turned_keys * beta[..., None]
    plain = keys * beta[..., None]
    identity = torch.eye(keys.shape[-1], dtype=keys.dtype, device=keys.device)
    decay = alpha[..., None, None]
    return Frames(
        keep=decay * (identity - turned_keys.mT @ weighted),
        write=values.mT @ weighted,
        keep_sum=decay * (identity - keys.mT @ plain),
        write_sum=plain.sum(-2),
    )


def scan(memory: Memory, frames: Frames) -> tuple[Memory, Tensor, Tensor]:
    """Runs the scans of a window.

    Returns:
        The memory after its last frame, and for each frame what it reads: `M_f + R_f`,
        (B, H, t, D, D), and `z_f + r_f`, (B, H, t, D).
    """
    count = frames.keep.shape[2]
    written, normalizer = memory
    forth, forth_sum = [], []
    for f in range(count):
        written = written @ frames.keep[:, :, f] + frames.write[:, :, f]
        normalizer = _apply(frames.keep_sum[:, :, f], normalizer) + frames.write_sum[:, :, f]
        forth.append(written)
        forth_sum.append(normalizer)
    back, back_sum = [torch.zeros_like(written)], [torch.zeros_like(normalizer)]
    for f in range(count - 1, 0, -1):
        back.append(back[-1] @ frames.keep[:, :, f] + frames.write[:, :, f])
        back_sum.append(_apply(frames.keep_sum[:, :, f], back_sum[-1]) + frames.write_sum[:, :, f])
    read = torch.stack(forth, 2) + torch.stack(back[::-1], 2)
    read_sum = torch.stack(forth_sum, 2) + torch.stack(back_sum[::-1], 2)
    return Memory(written, normalizer), read, read_sum


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]


class GatedDeltaAttention(nn.Module):
    """The layer: projections, gates, the scan, an output gate."""

    def __init__(self, channels: int, head_dim: int) -> None:
        """Makes the projections."""
        super().__init__()
        self.heads = channels // head_dim
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.norm_q = RMSNorm(channels, eps=1e-5)
        self.norm_k = RMSNorm(channels, eps=1e-5)
        self.to_beta = nn.Linear(channels, self.heads)
        self.to_decay = nn.Linear(channels, self.heads)
        self.decay_log = nn.Parameter(torch.zeros(self.heads))
        self.decay_bias = nn.Parameter(torch.zeros(self.heads))
        self.to_gate = nn.Linear(channels, channels)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, rotation: Rotation, memory: Memory) -> tuple[Tensor, Memory]:
        """Computes.

        Args:
            x: (B, t, S, C).
            rotation: Of the window's tokens.
            memory: After the window before, turned to this window's origin.

        Returns:
            (B, t, S, C), and the memory after this window, still at its origin.
        """
        frames, tokens = x.shape[1:3]
        queries = self._by_head(F.relu(self.norm_q(self.to_q(x))))
        keys = self._by_head(F.relu(self.norm_k(self.to_k(x))))
        keys = keys * (keys.shape[-1] * tokens) ** -0.5
        values = self._by_head(self.to_v(x))
        beta = torch.sigmoid(self.to_beta(x)).float().permute(0, 3, 1, 2)
        made = updates(
            keys, _turned(keys, rotation, frames), values, beta, self._kept(x).transpose(1, 2)
        )
        memory, read, read_sum = scan(memory, made)
        found = _turned(queries, rotation, frames) @ read.mT
        norm = queries @ read_sum[..., None]
        y = (found / (norm + _EPS)).permute(0, 2, 3, 1, 4).flatten(-2)
        return self.to_out(y.to(x.dtype) * F.silu(self.to_gate(x))), memory

    def _by_head(self, x: Tensor) -> Tensor:
        """(B, t, S, C) to (B, H, t, S, D), fp32."""
        return x.unflatten(-1, (self.heads, -1)).permute(0, 3, 1, 2, 4).float()

    def _kept(self, x: Tensor) -> Tensor:
        """Returns alpha, (B, t, H) fp32, rounded as the activations are."""
        rate = F.softplus(self.to_decay(x.mean(2)).float() + self.decay_bias.float())
        return torch.exp(-self.decay_log.float().exp() * rate).to(x.dtype).float()


def _turned(x: Tensor, rotation: Rotation, frames: int) -> Tensor:
    """Turns (B, H, t, S, D) by the rotation of all tokens."""
    return rotate(x.flatten(2, 3), rotation).unflatten(2, (frames, -1))
