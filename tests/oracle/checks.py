"""What is compared: a name, an error, and how much of it there may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from torch import Tensor

SAMPLER: Final = 5e-6
WITHIN: Final = 2e-5
"""Of what a sampler computes on its way: velocities, of which a share is added to latents, and
caches."""
ENCODER: Final = 1e-5
DECODER: Final = 2e-3
"""References are stored in fp16."""
TEXT: Final = 1e-5
LAYER: Final = 5e-6
_LOUD: Final = 8.0
"""fp32 and fp16 round in proportion: where a reference is larger than this, so are tolerances."""


@dataclass(frozen=True)
class Check:
    """One comparison."""

    name: str
    error: float
    """Largest difference; 0 where something had to be equal and was."""
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the error is small enough; one that is no number is not."""
        return self.error <= self.tolerance


@dataclass
class Part:
    """The comparisons of one part of the model."""

    name: str
    checks: list[Check] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    """What the folder has no reference for."""
    fault: str = ""
    """Why the comparisons could not be made."""

    def compare(self, name: str, ours: Tensor, reference: Tensor, tolerance: float) -> None:
        """Notes the largest difference of two tensors."""
        if ours.shape != reference.shape:
            self.note(f"{name}: shape", float("inf"), 0.0)
            return
        reference = reference.float()
        scale = max(1.0, float(reference.abs().max()) / _LOUD)
        error = float((ours.float() - reference).abs().max())
        self.note(name, error, tolerance * scale)

    def note(self, name: str, error: float, tolerance: float) -> None:
        """Notes an error."""
        self.checks.append(Check(name, error, tolerance))

    def equal(self, name: str, ours: object, reference: object) -> None:
        """Notes whether two values are the same."""
        self.note(name, float(ours != reference), 0.0)

    def found(self, references: Mapping[str, Tensor], *names: str) -> Iterator[str]:
        """Yields those of some references that are there; notes the others."""
        for name in names:
            if name in references:
                yield name
            else:
                self.absent.append(name)

    @property
    def passed(self) -> bool:
        """Whether all comparisons were made and came out well."""
        return not self.fault and all(check.passed for check in self.checks)
