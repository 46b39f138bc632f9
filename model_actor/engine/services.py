"""What the sessions of an actor share, and what the scheduler said of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from opentelemetry.context import Context

from model_actor.chunk_watch import ChunkWatch
from model_actor.engine.bookings import ComputeLedger
from model_actor.engine.encoder_pool import EncoderPool
from model_actor.media.workers import DecodeWorkers
from model_actor.plugin import Model, ModelInfo, PartedModel, SessionOptions
from model_actor.snapshots.kept import ModelState, whole
from model_actor.snapshots.states import KeptStates
from scheduler.core.ids import Principal
from scheduler.core.quality import FULL, Quality
from scheduler.process.storage import Storage

if TYPE_CHECKING:
    from model_actor.engine.journal import Journals

_ResultT = TypeVar("_ResultT")


class ComputeThread(Protocol):
    """The thread that all calls of the model come from."""

    def call(self, function: Callable[..., _ResultT], *arguments: object) -> Awaitable[_ResultT]:
        """Runs a function there, between two stages of anybody's windows."""

    def wake(self) -> None:
        """More may be ready to compute."""

    def read_prompt(self, session_id: str, prompt: str) -> None:
        """Has the model read a prompt between two windows."""


class ModelStates:
    """The model's states of sessions."""

    def __init__(self, model: Model, thread: ComputeThread) -> None:
        """States of `model`, which lives on `thread`."""
        self._model = model
        self._thread = thread

    def wake(self) -> None:
        """More may be ready to compute."""
        self._thread.wake()

    def read_prompt(self, session_id: str, prompt: str) -> None:
        """A prompt was set: it is read before a window needs it."""
        self._thread.read_prompt(session_id, prompt)

    async def open(self, session_id: str) -> object:
        """Makes the state of a session that begins."""
        return await self._thread.call(self._model.open, SessionOptions(session_id))

    async def snapshot(self, state: object) -> ModelState:
        """Serialises a state between two windows; a large one as it is written."""
        if isinstance(self._model, PartedModel):
            return await self._thread.call(self._model.snapshot_parts, state)
        return await self._thread.call(self._model.snapshot, state)

    async def restore(self, session_id: str, snapshot: ModelState) -> object:
        """Makes a state from its serialised form."""
        options, data = SessionOptions(session_id), whole(snapshot)
        if isinstance(self._model, PartedModel):
            return await self._thread.call(self._model.restore_parts, options, memoryview(data))
        return await self._thread.call(self._model.restore, options, bytes(data))

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
    chunks: ChunkWatch
    """Hears of every chunk that is made."""
    journals: Journals | None = None
    """Where what sessions do is written down; None: nowhere."""
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
