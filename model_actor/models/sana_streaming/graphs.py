"""Passes of the transformer as CUDA graphs: one launch in place of a thousand.

A graph is of one shape, reads its inputs where they were when it was captured, and leaves what it
makes in one place. From the third window of a run on the past is always as long: there is one
graph for each size of batch, and the two windows before are computed without. Inputs are copied
to where the graph reads them; what all passes of a window share is copied once a window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree

from model_actor.models.sana_streaming.transformer import (
    FIRST_FRAMES,
    FRAMES,
    Committed,
    Context,
    Pass,
)

_WARM_UPS: Final = 2
_MadeT = TypeVar("_MadeT")


class Capture(Protocol):
    """Records work of the device, to be done again."""

    def __call__(self, work: Callable[[], _MadeT]) -> tuple[_MadeT, Callable[[], None]]:
        """Does some work, and returns what it made and what does it again in the same place."""


class CudaCapture:
    """Records CUDA graphs; they share the memory that lies between their inputs and results."""

    def __init__(self) -> None:
        """Nothing is recorded yet."""
        self._pool: Any = None

    def __call__(self, work: Callable[[], _MadeT]) -> tuple[_MadeT, Callable[[], None]]:
        """Records a graph, after the work was done twice: what is chosen or compiled at the
        first time is not part of it.
        """
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Nothing of one pass is needed in another, so that graphs may share this. Their results
        # are used before the next pass.
        with torch.cuda.graph(graph, pool=self._pool):
            made = work()
        self._pool = self._pool or graph.pool()
        return made, graph.replay


class _Inputs(NamedTuple):
    latents: Tensor
    source: Tensor
    timestep: Tensor
    context: Context


class _Recorded(NamedTuple):
    inputs: _Inputs
    made: tuple[Tensor, tuple[Committed, ...]]
    replay: Callable[[], None]


class GraphedPass:
    """A pass that is recorded for each steady shape when it first comes."""

    def __init__(self, one_pass: Pass, capture: Capture) -> None:
        """Takes the pass.

        Args:
            one_pass: Computes one.
            capture: Records it.
        """
        self._pass = one_pass
        self._capture = capture
        self._recorded: dict[Any, _Recorded] = {}
        self._loaded: dict[Any, Context] = {}
        """Of each shape, the context that was copied last."""

    def __call__(
        self, latents: Tensor, source: Tensor, timestep: Tensor, context: Context
    ) -> tuple[Tensor, tuple[Committed, ...]]:
        """Computes a pass; what it returns is written over by the next one."""
        if not _is_steady(latents, context):
            return self._pass(latents, source, timestep, context)
        given = _Inputs(latents, source, timestep, context)
        shape = _shape(given)
        recorded = self._recorded.get(shape)
        if recorded is None:
            inputs = _pytree.tree_map(lambda each: _own(each), given)
            made, replay = self._capture(lambda: self._pass(*inputs))
            recorded = self._recorded[shape] = _Recorded(inputs, made, replay)
        else:
            _fill(recorded.inputs[:3], given[:3])
            if self._loaded.get(shape) is not context:
                _fill(recorded.inputs.context, context)
        self._loaded[shape] = context
        recorded.replay()
        return recorded.made


def _is_steady(latents: Tensor, context: Context) -> bool:
    """Whether all windows to come are shaped like this."""
    past = (FIRST_FRAMES + FRAMES) * latents.shape[3] * latents.shape[4]
    full = all(each.keys.shape[2] == past for each in context.past)
    return full and context.frames == FRAMES


def _own(each: Any) -> Any:  # noqa: ANN401 - a leaf of any kind
    return each.clone() if isinstance(each, Tensor) else each


def _shape(given: _Inputs) -> tuple[Any, ...]:
    """Returns what tells graphs apart."""
    return tuple(
        (tuple(each.shape), each.dtype) if isinstance(each, Tensor) else each
        for each in _pytree.tree_leaves(given)
    )


def _fill(there: Any, given: Any) -> None:  # noqa: ANN401 - trees of the same shape
    for ours, theirs in zip(_pytree.tree_leaves(there), _pytree.tree_leaves(given), strict=True):
        if isinstance(ours, Tensor):
            ours.copy_(theirs)
