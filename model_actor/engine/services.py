"""What the sessions of an actor share, and what the scheduler said of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from opentelemetry.context import Context

from model_actor.engine.bookings import ComputeLedger
from model_actor.engine.encoder_pool import EncoderPool
from model_actor.media.workers import DecodeWorkers
from model_actor.plugin import Model, ModelInfo, SessionOptions
from model_actor.snapshots.states import KeptStates
from scheduler.core.ids import Principal
from scheduler.core.quality import FULL, Quality
from scheduler.process.storage import Storage

_ResultT = TypeVar("_ResultT")


class ComputeThread(Protocol):
    """The thread that all calls of the model come from."""

    def call(self, function: Callable[..., _ResultT], *arguments: object) -> Awaitable[_ResultT]:
        """Runs a function there, between two stages of anybody's windows."""

    def wake(self) -> None:
        """More may be ready to compute."""


class ModelStates:
    """The model's states of sessions."""

    def __init__(self, model: Model, thread: ComputeThread) -> None:
        """States of `model`, which lives on `thread`."""
        self._model = model
        self._thread = thread

    def wake(self) -> None:
        """More may be ready to compute."""
        self._thread.wake()

    async def open(self, session_id: str) -> object:
        """Makes the state of a session that begins."""
        return await self._thread.call(self._model.open, SessionOptions(session_id))

    async def snapshot(self, state: object) -> bytes:
        """Serialises a state between two windows."""
        return await self._thread.call(self._model.snapshot, state)

    async def restore(self, session_id: str, snapshot: bytes) -> object:
        """Makes a state from its serialised form."""
        return await self._thread.call(self._model.restore, SessionOptions(session_id), snapshot)

    async def close(self, state: object) -> None:
        """Releases a state."""
        await self._thread.call(self._model.close, state)


@dataclass(frozen=True, slots=True)
class EngineServices:
    """What all sessions of an actor share."""

    info: ModelInfo
    workers: DecodeWorkers
    storage: Storage
    encoders: EncoderPool
    ledger: ComputeLedger
    states: ModelStates
    kept: KeptStates
    bitrate: int
    """Bits per second of an output to begin with."""
    start_wait_s: float
    snapshot_every: int
    """Windows from one kept state to the next; 0: none is kept while a session runs."""
    departed: Callable[[str, int], None]
    """Takes a session and its epoch: it was handed over, and nothing of it is left to show."""
    source_wait_s: float = 2.0
    """Longest wait of start for a camera's first packet."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What the scheduler said of a session."""

    session_id: str
    epoch: int
    principal: Principal
    model: str
    context: Context
    restore: bool = False
    """It existed before: it waits for a snapshot, from a gateway or from what is kept."""
    computing: bool = False
    """Compute is booked for it already."""
    quality: Quality = FULL
    """How it is to run."""
