"""Linear layers in 8 bits: weights scaled by output channel, what they see by token.

As in the released recipe for mixed precision (arXiv 2605.30409), embeddings, the output, gates,
the convolution over space and what has few channels stay as they are. Products are summed in
fp32 by the GPU's matrix units; Hopper is the first that has them. Elsewhere the same numbers are
multiplied in fp32: that tells what the rounding does, and is slow.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from model_actor.models.sana_streaming.transformer import SanaStreamingTransformer

DTYPE: Final = torch.float8_e4m3fn
_LARGEST: Final = torch.finfo(DTYPE).max
_LEAST_SCALE: Final = 1e-12
_MULTIPLE: Final = 16
"""Of channels, that the matrix units ask for."""
LAYERS: Final = (
    "attn1.to_q",
    "attn1.to_k",
    "attn1.to_v",
    "attn1.to_out",
    "attn2.to_q",
    "attn2.to_out",
    "ff.expand",
    "ff.contract",
)
"""Of every block; and `ff.temporal`, which is a layer only here."""


def quantised(x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns rows in 8 bits, and the scale of each, fp32.

    Args:
        x: (rows, channels).

    Returns:
        (rows, channels) and (rows, 1): their product is about `x`.
    """
    exact = x.float()
    scale = (exact.abs().amax(-1, keepdim=True) / _LARGEST).clamp(min=_LEAST_SCALE)
    return (exact / scale).clamp(-_LARGEST, _LARGEST).to(DTYPE), scale


class Fp8Linear(nn.Module):
    """A linear layer in 8 bits."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """Rounds the weights.

        Args:
            weight: (out, in).
            bias: (out); stays as it is.
        """
        super().__init__()
        rows, scale = quantised(weight.detach())
        self.register_buffer("weight", rows)
        self.register_buffer("scale", scale.mT.contiguous())
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """Computes; keeps the dtype."""
        rows, scale = quantised(x.flatten(0, -2))
        product = _on_matrix_units if x.is_cuda else _emulated
        made = product(rows, scale, self.weight, self.scale, self.bias, x.dtype)
        return made.unflatten(0, x.shape[:-1])


def apply(transformer: SanaStreamingTransformer) -> int:
    """Puts layers in 8 bits in place of those of a transformer; returns how many."""
    count = 0
    for block in transformer.blocks:
        for name in LAYERS:
            layer = block.get_submodule(name)
            if _fits(layer.weight):
                block.set_submodule(name, Fp8Linear(layer.weight, layer.bias))
                count += 1
        if _fits(block.ff.temporal):
            block.ff.mix = Fp8Linear(block.ff.temporal)
            block.ff.temporal = None
            count += 1
    return count


def supported(device: torch.device) -> bool:
    """Whether the matrix units of a device take 8 bits."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


def _fits(weight: Tensor) -> bool:
    return not any(size % _MULTIPLE for size in weight.shape)


def _on_matrix_units(
    rows: Tensor,
    row_scale: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    return torch._scaled_mm(  # noqa: SLF001 - the only way in torch to these units
        rows,
        weight.t(),
        scale_a=row_scale,
        scale_b=scale,
        bias=bias,
        out_dtype=dtype,
        use_fast_accum=True,
    )


def _emulated(
    rows: Tensor,
    row_scale: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    made = (rows.float() @ weight.float().t()) * row_scale * scale
    return (made if bias is None else made + bias.float()).to(dtype)
