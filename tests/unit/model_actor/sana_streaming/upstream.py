"""Checkpoints as they are released: names and shapes, written down from the architecture.

Independent of the mapping that the product has: this goes the other way.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def shapes(
    *,
    depth: int,
    hidden: int,
    head_dim: int,
    latent: int,
    source: int,
    caption: int,
    tokens: int,
    positions: int,
    ratio: int = 3,
    softmax: tuple[int, ...] = (),
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields the tensors of a checkpoint."""
    heads, inside = hidden // head_dim, hidden * ratio
    yield "pos_embed", (1, positions, hidden)
    yield "x_embedder.proj.weight", (hidden, latent + source, 1, 1, 1)
    yield "x_embedder.proj.bias", (hidden,)
    yield from _linear("t_embedder.mlp.0", 256, hidden)
    yield from _linear("t_embedder.mlp.2", hidden, hidden)
    yield from _linear("t_block.1", hidden, 6 * hidden)
    yield "y_embedder.y_embedding", (tokens, caption)
    yield from _linear("y_embedder.y_proj.fc1", caption, hidden)
    yield from _linear("y_embedder.y_proj.fc2", hidden, hidden)
    yield "attention_y_norm.weight", (hidden,)
    for block in range(depth):
        name = f"blocks.{block}"
        taps = 3 if block in softmax else 1
        yield f"{name}.scale_shift_table", (6, hidden)
        for each in "qk":
            yield f"{name}.attn.{each}.weight", (hidden, hidden, taps)
            yield f"{name}.attn.{each}_norm.weight", (hidden,)
            yield f"{name}.cross_attn.{each}_norm.weight", (hidden,)
        yield f"{name}.attn.v.weight", (hidden, hidden)
        yield from _linear(f"{name}.attn.output_gate", hidden, hidden)
        yield from _linear(f"{name}.attn.proj", hidden, hidden)
        if block not in softmax:
            yield from _linear(f"{name}.attn.beta_proj", hidden, heads)
            yield from _linear(f"{name}.attn.gate_proj", hidden, heads)
            yield f"{name}.attn.A_log", (heads,)
            yield f"{name}.attn.dt_bias", (heads,)
        yield from _linear(f"{name}.cross_attn.q_linear", hidden, hidden)
        yield from _linear(f"{name}.cross_attn.kv_linear", hidden, 2 * hidden)
        yield from _linear(f"{name}.cross_attn.proj", hidden, hidden)
        yield f"{name}.mlp.inverted_conv.conv.weight", (2 * inside, hidden, 1, 1)
        yield f"{name}.mlp.inverted_conv.conv.bias", (2 * inside,)
        yield f"{name}.mlp.depth_conv.conv.weight", (2 * inside, 1, 3, 3)
        yield f"{name}.mlp.depth_conv.conv.bias", (2 * inside,)
        yield f"{name}.mlp.point_conv.conv.weight", (hidden, inside, 1, 1)
        yield f"{name}.mlp.t_conv.weight", (hidden, hidden, 3, 1)
    yield "final_layer.scale_shift_table", (2, hidden)
    yield from _linear("final_layer.linear", hidden, latent)


def _linear(name: str, wide: int, out: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (out, wide)
    yield f"{name}.bias", (out,)


def released() -> dict[str, Tensor]:
    """Returns the tensors of the released checkpoint, of shape alone."""
    sizes = shapes(
        depth=20,
        hidden=2240,
        head_dim=112,
        latent=128,
        source=128,
        caption=2304,
        tokens=300,
        positions=484,
        softmax=(3, 7, 11, 15, 19),
    )
    return {name: torch.empty(shape, device="meta") for name, shape in sizes}
