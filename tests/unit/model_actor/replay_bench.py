"""A session whose journal is kept, of a model that the test brings, and its replay."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import numpy as np
from opentelemetry.context import Context

from model_actor.chunk_watch import ChunkWatch
from model_actor.engine.compute import Compute
from model_actor.engine.encoder_pool import EncoderPool
from model_actor.engine.journal import JournalRules, Journals
from model_actor.engine.live_session import LiveSession
from model_actor.engine.services import EngineServices, ModelStates, Placement
from model_actor.media.frames import FrameBlock
from model_actor.media.workers import DecodeWorkers
from model_actor.plugin import Frames, Model
from model_actor.replay import reading, records
from model_actor.replay.comparing import RunResult, compare
from model_actor.replay.rendering import Rendering
from model_actor.snapshots.states import KeptStates
from model_actor.snapshots.storage_tier import StorageTier
from scheduler.core.ids import Principal
from scheduler.process import journal_store as store
from scheduler.process.storage import FilesystemStorage
from tests.unit.model_actor.session_bench import Bench, Facts, FakeLedger, FakeWorkers

FRAMES = 33 + 24 + 24


class MovingClip:
    """A clip of which no two frames are alike."""

    def __init__(self, width: int, height: int, frames: int = FRAMES) -> None:
        self.facts = Facts(width, height, frames)
        y, x = np.mgrid[: height * 3 // 2, :width]
        self._ground: Frames = ((x // 4 + y // 4) % 200).astype(np.uint8)

    async def read(self, first: int, count: int) -> FrameBlock:
        numbers = np.minimum(np.arange(first, first + count), self.facts.num_frames - 1)
        frames = np.stack([self._frame(int(number)) for number in numbers])
        frames.flags.writeable = False
        return FrameBlock(frames, tuple(range(first, first + count)), lambda: None)

    async def close(self) -> None: ...

    def _frame(self, number: int) -> Frames:
        frame: Frames = (self._ground + np.uint8(number % 16)) % 220 + 20
        return frame


class _Workers(FakeWorkers):
    def __init__(self, width: int, height: int) -> None:
        super().__init__()
        self._size = (width, height)

    async def open_clip(self, fd: int, **_: Any) -> Any:
        return MovingClip(*self._size)


class _Uploads(FilesystemStorage):
    """Has every upload."""

    async def fetch(self, key: str, into: int) -> int:
        return 0


class JournaledBench(Bench):
    """One session of a model, and its journal in a folder."""

    def __init__(self, model: Any, folder: Path, *, content: bool = False, epoch: int = 3) -> None:
        self.model = model
        self.storage = _Uploads(folder)
        self.workers = _Workers(model.info.width, model.info.height)
        self.ledger = FakeLedger()
        self.compute = Compute(cast(Model, model))
        self.encoders = EncoderPool(1)
        self.journals = Journals(self.storage, JournalRules(content=content), {})
        self._epoch = epoch

    async def begin(self) -> None:
        """Opens the session."""
        services = EngineServices(
            info=self.model.info,
            workers=cast(DecodeWorkers, self.workers),
            storage=self.storage,
            encoders=self.encoders,
            ledger=self.ledger,
            states=ModelStates(self.model, self.compute),
            kept=KeptStates(None, StorageTier(self.storage), "here"),
            bitrate=300_000,
            start_wait_s=5.0,
            snapshot_every=0,
            departed=lambda _, __: None,
            chunks=ChunkWatch(self.model.info.name),
            journals=self.journals,
        )
        await self.compute.load()
        state = await self.compute.call(self.model.open, _options())
        placement = Placement(
            "s1", self._epoch, Principal("t", frozenset()), self.model.info.name, Context()
        )
        self.session = LiveSession(placement, services, state)
        self.session.go_on([])
        self._ids = 0
        self._computing = asyncio.create_task(self.compute.run(lambda: [self.session]))

    async def end(self) -> bytes:
        """Closes the session; returns its journal as it is exported."""
        self._computing.cancel()
        await asyncio.gather(self._computing, return_exceptions=True)
        await self.session.close("the test is over")
        await self.compute.close()
        await asyncio.to_thread(self.encoders.close)
        folder = await store.find(self.storage, "s1")
        assert folder is not None
        keys = await store.pieces(self.storage, folder)
        text = b"".join([await self.storage.get(key) for key in keys])
        await self.journals.close()
        await self.storage.close()
        return text


def _options() -> Any:
    from model_actor.plugin import SessionOptions

    return SessionOptions("s1")


def journal_of(text: bytes) -> reading.Journal:
    """Reads a journal."""
    return reading.gather(records.read(text.splitlines(keepends=True)))


async def replayed(text: bytes, model: Any, *prompts: str) -> list[RunResult]:
    """Makes all runs of a journal again, and compares them."""
    journal = journal_of(text)
    known = journal.prompts
    known.update({records.prompt_digest("s1", prompt): prompt for prompt in prompts})
    clip = MovingClip(model.info.width, model.info.height)
    rendering = Rendering(model, journal.session, clip, known, records.digest_of_all)
    await rendering.load()
    try:
        return [await compare(journal, run, rendering) for run in journal.runs]
    finally:
        await rendering.close()
