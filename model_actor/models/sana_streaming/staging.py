"""From a device's memory to the host's, piece by piece, while the device computes on.

What is copied must not change meanwhile: states are values, so it does not.
On a GPU the pieces go through two pinned buffers on a stream of their own: while one is being
written somewhere, the next is under way. On the CPU they are where they are.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from model_actor.models.sana_streaming.tensor_bytes import flat

STAGE: Final = 1 << 26
"""Bytes of a pinned buffer."""
PIECE: Final = 1 << 20
"""Most bytes of a piece: what a processor's cache holds while it is summed and written."""


class Streams(Protocol):
    """What of a GPU's interface is needed, so that it can be tried without one."""

    def stream(self) -> Any:  # noqa: ANN401 - torch.cuda.Stream
        """Makes a stream."""

    def current(self) -> Any:  # noqa: ANN401
        """Returns the stream on which this thread's work goes."""

    def event(self) -> Any:  # noqa: ANN401 - torch.cuda.Event
        """Makes an event."""

    def using(self, stream: Any) -> AbstractContextManager[Any]:  # noqa: ANN401
        """Lets this thread's work go on a stream."""

    def keep(self, tensor: Tensor, stream: Any) -> None:  # noqa: ANN401
        """Memory that is read on a stream is not given away before that."""

    def pinned(self, size: int) -> Tensor:
        """Returns so many bytes of memory that the device copies to by itself."""


class CudaStreams:
    """A GPU."""

    def __init__(self, device: torch.device) -> None:
        """Takes the device."""
        self._device = device

    def stream(self) -> torch.cuda.Stream:
        """Makes a stream."""
        return torch.cuda.Stream(self._device)

    def current(self) -> torch.cuda.Stream:
        """Returns the stream on which this thread's work goes."""
        return torch.cuda.current_stream(self._device)

    def event(self) -> torch.cuda.Event:
        """Makes an event."""
        return torch.cuda.Event()

    def using(self, stream: torch.cuda.Stream) -> AbstractContextManager[Any]:
        """Lets this thread's work go on a stream."""
        return torch.cuda.stream(stream)

    def keep(self, tensor: Tensor, stream: torch.cuda.Stream) -> None:
        """Memory that is read on a stream is not given away before that."""
        if tensor.is_cuda:
            tensor.record_stream(stream)

    def pinned(self, size: int) -> Tensor:
        """Returns so many bytes of pinned memory."""
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)


class Copier(Protocol):
    """Reads tensors as bytes."""

    def mark(self) -> Any:  # noqa: ANN401
        """Returns a mark after all that was asked of the device so far, by this thread."""

    def pieces(self, tensors: Sequence[Tensor], mark: Any) -> Iterator[memoryview]:  # noqa: ANN401
        """Yields the bytes of tensors that are made by a mark, on any thread."""


class InPlace:
    """Memory of the host: there is nothing to be copied."""

    def mark(self) -> None:
        """All that was asked for is done."""

    def pieces(self, tensors: Sequence[Tensor], mark: None) -> Iterator[memoryview]:
        """Yields the bytes of tensors, where they are."""
        del mark
        for tensor in tensors:
            yield from _cut(flat(tensor))


class Pinned:
    """Memory of a GPU."""

    def __init__(self, streams: Streams) -> None:
        """Makes the buffers.

        Args:
            streams: Of the GPU.
        """
        self._streams = streams
        self._stream = streams.stream()
        self._buffers = (streams.pinned(STAGE), streams.pinned(STAGE))
        self._copied = (streams.event(), streams.event())
        self._lock = threading.Lock()

    def mark(self) -> Any:  # noqa: ANN401
        """Returns an event after all that this thread has asked of the device."""
        event = self._streams.event()
        event.record(self._streams.current())
        return event

    def pieces(self, tensors: Sequence[Tensor], mark: Any) -> Iterator[memoryview]:  # noqa: ANN401
        """Yields the bytes of tensors. One reader at a time: others wait."""
        with self._lock:
            self._stream.wait_event(mark)
            before: Tensor | None = None
            turn = 0
            try:
                for part in _stages(tensors):
                    there = self._copy(part, turn)
                    if before is not None:
                        self._copied[1 - turn].synchronize()
                        yield from _cut(before)
                    before, turn = there, 1 - turn
                if before is not None:
                    self._copied[1 - turn].synchronize()
                    yield from _cut(before)
            finally:
                # Nobody may write over, or give back, what is being copied.
                self._stream.synchronize()

    def _copy(self, part: Tensor, turn: int) -> Tensor:
        there = self._buffers[turn][: part.numel()]
        with self._streams.using(self._stream):
            there.copy_(part, non_blocking=True)
            self._copied[turn].record(self._stream)
        return there


class TensorBytes:
    """Tensors as a part of a snapshot: some bytes, then those of the tensors."""

    def __init__(self, head: bytes, tensors: Sequence[Tensor], copier: Copier) -> None:
        """Takes the tensors; all that was asked of the device so far is done before they are
        read.

        Args:
            head: The bytes before them.
            tensors: The tensors, in their order.
            copier: Reads them.
        """
        self._head = head
        # One that does not lie in its order is copied here, on the stream that made it.
        self._tensors = [flat(tensor) for tensor in tensors]
        self._copier = copier
        self._mark = copier.mark()
        self.size = len(head) + sum(tensor.numel() for tensor in self._tensors)

    def pieces(self) -> Iterator[memoryview]:
        """Yields the bytes."""
        if self._head:
            yield memoryview(self._head)
        yield from self._copier.pieces(self._tensors, self._mark)


def copier_of(device: torch.device) -> Copier:
    """Returns what reads the tensors of a device."""
    return Pinned(CudaStreams(device)) if device.type == "cuda" else InPlace()


def _stages(tensors: Sequence[Tensor]) -> Iterator[Tensor]:
    for tensor in tensors:
        for at in range(0, tensor.numel(), STAGE):
            yield tensor[at : at + STAGE]


def _cut(data: Tensor) -> Iterator[memoryview]:
    there = memoryview(data.numpy())
    for at in range(0, len(there), PIECE):
        yield there[at : at + PIECE]
