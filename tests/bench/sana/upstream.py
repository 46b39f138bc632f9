"""The transformer's arithmetic as its authors wrote it, in plain torch: what a speed-up is
measured against.

One frame after the other in the gated delta layers, rotary positions as complex numbers of
double precision and counted from the beginning, caches as lists, keys of the prompt made anew in
every pass, and linear layers of the feed-forward part as convolutions. The weights are those of
our own transformer. Source: the code released with arXiv 2605.30409 (its path without fused
kernels).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from model_actor.models.sana_streaming import rotary, sampler
from model_actor.models.sana_streaming.transformer import SanaStreamingTransformer


class Cache(NamedTuple):
    """What a block remembers of earlier windows."""

    memory: Tensor | None = None
    total: Tensor | None = None
    windows: tuple[tuple[Tensor, Tensor], ...] = ()
    """Turned keys and values of the first and of the last window."""
    tail: Tensor | None = None


class Upstream:
    """A stream of one batch."""

    def __init__(self, model: SanaStreamingTransformer, grid: tuple[int, int]) -> None:
        """Begins.

        Args:
            model: Its weights are used, and nothing else of it.
            grid: Rows and columns of latents.
        """
        self.model, self.grid = model, grid
        self.caches = [Cache() for _ in model.blocks]
        self.frame = 0

    def edit(self, noise: Tensor, source: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Makes a window's latents in four steps."""
        latents, dtype = noise, self.model.proj_out.weight.dtype
        for time, before, after in sampler.schedule():
            velocity, _ = self._pass(latents, source, time, text, mask)
            latents = (latents.float() + (after - before) * velocity.float()).to(dtype).float()
        return latents

    def commit(self, latents: Tensor, source: Tensor, text: Tensor, mask: Tensor) -> None:
        """Puts finished latents into the caches."""
        _, self.caches = self._pass(latents, source, 0.0, text, mask)
        self.frame += latents.shape[2]

    def _pass(
        self, latents: Tensor, source: Tensor, time: float, text: Tensor, mask: Tensor
    ) -> tuple[Tensor, list[Cache]]:
        model: Any = self.model
        dtype, (batch, _, frames) = model.proj_out.weight.dtype, latents.shape[:3]
        x = torch.cat((latents, source), 1).to(dtype).flatten(2).transpose(1, 2)
        x = model.patch_embedding(x)
        at = torch.full((batch,), time, device=x.device)
        embedded = model.time_embed(at)
        modulation = model.time_proj(F.silu(embedded)).unflatten(-1, (6, -1))
        prompt = model.embed_text(text.to(dtype))
        bias = ((1 - mask.to(dtype)) * -10_000.0)[:, None, None]
        turns = self._turns(frames, x.device)
        caches = []
        for index, (block, cache) in enumerate(zip(model.blocks, self.caches, strict=True)):
            parts = (block.scale_shift_table + modulation)[:, :, None].unbind(1)
            seen = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + parts[1]) + parts[0]
            softmax = index in model.softmax_blocks
            attend = self._softmax if softmax else self._delta
            made, cache = attend(block.attn1, seen, turns, frames, cache)
            x = x + parts[2] * made
            x = x + block.attn2(x, *block.attn2.context(prompt), bias)
            seen = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + parts[4]) + parts[3]
            made, cache = self._feed_forward(block.ff, seen, frames, cache)
            x = x + parts[5] * made
            caches.append(cache)
        shift, scale = (model.scale_shift_table + embedded[:, None])[:, :, None].unbind(1)
        velocity = model.proj_out(F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift)
        return velocity.transpose(1, 2).unflatten(2, (frames, *self.grid)), caches

    def _turns(self, frames: int, device: torch.device) -> Tensor:
        """Returns the rotation of each token as complex numbers."""
        at = torch.arange(self.frame, self.frame + frames, dtype=torch.float64, device=device)
        where = rotary.positions(at, *self.grid, self.model.config.linear_head_dim)
        return torch.complex(where.cos.double(), where.sin.double())

    def _delta(
        self,
        layer: Any,
        u: Tensor,
        turns: Tensor,
        frames: int,
        cache: Cache,
    ) -> tuple[Tensor, Cache]:
        heads = layer.heads
        q = _heads(F.relu(layer.norm_q(layer.to_q(u))), heads).float()
        k = _heads(F.relu(layer.norm_k(layer.to_k(u))), heads).float()
        v = _heads(layer.to_v(u), heads).float()
        tokens = u.shape[1] // frames
        k = k * (k.shape[-1] * tokens) ** -0.5
        turned_q, turned_k = _turned(q, turns), _turned(k, turns)
        beta = torch.sigmoid(layer.to_beta(u)).float().transpose(1, 2)
        mean = u.unflatten(1, (frames, tokens)).mean(2)
        rate = F.softplus(layer.to_decay(mean).float() + layer.decay_bias.float())
        alpha = torch.exp(-layer.decay_log.float().exp() * rate).to(u.dtype).float()
        one = torch.eye(k.shape[-1], device=u.device)
        each = [slice(f * tokens, (f + 1) * tokens) for f in range(frames)]

        def step(memory: Tensor, total: Tensor, f: int) -> tuple[Tensor, Tensor]:
            kept = alpha[:, f, :, None, None]
            weighted = turned_k[:, :, each[f]] * beta[:, :, each[f], None]
            plain = k[:, :, each[f]] * beta[:, :, each[f], None]
            memory = kept * memory @ (one - turned_k[:, :, each[f]].mT @ weighted)
            memory = memory + v[:, :, each[f]].mT @ weighted
            total = kept * (one - k[:, :, each[f]].mT @ plain) @ total
            return memory, total + plain.sum(2)[..., None]

        zero = torch.zeros(*v.shape[:2], v.shape[-1], v.shape[-1], device=u.device)
        memory = zero if cache.memory is None else cache.memory
        total = zero[..., :1] if cache.total is None else cache.total
        forth = []
        for f in range(frames):
            memory, total = step(memory, total, f)
            forth.append((memory, total))
        back = [(zero, zero[..., :1])]
        for f in range(frames - 1, 0, -1):
            back.append(step(*back[-1], f))
        made = []
        for f, ((m, z), (r, s)) in enumerate(zip(forth, back[::-1], strict=True)):
            found = turned_q[:, :, each[f]] @ (m + r).mT
            made.append(found / (q[:, :, each[f]] @ (z + s) + 1e-8))
        y = torch.cat(made, 2).transpose(1, 2).flatten(2).to(u.dtype)
        out = layer.to_out(y * F.silu(layer.to_gate(u)))
        return out, cache._replace(memory=memory, total=total)

    def _softmax(
        self,
        layer: Any,
        u: Tensor,
        turns: Tensor,
        frames: int,
        cache: Cache,
    ) -> tuple[Tensor, Cache]:
        del frames
        q = _turned(_heads(layer.norm_q(layer.to_q(u)), layer.heads), turns)
        own = (
            _turned(_heads(layer.norm_k(layer.to_k(u)), layer.heads), turns),
            _heads(layer.to_v(u), layer.heads),
        )
        k, v = (torch.cat(each, 2) for each in zip(*cache.windows, own, strict=True))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out = layer.to_out(y * F.silu(layer.to_gate(u)))
        return out, cache._replace(windows=(*cache.windows[:1], own))

    def _feed_forward(
        self,
        layer: Any,
        u: Tensor,
        frames: int,
        cache: Cache,
    ) -> tuple[Tensor, Cache]:
        batch, tokens, channels = u.shape
        x = u.reshape(batch * frames, *self.grid, channels).permute(0, 3, 1, 2)
        x = F.silu(F.conv2d(x, layer.expand.weight[:, :, None, None], layer.expand.bias))
        value, gate = layer.spatial(x).chunk(2, dim=1)
        x = F.conv2d(value * F.silu(gate), layer.contract.weight[:, :, None, None])
        p = x.unflatten(0, (batch, frames)).flatten(3).permute(0, 2, 1, 3)
        first = torch.zeros_like(p[:, :, :1]) if cache.tail is None else cache.tail
        padded = torch.cat((first, p, torch.zeros_like(p[:, :, :1])), dim=2)
        taps = layer.temporal.unflatten(1, (3, channels)).transpose(1, 2)[..., None]
        made = (p + F.conv2d(padded, taps)).permute(0, 2, 3, 1)
        return made.reshape(batch, tokens, channels), cache._replace(tail=p[:, :, -1:])


def _heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _turned(x: Tensor, turns: Tensor) -> Tensor:
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turns).flatten(-2).to(x.dtype)
