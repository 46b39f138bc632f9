"""The streaming transformer: from noisy and source latents of a window to velocity.

Two steps a window: `context` makes once what all passes of the window share (the past turned to
where it stands, the prompt's keys and values), `forward` is one pass. A pass for denoising
returns the velocity; the pass that commits returns the state after the window.
Source: arXiv 2605.30409 and the code released with it; our own arrangement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from model_actor.models.sana_streaming.gated_delta import GatedDeltaAttention, Memory
from model_actor.models.sana_streaming.layers import (
    CaptionProjection,
    CrossAttention,
    FeedForward,
    RMSNorm,
    TimeEmbedding,
)
from model_actor.models.sana_streaming.rotary import Rotation, positions, rotate, shift
from model_actor.models.sana_streaming.state import TransformerState
from model_actor.models.sana_streaming.windowed_attention import Past, Window, WindowedAttention

FIRST_FRAMES = 5
"""Latent frames of a first window: 33 pictures."""
FRAMES = 3
"""Latent frames of every later one: 24 pictures."""
SOFTMAX_EVERY = 4
"""One of so many blocks attends by softmax, as released."""
_PADDING_BIAS = -10_000.0


class Context(NamedTuple):
    """What all passes of a window share."""

    frames: int
    """Latent frames of the window."""
    rotation: Rotation
    """Of its tokens."""
    past: tuple[Past, ...]
    """What the softmax layers see of earlier windows."""
    mask: Tensor | None
    """Which of their keys there are, (B, 1, 1, keys) bool; None: all."""
    memory: tuple[Memory, ...]
    """Of the gated delta layers."""
    tail: Tensor
    """Of the feed-forward layers, (B, L, S, C)."""
    text: tuple[tuple[Tensor, Tensor], ...]
    """Keys and values of the prompt, for each block."""
    text_bias: Tensor
    """Added to scores of the prompt's tokens, (B, 1, 1, tokens)."""

    def of_block(self, index: int, remembered: Memory | Past) -> BlockContext:
        """Returns what a block needs of it.

        Args:
            index: Which block.
            remembered: What its attention knows of earlier windows.
        """
        return BlockContext(
            rotation=self.rotation,
            remembered=remembered,
            mask=self.mask,
            tail=self.tail[:, index],
            text=self.text[index],
            text_bias=self.text_bias,
        )


class BlockContext(NamedTuple):
    """What all passes of a window share of one block: tensors alone, and nothing that tells
    which block it is, so that all blocks of a kind are compiled as one.
    """

    rotation: Rotation
    remembered: Memory | Past
    mask: Tensor | None
    tail: Tensor
    """(B, S, C)."""
    text: tuple[Tensor, Tensor]
    text_bias: Tensor


class Committed(NamedTuple):
    """What a block has for the state."""

    attention: Memory | Window
    tail: Tensor


Pass = Callable[[Tensor, Tensor, Tensor, Context], tuple[Tensor, tuple[Committed, ...]]]
"""A pass over a window; see `SanaStreamingTransformer.forward`."""


class Block(nn.Module):
    """Attention over frames, attention to the prompt, feed-forward; modulated by time."""

    def __init__(
        self, channels: int, head_dim: int, heads: int, ratio: float, *, softmax: bool
    ) -> None:
        """Makes the layers; attention over frames is softmax or gated delta."""
        super().__init__()
        attention = WindowedAttention if softmax else GatedDeltaAttention
        self.attn1 = attention(channels, head_dim)
        self.attn2 = CrossAttention(channels, heads)
        self.ff = FeedForward(channels, ratio)
        self.scale_shift_table = nn.Parameter(torch.zeros(6, channels))

    def forward(
        self, x: Tensor, modulation: Tensor, context: BlockContext, grid: tuple[int, int]
    ) -> tuple[Tensor, Committed]:
        """Computes.

        Args:
            x: (B, t, S, C).
            modulation: (B, 6, C).
            context: Of the window, for this block.
            grid: Rows and columns of the tokens of a frame.
        """
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = (self.scale_shift_table + modulation)[
            :, :, None, None
        ].unbind(1)
        seen, rotation, past = _modulated(x, shift_1, scale_1), context.rotation, context.remembered
        if isinstance(self.attn1, WindowedAttention):
            made, kept = self.attn1(seen, rotation, past, context.mask)
        else:
            made, kept = self.attn1(seen, rotation, past)
        x = x + gate_1 * made
        x = x + self.attn2(x.flatten(1, 2), *context.text, context.text_bias).view_as(x)
        made, tail = self.ff(_modulated(x, shift_2, scale_2), grid, context.tail)
        return x + gate_2 * made, Committed(kept, tail)


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class SanaStreamingTransformer(ModelMixin, ConfigMixin):
    """SANA-Streaming's diffusion transformer with an explicit state."""

    _no_split_modules = ("Block",)
    _repeated_blocks = ("Block",)

    @register_to_config
    def __init__(
        self,
        depth: int = 20,
        hidden_size: int = 2240,
        num_heads: int = 20,
        linear_head_dim: int = 112,
        latent_channels: int = 128,
        source_channels: int = 128,
        caption_channels: int = 2304,
        mlp_ratio: float = 3.0,
        softmax_blocks: Sequence[int] | None = None,
    ) -> None:
        """Makes a transformer with weights that say nothing yet.

        Args:
            depth: Blocks.
            hidden_size: Channels, C.
            num_heads: Heads of the attention to the prompt.
            linear_head_dim: Channels of a head of the attention over frames, D; even.
            latent_channels: Channels of a latent.
            source_channels: Channels of a source latent.
            caption_channels: Channels of the text encoder.
            mlp_ratio: Width of the feed-forward layers.
            softmax_blocks: Which blocks attend by softmax, the others by gated delta; None: the
                last of every four.
        """
        super().__init__()
        self.softmax_blocks = tuple(
            range(SOFTMAX_EVERY - 1, depth, SOFTMAX_EVERY)
            if softmax_blocks is None
            else softmax_blocks
        )
        self.delta_blocks = tuple(each for each in range(depth) if each not in self.softmax_blocks)
        self.patch_embedding = nn.Linear(latent_channels + source_channels, hidden_size)
        self.time_embed = TimeEmbedding(hidden_size)
        self.time_proj = nn.Linear(hidden_size, 6 * hidden_size)
        self.caption_projection = CaptionProjection(caption_channels, hidden_size)
        self.caption_norm = RMSNorm(hidden_size, eps=1e-5)
        self.blocks = nn.ModuleList(
            Block(
                hidden_size,
                linear_head_dim,
                num_heads,
                mlp_ratio,
                softmax=index in self.softmax_blocks,
            )
            for index in range(depth)
        )
        self.scale_shift_table = nn.Parameter(torch.zeros(2, hidden_size))
        self.proj_out = nn.Linear(hidden_size, latent_channels)
        self.faster: Pass | None = None
        """Does what `one_pass` does, where a faster way was chosen."""

    def begin(self, batch: int, grid: tuple[int, int]) -> TransformerState:
        """Returns the state before the first window.

        Args:
            batch: Sessions.
            grid: Rows and columns of the latents.
        """
        config: Any = self.config
        weight = self.proj_out.weight
        dim, tokens = config.linear_head_dim, grid[0] * grid[1]
        heads = config.hidden_size // dim
        layers = (batch, len(self.delta_blocks), heads)
        nothing = weight.new_zeros(batch, len(self.softmax_blocks), heads, 0, dim)
        exact = {"dtype": torch.float32, "device": weight.device}
        return TransformerState(
            frames=torch.zeros(batch, dtype=torch.int64, device=weight.device),
            memory=torch.zeros(*layers, dim, dim, **exact),
            normalizer=torch.zeros(*layers, dim, **exact),
            sink_keys=nothing,
            sink_values=nothing,
            last_keys=nothing,
            last_values=nothing,
            has_last=torch.zeros(batch, dtype=torch.bool, device="cpu"),
            tail=weight.new_zeros(batch, config.depth, tokens, config.hidden_size),
        )

    def embed_text(self, text: Tensor) -> Tensor:
        """Projects the hidden states of prompts, (B, tokens, caption channels), to C channels."""
        return self.caption_norm(self.caption_projection(text))

    def context(
        self,
        state: TransformerState,
        text: Tensor,
        text_mask: Tensor,
        frames: int,
        grid: tuple[int, int],
    ) -> Context:
        """Makes what all passes of a window share.

        Args:
            state: Before the window.
            text: Hidden states of the prompts, (B, tokens, caption channels).
            text_mask: How much a token counts, 0 to 1, (B, tokens): its share of the attention
                that a whole one would get.
            frames: Latent frames of the window.
            grid: Rows and columns of the latents.
        """
        dim = self.config.linear_head_dim
        device = state.memory.device
        window = torch.arange(frames, dtype=torch.float64, device=device)
        embedded = self.embed_text(text.to(self.proj_out.weight.dtype))
        bias = text_mask.float().log().clamp(min=_PADDING_BIAS).to(embedded.dtype)
        return Context(
            frames=frames,
            rotation=positions(window, *grid, dim),
            past=self._past(state, grid),
            mask=_mask(state, frames * grid[0] * grid[1]),
            memory=tuple(
                Memory(state.memory[:, layer], state.normalizer[:, layer])
                for layer in range(len(self.delta_blocks))
            ),
            tail=state.tail,
            text=tuple(block.attn2.context(embedded) for block in self.blocks),
            text_bias=bias[:, None, None],
        )

    def forward(
        self, latents: Tensor, source: Tensor, timestep: Tensor, context: Context
    ) -> tuple[Tensor, tuple[Committed, ...]]:
        """Makes one pass over a window.

        Args:
            latents: Noisy latents, (B, channels, t, height, width).
            source: Latents of the source frames, of the same shape but for the channels.
            timestep: (B), 0 to 1000; the whole part counts.
            context: Of the window.

        Returns:
            The velocity, shaped as the latents, and what each block has for the state: to be
            used before the next pass.
        """
        return (self.faster or self.one_pass)(latents, source, timestep, context)

    def one_pass(
        self, latents: Tensor, source: Tensor, timestep: Tensor, context: Context
    ) -> tuple[Tensor, tuple[Committed, ...]]:
        """Computes a pass; see `forward`."""
        grid = (latents.shape[3], latents.shape[4])
        dtype = self.proj_out.weight.dtype
        both = torch.cat((latents, source), dim=1).to(dtype)
        x = self.patch_embedding(both.flatten(3).permute(0, 2, 3, 1))
        time = self.time_embed(timestep)
        modulation = self.time_proj(F.silu(time)).unflatten(-1, (6, -1))
        delta, softmax = iter(context.memory), iter(context.past)
        committed = []
        for index, block in enumerate(self.blocks):
            is_softmax = index in self.softmax_blocks
            remembered: Memory | Past = next(softmax) if is_softmax else next(delta)
            x, kept = block(x, modulation, context.of_block(index, remembered), grid)
            committed.append(kept)
        shifted, scale = (self.scale_shift_table + time[:, None])[:, :, None, None].unbind(1)
        velocity = self.proj_out(_modulated(x, shifted, scale))
        return velocity.permute(0, 3, 1, 2).unflatten(3, grid), tuple(committed)

    def advance(
        self, state: TransformerState, context: Context, committed: tuple[Committed, ...]
    ) -> TransformerState:
        """Returns the state after a window, from what the pass that commits it returned.

        The origin moves to the next window: what the gated delta layers have written is turned
        back by the length of this one.
        """
        turn = shift(context.frames, self.config.linear_head_dim, state.memory.device)
        memories = [committed[index].attention for index in self.delta_blocks]
        windows = [committed[index].attention for index in self.softmax_blocks]
        keys, values = (
            torch.stack([getattr(each, name) for each in windows], 1)
            if windows
            else state.sink_keys
            for name in ("keys", "values")
        )
        first = state.sink_keys.shape[3] == 0
        return TransformerState(
            frames=state.frames + context.frames,
            memory=rotate(torch.stack([each.written for each in memories], 1), turn),  # type: ignore[union-attr]
            normalizer=torch.stack([each.normalizer for each in memories], 1),  # type: ignore[union-attr]
            sink_keys=keys if first else state.sink_keys,
            sink_values=values if first else state.sink_values,
            last_keys=keys[:, :, :, :0] if first else keys,
            last_values=values[:, :, :, :0] if first else values,
            has_last=torch.full_like(state.has_last, not first),
            tail=torch.stack([each.tail for each in committed], 1),
        )

    def _past(self, state: TransformerState, grid: tuple[int, int]) -> tuple[Past, ...]:
        dim, tokens = self.config.linear_head_dim, grid[0] * grid[1]
        device = state.memory.device
        sink_frames = state.sink_keys.shape[3] // tokens
        last_frames = state.last_keys.shape[3] // tokens
        sink = torch.arange(sink_frames, dtype=torch.float64, device=device)
        last = torch.arange(-last_frames, 0, dtype=torch.float64, device=device)
        away = positions(sink - state.frames[:, None].double(), *grid, dim)
        rotation = Rotation(away.cos[:, None, None], away.sin[:, None, None])
        keys = torch.cat(
            (
                rotate(state.sink_keys, rotation),
                rotate(state.last_keys, positions(last, *grid, dim)),
            ),
            dim=3,
        )
        values = torch.cat((state.sink_values, state.last_values), dim=3)
        return tuple(Past(keys[:, each], values[:, each]) for each in range(keys.shape[1]))


def _mask(state: TransformerState, own: int) -> Tensor | None:
    """Returns which keys there are; None where no session is padded."""
    last = state.last_keys.shape[3]
    if not last or bool(state.has_last.all()):
        return None
    sink, device = state.sink_keys.shape[3], state.memory.device
    there = torch.ones(state.batch, sink + last + own, dtype=torch.bool, device=device)
    there[:, sink : sink + last] = state.has_last[:, None].to(device)
    return there[:, None, None]
