"""What a session's stream remembers from one window to the next.

States are values: a window makes a new one and leaves the old as it was, so a failed window
costs nothing, and a snapshot is the state itself. The first dimension is the session's place
in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self, TypeVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class TensorState:
    """A record of tensors, each with the batch in front."""

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yields name and tensor."""
        for each in fields(self):
            yield each.name, getattr(self, each.name)

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Returns the record with every tensor changed."""
        return type(self)(**{name: change(tensor) for name, tensor in self.tensors()})

    @property
    def batch(self) -> int:
        """Number of sessions."""
        return next(tensor.shape[0] for _, tensor in self.tensors())

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(tensor.nbytes for _, tensor in self.tensors())

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """Returns it on a device."""
        return self.mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def clone(self) -> Self:
        """Returns a copy that shares no memory."""
        return self.mapped(torch.clone)

    def split(self) -> list[Self]:
        """Returns the sessions one by one; views, until they are written elsewhere."""
        return [self.mapped(lambda tensor, at=at: tensor[at : at + 1]) for at in range(self.batch)]  # type: ignore[misc]

    @classmethod
    def stack(cls, states: Sequence[Self]) -> Self:
        """Puts sessions of the same shape into one batch."""
        columns = zip(*(each.tensors() for each in states), strict=True)
        named = ((column[0][0], [tensor for _, tensor in column]) for column in columns)
        return cls(**{name: torch.cat(tensors) for name, tensors in named})


@dataclass(frozen=True)
class TransformerState(TensorState):
    """The past of the transformer: constant in size from the second window on.

    `L` counts the layers of a kind, `H` heads of `D` channels, `S` tokens of a frame.
    """

    frames: Tensor
    """Latent frames since the beginning, (B) int64: where the window at hand stands."""
    memory: Tensor
    """Gated delta layers: what was written under which key, (B, L, H, D, D) fp32; rows are value
    channels, columns key channels, turned to the origin of the next window."""
    normalizer: Tensor
    """Gated delta layers: sums of keys, (B, L, H, D) fp32; keys here are never turned."""
    sink_keys: Tensor
    """Softmax layers: keys of the first window, not turned, (B, L, H, frames * S, D); no frames
    before the first window."""
    sink_values: Tensor
    """Their values."""
    last_keys: Tensor
    """Softmax layers: keys of the last window; no frames before the second window, whose past is
    the first alone."""
    last_values: Tensor
    """Their values."""
    has_last: Tensor
    """Whether `last_keys` are keys or padding, (B) bool: a second window in a batch with later
    ones. Always in the host's memory: to look at it waits for no device."""
    tail: Tensor
    """Feed-forward layers: the last frame of what the temporal convolution sees, (B, L, S, C)."""

    def __post_init__(self) -> None:
        """Keeps `has_last` where it is asked for."""
        object.__setattr__(self, "has_last", self.has_last.cpu())

    @classmethod
    def stack(cls, states: Sequence[Self]) -> Self:
        """Puts sessions into one batch; those without a last window are padded.

        Raises:
            ValueError: Some have no past at all, and others have.
        """
        longest = max(states, key=lambda each: each.last_keys.shape[3])
        if len({each.sink_keys.shape[3] for each in states}) > 1:
            raise ValueError("a first window is no batch with later ones")
        return super().stack([_padded(each, longest.last_keys.shape[3]) for each in states])

    def split(self) -> list[Self]:
        """Returns the sessions one by one, without padding."""
        return [_unpadded(each) for each in super().split()]


def _padded(state: State, tokens: int) -> State:
    missing = tokens - state.last_keys.shape[3]
    if not missing:
        return state
    shape = (*state.last_keys.shape[:3], missing, state.last_keys.shape[4])
    nothing = state.last_keys.new_zeros(shape), state.last_values.new_zeros(shape)
    return replace(state, last_keys=nothing[0], last_values=nothing[1])


def _unpadded(state: State) -> State:
    if bool(state.has_last):
        return state
    nothing = state.last_keys[:, :, :, :0], state.last_values[:, :, :, :0]
    return replace(state, last_keys=nothing[0], last_values=nothing[1])


State = TypeVar("State", bound=TransformerState)
