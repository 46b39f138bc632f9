"""What windows are made with: versions and devices, as journals name them."""

from __future__ import annotations

import platform
import sys
from functools import cache
from importlib import metadata
from typing import Final

_LIBRARIES: Final = ("sana-gateway", "numpy", "av", "opencv-python-headless", "torch")


@cache
def environment(model: str) -> dict[str, str]:
    """Returns versions and devices, by name.

    Args:
        model: Name of the model's plugin.
    """
    told = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
    }
    for name in _LIBRARIES:
        try:
            told[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    for plugin in metadata.entry_points(group="sana_gateway.models", name=model):
        if plugin.dist is not None:
            told["plugin"] = f"{plugin.dist.name} {plugin.dist.version}"
    # Only a model imports torch; who has not, computes on the CPU.
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and torch.cuda.is_available()
    told["device"] = torch.cuda.get_device_name() if torch is not None and on_gpu else "cpu"
    return told


def differences(one: dict[str, str], other: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Returns what differs, with both values; "" where one of them does not say."""
    names = sorted(one.keys() | other.keys())
    pairs = {name: (one.get(name, ""), other.get(name, "")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
