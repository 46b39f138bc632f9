"""Names of the ways to be faster; apart, so that listing them imports no torch."""

from __future__ import annotations

from typing import Final

SPEED_OPTIONS: Final = {
    "compile": "on: blocks, encoding and decoding are compiled with torch.compile (default: off)",
    "graphs": "on: passes of the transformer are CUDA graphs (default: off)",
    "fp8": "on: linear layers in 8 bits, on Hopper or later (default: off)",
    "tf32": "on: the products that are fp32 lose 13 bits (default: off)",
    "channels_last": "on: the autoencoder's memory has channels last (default: off)",
    "overlap": "on: sessions of a batch go through the stages on streams of their own, not in one "
    "call (default: off)",
}
"""Names and explanations."""
ON_OFF: Final = {"on": True, "off": False}
