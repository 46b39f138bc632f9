"""Tensors as the bytes of a safetensors file, without a copy of the whole on the way.

The library's own `save` and `load` hold everything two or three times; a session is of gigabytes.
What is written here is read by the library, and the other way round.
Source: https://github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

_METADATA: Final = "__metadata__"
_NAMES: Final = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_DTYPES: Final = {name: dtype for dtype, name in _NAMES.items()}


def head(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Returns what comes before the bytes of some tensors, which follow in their order."""
    told: dict[str, Any] = {_METADATA: dict(metadata)}
    at = 0
    for name, tensor in tensors.items():
        told[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, at + tensor.nbytes],
        }
        at += tensor.nbytes
    text = json.dumps(told, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def flat(tensor: Tensor) -> Tensor:
    """Returns the bytes of a tensor, where it is; a copy where it does not lie in its order."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def read(
    data: memoryview, device: torch.device | str
) -> tuple[Mapping[str, str], dict[str, Tensor]]:
    """Returns what `head` was given: metadata, and copies of the tensors on a device.

    Args:
        data: A whole file, writable (torch warns of others).
        device: Where the tensors go.

    Raises:
        ValueError: It is none, or cut short.
    """
    length = int.from_bytes(data[:8], "little")
    if not 0 < length <= len(data) - 8:
        raise ValueError("cut short")
    try:
        told = json.loads(bytes(data[8 : 8 + length]))
        metadata = told.pop(_METADATA, {})
        tensors, end = {}, 0
        for name, each in sorted(told.items(), key=lambda item: item[1]["data_offsets"]):
            begin, stop = each["data_offsets"]
            if begin != end:
                raise ValueError("tensors overlap or leave holes")
            dtype, shape, end = _DTYPES[each["dtype"]], each["shape"], stop
            tensors[name] = _placed(data[8 + length + begin : 8 + length + stop], device, dtype)
            tensors[name] = tensors[name].reshape(shape)
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError("not understood") from error
    if len(data) != 8 + length + end:
        raise ValueError("cut short, or too long")
    return metadata, tensors


def _placed(data: memoryview, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    if not len(data):
        return torch.empty(0, dtype=dtype, device=device)
    # Bytes first: on their way to their own memory, they need not lie as their type wants.
    there = torch.frombuffer(data, dtype=torch.uint8)
    placed = there.clone() if torch.device(device).type == "cpu" else there.to(device)
    return placed.view(dtype)
