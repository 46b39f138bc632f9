"""A folder of the oracle: what upstream's code computed from weights that are written beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor


@dataclass
class Folder:
    """Configuration and tensors, read when they are asked for."""

    path: Path
    _read: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """`config.json`."""
        read: dict[str, Any] = json.loads((self.path / "config.json").read_text())
        return read

    def has(self, part: str) -> bool:
        """Tells whether a part is there: its weights and what came out."""
        return all(self._file(f"{part}_{kind}").is_file() for kind in ("weights", "io"))

    def weights_file(self, part: str) -> Path:
        """Returns the file of a part's weights."""
        return self._file(f"{part}_weights")

    def weights(self, part: str) -> dict[str, Tensor]:
        """Returns the weights of a part, by upstream's names."""
        return self._tensors(f"{part}_weights")

    def io(self, part: str) -> dict[str, Tensor]:
        """Returns what went into a part and what came out."""
        return self._tensors(f"{part}_io")

    def _tensors(self, name: str) -> dict[str, Tensor]:
        if name not in self._read:
            self._read[name] = load_file(self._file(name))
        return self._read[name]

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.safetensors"
