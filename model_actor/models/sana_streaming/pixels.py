"""From I420 frames to the autoencoder's pixels and back: BT.709, limited range."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

_KR: Final = 0.2126
_KB: Final = 0.0722
_KG: Final = 1.0 - _KR - _KB
_BLACK: Final = 16.0
_LUMA: Final = 219.0
"""Steps between black and white."""
_CHROMA: Final = 224.0
_GREY: Final = 128.0


def from_i420(frames: Tensor) -> Tensor:
    """Returns pixels, -1 to 1.

    Args:
        frames: (frames, height * 3 / 2, width) uint8.

    Returns:
        (3, frames, height, width) fp32: red, green, blue.
    """
    count, rows, width = frames.shape
    height = rows * 2 // 3
    luma = (frames[:, :height].float() - _BLACK) / _LUMA
    chroma = frames[:, height:].reshape(count, 2, height // 2, width // 2).float()
    chroma = F.interpolate(chroma, size=(height, width), mode="bilinear", align_corners=False)
    blue, red = ((chroma - _GREY) / _CHROMA).unbind(1)
    r = luma + 2 * (1 - _KR) * red
    b = luma + 2 * (1 - _KB) * blue
    g = (luma - _KR * r - _KB * b) / _KG
    return torch.stack((r, g, b)).clamp(0, 1) * 2 - 1


def to_i420(pixels: Tensor) -> Tensor:
    """Returns frames, (frames, height * 3 / 2, width) uint8, of pixels (3, frames, height, width)
    from -1 to 1.
    """
    r, g, b = ((pixels.float() + 1) / 2).clamp(0, 1)
    luma = _KR * r + _KG * g + _KB * b
    blue = (b - luma) / (2 * (1 - _KB))
    red = (r - luma) / (2 * (1 - _KR))
    chroma = F.avg_pool2d(torch.stack((blue, red), dim=1), 2) * _CHROMA + _GREY
    frames, height, width = luma.shape
    planes = (
        luma * _LUMA + _BLACK,
        chroma.reshape(frames, height // 2, width),
    )
    return torch.cat(planes, dim=1).round().clamp(0, 255).to(torch.uint8)
