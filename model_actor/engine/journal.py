"""The journal of a session: what it did, from which `sana-gateway replay` does it again.

Written by the actor, a line for each command and window, into small pieces in the storage
(`scheduler.process.journal_store`). The piece at hand is written anew as it grows, so an actor
that is killed takes at most the last window along, and before its frames were shown.

What costs time is done on threads: hashing frames (some 30 ms a window of 1280x704), writing.
A journal never holds anything up: what does not fit its queue or its bound is left out, and it
says so itself.
"""

from __future__ import annotations

import asyncio
import base64
import time
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import structlog

from model_actor.engine.services import Placement
from model_actor.engine.tracing import WindowTiming
from model_actor.media.frames import FrameBlock
from model_actor.plugin import Frames, ModelInfo
from model_actor.replay import records
from model_actor.replay.environment import environment
from model_actor.replay.pictures import reduced
from sana_gateway_internal.v1 import snapshot_pb2
from scheduler.core.commands import Command
from scheduler.core.run import WindowPlan
from scheduler.core.staging import Clip
from scheduler.process import journal_store as store
from scheduler.process.storage import SMALL, Storage, StorageError

PIECE_BYTES: Final = 64 * 1024
"""A piece that is longer is followed by the next."""
QUEUE: Final = 256
"""Lines that may wait to be written."""
REFERENCE_BYTES: Final = 512 * 1024
"""Largest picture that is kept at its own size; a larger one is kept at half of it."""
REFERENCE_EVERY: Final = 8
"""Windows from one reference picture to the next."""
CLOSE_S: Final = 2.0
"""How long a session that ends waits for its journal."""
SWEEP_S: Final = 3600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class JournalRules:
    """How journals are kept."""

    content: bool = False
    """Whether prompts and reference pictures are in all of them."""
    session_bytes: int = 8 * 1024 * 1024
    """Most bytes of one session's."""
    kept_s: float = 7 * 24 * 3600.0
    """How long they are kept, by the day."""


class Journals:
    """The journals of one actor's sessions.

    Args:
        storage: Where they lie.
        rules: How they are kept.
        options: Of the model's plugin.
    """

    def __init__(self, storage: Storage, rules: JournalRules, options: Mapping[str, str]) -> None:
        self.storage = storage
        self.rules = rules
        self.options = options
        self.threads = ThreadPoolExecutor(2, thread_name_prefix="journal")

    def open(
        self, placement: Placement, info: ModelInfo, before: snapshot_pb2.JournalSnapshot | None
    ) -> Journal:
        """Opens the journal of a session.

        Args:
            placement: Whose.
            info: What the model declares.
            before: Where it lies already; None: it begins.
        """
        return Journal(self, placement, info, before)

    async def sweep(self) -> None:
        """Removes old journals, for ever."""
        while True:
            try:
                await store.sweep(self.storage, time.time(), self.rules.kept_s)
            except StorageError as error:
                log.warning("journals.not_swept", error=str(error))
            await asyncio.sleep(SWEEP_S)

    async def close(self) -> None:
        """Ends the threads."""
        await asyncio.to_thread(self.threads.shutdown)


@dataclass(slots=True)
class _Piece:
    """A part of the journal that lies in the storage, or is to."""

    name: str
    run: int
    """The newest run that it tells of."""
    size: int = 0


class Journal:
    """The journal of one session. Made by `Journals.open`."""

    def __init__(
        self,
        journals: Journals,
        placement: Placement,
        info: ModelInfo,
        before: snapshot_pb2.JournalSnapshot | None,
    ) -> None:
        self._journals = journals
        self._placement = placement
        self._info = info
        self._content = journals.rules.content or (before is not None and before.content)
        now = time.time()
        session_id = placement.session_id
        self._folder = store.folder_of(now, session_id) if before is None else before.folder
        self._renewed = False
        """Whether the piece at hand is to be followed by another: this one says what it has."""
        self._begun = before is not None
        self._run = 0
        self._made = 0
        """Chunks of that run that were made."""
        self._pieces: deque[_Piece] = deque()
        self._number = 0
        self._text = ""
        """Of the piece at hand."""
        self._full_of: int | None = None
        """The run of which nothing more is written."""
        self._queue: deque[Callable[[], Awaitable[records.Record | None]]] = deque()
        self._missed = False
        self._digesting: _SourceDigest | None = None
        self._wake = asyncio.Event()
        self._closing = False
        self._actor = records.Actor(
            model=info.name,
            options=dict(journals.options),
            width=info.width,
            height=info.height,
            frame_rate=info.frame_rate,
            first_window=info.geometry.first_window,
            window=info.geometry.window,
            environment=environment(info.name),
        )
        self._writing = asyncio.create_task(self._write())

    def snapshot(self) -> snapshot_pb2.JournalSnapshot:
        """Returns what the next actor needs to go on with it."""
        return snapshot_pb2.JournalSnapshot(folder=self._folder, content=self._content)

    def keep_content(self) -> None:
        """The session's client wants prompts and reference pictures in it, from now on."""
        if not self._content:
            self._content = self._renewed = True

    # -- what is told ---------------------------------------------------------------------------

    def restored(self, run: int, windows: int) -> None:
        """The session came from another actor.

        Args:
            run: The run that it is at.
            windows: Windows that the model's state is after; -1: it is fresh.
        """
        self._run = run
        self._note(records.Restored(run, windows))

    def command(self, name: str, command: Command, run: int) -> None:
        """A command was accepted.

        Args:
            name: Its name.
            command: It.
            run: The run that the session is at.
        """
        chunk = self._made if run == self._run else 0
        self._note(records.Command(name, run, chunk, self._arguments(command)))

    def began(self, block: FrameBlock) -> FrameBlock:
        """A window begins; returns its source frames, which are hashed meanwhile."""
        digesting = self._digesting = _SourceDigest(block.frames)
        self._journals.threads.submit(digesting.run)

        def released() -> None:
            digesting.stop()
            block.release()

        return FrameBlock(block.frames, block.pts_us, released)

    def window(
        self,
        plan: WindowPlan,
        frames: Frames,
        timing: WindowTiming,
        *,
        steps: int,
        clip: Clip | None,
    ) -> None:
        """The frames of a window are finished.

        Args:
            plan: The window.
            frames: What the model made of it.
            timing: What it took.
            steps: Steps that the model took; 0: all it has.
            clip: What its source is; None: a camera.
        """
        self._run = plan.run
        self._made = max((each.index + 1 for each in plan.chunks), default=0)
        session_id, content = self._placement.session_id, self._content
        window = records.Window(
            run=plan.run,
            index=plan.index,
            first=plan.first_frame,
            source_frames=plan.source_frames,
            answers_from=plan.answers_from,
            frames=plan.frames,
            skip=plan.skip,
            seed=plan.seed,
            prompt=records.prompt_of(session_id, plan.prompt, content=content),
            earlier=records.earlier_of(session_id, plan.earlier, content=content),
            steps=steps,
            batch=timing.batch,
            last=plan.last,
            live=clip is None,
            clip={} if clip is None else _clip(clip),
            source="",
            chunks=tuple((each.index, each.first_frame, each.frames) for each in plan.chunks),
            digests=(),
        )
        source, self._digesting = self._digesting, None
        shown = frames[plan.skip : plan.frames]

        async def hashed() -> records.Record:
            loop = asyncio.get_running_loop()
            digests = await loop.run_in_executor(self._journals.threads, _digests, shown)
            known = source.result if source is not None else ""
            return replace(window, digests=digests, source=known)

        self._queue_up(hashed)
        if content and plan.index % REFERENCE_EVERY == 0 and len(shown):
            self._reference(plan.run, plan.answers_from + plan.frames - 1, frames[plan.frames - 1])

    def abandoned(self, next_run: int) -> None:
        """The run was given up."""
        self._note(records.Over(next_run - 1, "reset"))

    async def close(self) -> None:
        """Writes what is left, unless that takes too long."""
        self._closing = True
        self._wake.set()
        done, _ = await asyncio.wait({self._writing}, timeout=CLOSE_S)
        if not done:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

    # -- writing --------------------------------------------------------------------------------

    def _arguments(self, command: Command) -> dict[str, Any]:
        """Returns what a command says, without anything of the user's but what is opted in."""
        told: dict[str, Any] = {}
        for name in ("seed", "transition_chunks"):
            if (value := getattr(command, name, None)) is not None:
                told[name] = value
        if (mode := getattr(command, "mode", None)) is not None:
            told["mode"] = mode.value
        if (prompt := getattr(command, "prompt", None)) is not None:
            session_id = self._placement.session_id
            told["prompt"] = records.prompt_of(session_id, prompt, content=self._content)
        if (video := getattr(command, "video", None)) is not None:
            told["bytes"] = video.size
        return told

    def _reference(self, run: int, frame: int, picture: Frames) -> None:
        fits = picture.size <= REFERENCE_BYTES or self._info.width % 4 or self._info.height % 4
        scale = 1 if fits else 2

        async def kept() -> records.Record | None:
            loop = asyncio.get_running_loop()
            data = await loop.run_in_executor(self._journals.threads, _packed, picture, scale)
            return records.Reference(run, frame, scale, data)

        self._queue_up(kept)

    def _note(self, record: records.Record) -> None:
        async def known() -> records.Record:
            return record

        self._queue_up(known)

    def _queue_up(self, line: Callable[[], Awaitable[records.Record | None]]) -> None:
        if len(self._queue) >= QUEUE:
            self._missed = True
            return
        self._queue.append(line)
        self._wake.set()

    async def _write(self) -> None:
        """Writes lines in their order, until it is closed and all are written."""
        try:
            await self._begin()
            while self._queue or not self._closing:
                while self._queue:
                    record = await self._queue.popleft()()
                    if self._missed and not self._queue:
                        self._missed = False
                        await self._add(records.Over(self._run, "gap"))
                    if record is not None:
                        await self._add(record)
                await self._put_piece()
                if not self._closing:
                    await self._wake.wait()
                    self._wake.clear()
        except StorageError as error:
            log.warning("journal.ended", session_id=self._placement.session_id, error=str(error))
            self._queue.clear()

    async def _begin(self) -> None:
        placement = self._placement
        if not self._begun:
            owner = store.JournalOwner(placement.principal, placement.model)
            await self._journals.storage.put(f"{self._folder}/{store.OWNER}", owner.write())
            return
        for key in await store.pieces(self._journals.storage, self._folder):
            # What these tell of is not known here: of the present run, if one goes on.
            self._pieces.append(_Piece(key.rpartition("/")[2], self._run, PIECE_BYTES))

    async def _add(self, record: records.Record) -> None:
        run: int = getattr(record, "run", self._run)
        if run == self._full_of:
            return
        line = record.line()
        if not await self._make_room(len(line), run):
            return
        if self._renewed or isinstance(record, records.Reference):
            await self._put_piece()
            self._text, self._renewed = "", False
        if not self._text:
            self._begin_piece()
        self._text += line
        self._pieces[-1].size = len(self._text)
        self._pieces[-1].run = max(self._pieces[-1].run, run)
        if len(self._text) > PIECE_BYTES or isinstance(record, records.Reference):
            await self._put_piece()
            self._text = ""

    async def _make_room(self, size: int, run: int) -> bool:
        """Sees to it that a line of a run fits; runs before that one give way to it."""
        most = self._journals.rules.session_bytes
        while self._size + size > most:
            oldest = self._pieces[0] if len(self._pieces) > 1 else None
            if oldest is None or oldest.run >= run:
                self._full_of = run
                if not self._text:
                    self._begin_piece()
                self._text += records.Over(run, "full").line()
                return False
            self._pieces.popleft()
            await self._journals.storage.delete(f"{self._folder}/{oldest.name}")
        return True

    @property
    def _size(self) -> int:
        return sum(piece.size for piece in self._pieces)

    def _begin_piece(self) -> None:
        epoch = self._placement.epoch
        self._pieces.append(_Piece(store.piece_name(epoch, self._number), 0))
        self._text = records.Piece(
            records.VERSION, self._placement.session_id, epoch, self._number, self._content
        ).line()
        # In each, as the first of them may give way.
        self._text += self._actor.line()
        self._number += 1

    async def _put_piece(self) -> None:
        if self._text:
            data = self._text.encode()
            if len(data) <= SMALL:
                key = f"{self._folder}/{self._pieces[-1].name}"
                await self._journals.storage.put(key, data)


class _SourceDigest:
    """Hashes source frames on a thread, for as long as they stay what they are."""

    def __init__(self, frames: Frames) -> None:
        self._frames: Frames | None = frames
        self._stopped = False
        self.result = ""
        """The digest; empty while, or where, there is none."""

    def run(self) -> None:
        """Hashes; called on the thread."""
        frames = self._frames
        if frames is None or self._stopped:
            return
        result = records.digest_of_all(frames, lambda: self._stopped)
        if not self._stopped:
            self.result = result
        self._frames = None

    def stop(self) -> None:
        """The frames change from now on."""
        self._stopped = True


def _clip(clip: Clip) -> dict[str, int]:
    return {
        "frames": clip.num_frames,
        "width": clip.width,
        "height": clip.height,
        "bytes": clip.video.size,
    }


def _digests(frames: Frames) -> tuple[str, ...]:
    return tuple(records.digest(frame) for frame in frames)


def _packed(picture: Frames, scale: int) -> str:
    small = np.ascontiguousarray(reduced(picture, scale))
    return base64.b64encode(zlib.compress(small.tobytes(), 1)).decode()
