"""Actors of one host without servers, and a gateway that shows pictures and outlives them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
from opentelemetry.context import Context

from model_actor.chunk_watch import ChunkWatch
from model_actor.engine.compute import Compute
from model_actor.engine.encoder_pool import EncoderPool
from model_actor.engine.live_session import LiveSession
from model_actor.engine.services import EngineServices, ModelStates, Placement
from model_actor.engine.shells import Shell
from model_actor.media.frames import FrameBlock
from model_actor.media.workers import DecodeWorkers
from model_actor.plugin import FewerSteps, Model, ModelInfo, SessionOptions, Stage, WindowTask
from model_actor.snapshots.host_tier import HostTier
from model_actor.snapshots.states import KeptStates
from model_actor.snapshots.storage_tier import StorageTier
from sana_gateway.v1 import command_pb2, message_pb2
from sana_gateway_internal.v1 import snapshot_pb2, stream_pb2
from scheduler.core.ids import Principal
from scheduler.process.storage import FilesystemStorage
from tests.unit.model_actor.session_bench import SIZE, FakeCamera, FakeClip, FakeLedger

CLIP = 33 + 6 * 24 + 5
"""Frames of the clip: eight windows, the last cut short."""


@dataclass
class Memory:
    """What `Rememberer` keeps of a session: a digest of all it has seen."""

    digest: bytes = b""
    windows: int = 0


class Rememberer:
    """A model whose pictures depend on every window, prompt and seed before them."""

    info: ClassVar[ModelInfo] = ModelInfo(
        name="rememberer",
        summary="Remembers.",
        stages=(Stage("generate", 1.0), Stage("commit", 0.0, off_latency_path=True)),
        width=SIZE,
        height=SIZE,
        degraded_steps=(FewerSteps(2, 0.5),),
    )

    def __init__(self) -> None:
        self.windows: list[tuple[int, int, str]] = []
        """(index, first frame, prompt) of every window made."""
        self.steps: list[int] = []
        """With how many steps each was made."""
        self.hold: asyncio.Event | None = None
        self.refuses_snapshots = False

    def configure(self, options: dict[str, str]) -> None: ...

    def load(self) -> None: ...

    def open(self, options: SessionOptions) -> Memory:
        return Memory()

    def stage(self, name: str, batch: list[WindowTask]) -> None:
        for task in batch:
            memory = cast(Memory, task.session)
            if name == "commit":
                memory.windows += 1
                continue
            if task.index == 0:
                memory.digest, memory.windows = str(task.seed).encode(), 0
            assert memory.windows == task.index, "the model's state is that of another window"
            seen = memory.digest + task.prompt.encode() + task.source.tobytes()
            memory.digest = hashlib.blake2b(seen, digest_size=8).digest()
            self.windows.append((task.index, task.first_frame, task.prompt))
            self.steps.append(task.steps)
            task.result = task.source ^ np.uint8(memory.digest[0] | 1)

    def snapshot(self, session: object) -> bytes:
        if self.refuses_snapshots:
            raise ValueError("a prompt, quoted by a model")
        memory = cast(Memory, session)
        return memory.windows.to_bytes(4, "big") + memory.digest

    def restore(self, options: SessionOptions, snapshot: bytes) -> Memory:
        return Memory(snapshot[4:], int.from_bytes(snapshot[:4], "big"))

    def close(self, session: object) -> None: ...


@dataclass
class LongFacts:
    width: int = 320
    height: int = 240
    num_frames: int = CLIP


class LongClip(FakeClip):
    """A clip whose frame n is grey n, to its end and beyond."""

    facts = LongFacts()  # type: ignore[assignment]

    async def read(self, first: int, count: int) -> FrameBlock:
        numbers = np.minimum(np.arange(first, first + count), CLIP - 1).astype(np.uint8)
        frames = np.broadcast_to(numbers[:, None, None], (count, SIZE * 3 // 2, SIZE)).copy()
        return FrameBlock(frames, tuple(range(first, first + count)), lambda: None)


class Camera(FakeCamera):
    """A camera whose frames carry their capture time."""

    def __init__(
        self, on_keyframe_needed: Callable[[], None], on_frames: Callable[[], None]
    ) -> None:
        super().__init__(on_keyframe_needed)
        self.times: list[int] = []
        self._on_frames = on_frames

    def come(self, *times: int) -> None:
        """Frames were decoded."""
        self.times.extend(times)
        self.available = len(self.times)
        self._on_frames()

    def skip_to(self, captured_us: int) -> bool:
        self.times = [time for time in self.times if time > captured_us]
        self.available = len(self.times)
        return bool(self.times)

    def take(self, count: int) -> FrameBlock:
        taken, self.times = self.times[:count], self.times[count:]
        self.available = len(self.times)
        frames = np.zeros((count, SIZE * 3 // 2, SIZE), np.uint8)
        frames += np.array(taken, np.uint8)[:, None, None]
        return FrameBlock(frames, tuple(taken), lambda: None)


class Workers:
    """Opens clips and cameras."""

    def __init__(self) -> None:
        self.cameras: asyncio.Queue[Camera] = asyncio.Queue()
        self.clips = 0
        self.broken: Exception | None = None
        """What is raised instead of a clip."""

    async def open_camera(
        self, on_keyframe_needed: Callable[[], None], on_frames: Callable[[], None], **_: object
    ) -> Camera:
        camera = Camera(on_keyframe_needed, on_frames)
        self.cameras.put_nowait(camera)
        return camera

    async def open_clip(self, fd: int, **_: Any) -> LongClip:
        self.clips += 1
        if self.broken is not None:
            raise self.broken
        return LongClip()


class Actor:
    """One actor of a host: sessions, model, kept states; no server and no scheduler."""

    def __init__(self, folder: Path, *, every: int = 2, host: str = "host") -> None:
        self.model = Rememberer()
        self.workers = Workers()
        self.ledger = FakeLedger()
        self.storage = FilesystemStorage(folder / "storage")
        self.kept = KeptStates(HostTier(folder / host, 0), StorageTier(self.storage), host)
        self.compute = Compute(cast(Model, self.model))
        self.encoders = EncoderPool(1)
        self.departed: list[tuple[str, int]] = []
        self.parted = asyncio.Event()
        self.services = EngineServices(
            info=self.model.info,
            workers=cast(DecodeWorkers, self.workers),
            storage=self.storage,
            encoders=self.encoders,
            ledger=self.ledger,
            states=ModelStates(cast(Model, self.model), self.compute),
            kept=self.kept,
            bitrate=300_000,
            start_wait_s=5.0,
            snapshot_every=every,
            departed=self._departed,
            chunks=ChunkWatch(self.model.info.name),
        )
        self.sessions: dict[str, LiveSession | Shell] = {}
        self._computing = asyncio.create_task(self.compute.run(self._live))

    async def admit(self, epoch: int, session_id: str = "s1", **told: Any) -> None:
        """Takes a session in."""
        principal = Principal("t", frozenset())
        placement = Placement(session_id, epoch, principal, "rememberer", Context(), **told)
        if placement.restore:
            await self.kept.claim(session_id, epoch)
            self.sessions[session_id] = Shell(placement, self.services, self._became)
            return
        session = LiveSession(placement, self.services, await self.services.states.open(session_id))
        self.sessions[session_id] = session
        session.go_on([])

    @property
    def session(self) -> LiveSession:
        """The one session, once it goes on."""
        session = self.sessions["s1"]
        assert isinstance(session, LiveSession)
        return session

    @property
    def shell(self) -> Shell:
        """The one session that waits."""
        shell = self.sessions["s1"]
        assert isinstance(shell, Shell)
        return shell

    async def die(self) -> None:
        """Ends as a killed process does, as far as others see: nothing is said or kept."""
        self._computing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._computing
        for session in self.sessions.values():
            if isinstance(session, LiveSession):
                session._closed = True
                session._gateways.clear()

    async def close(self) -> None:
        """Releases everything."""
        await self.die()
        for session in self.sessions.values():
            await session.close("test over", tell=False)
        await self.compute.close()
        await self.kept.close()
        await self.storage.close()
        self.encoders.close()

    def _live(self) -> list[LiveSession]:
        return [each for each in self.sessions.values() if isinstance(each, LiveSession)]

    def _became(self, shell: Shell, session: LiveSession) -> None:
        self.sessions[shell.placement.session_id] = session

    def _departed(self, session_id: str, epoch: int) -> None:
        self.departed.append((session_id, epoch))
        self.parted.set()


class Viewer:
    """A gateway: shows frames in order, as far as it is let, and keeps the newest snapshot."""

    def __init__(self, gateway_id: str = "g1") -> None:
        self._gateway_id = gateway_id
        self.told: list[stream_pb2.ControlResponse] = []
        self.pictures: list[tuple[int, int, npt.NDArray[np.uint8]]] = []
        """(run, frame, picture) as they were shown."""
        self.snapshot: snapshot_pb2.ControlSnapshot | None = None
        self.until_frame: int | None = None
        """Shows no frame from this one on; None: all."""
        self.run = 0
        self.next_frame = 0
        self.revision = 0
        self._waiting: list[tuple[stream_pb2.ChunkReady, list[npt.NDArray[np.uint8]]]] = []
        self._actor: Actor | None = None
        self._changed = asyncio.Event()
        self._ids = 0
        self._quiet = False
        self.packets: list[stream_pb2.VideoPacket] = []

    @property
    def gateway_id(self) -> str:
        return self._gateway_id

    def open(self, actor: Actor, restore: stream_pb2.Restore | None = None) -> None:
        """Takes part at an actor, which is the one that commits and commands go to."""
        self._actor = actor
        request = stream_pb2.Open(session_id="s1", restore=restore)
        session = actor.sessions["s1"]
        if isinstance(session, Shell):
            session.open(self, request)
        else:
            session.open(self)

    def open_quietly(self, actor: Actor) -> None:
        """Takes part, and shows nothing."""
        self._actor = actor
        self._quiet = True
        actor.session.open(self)

    def restore(self, *, handed_over: bool = False) -> stream_pb2.Restore:
        """What it knows of the session."""
        return stream_pb2.Restore(
            snapshot=self.snapshot,
            run=self.run,
            next_frame=self.next_frame,
            revision=self.revision,
            handed_over=handed_over,
        )

    def control(self, response: stream_pb2.ControlResponse) -> None:
        copy = stream_pb2.ControlResponse()
        copy.CopyFrom(response)
        self.told.append(copy)
        kind = copy.WhichOneof("response")
        if kind == "chunk" and not self._quiet:
            self._ready(copy.chunk)
        elif kind == "snapshot":
            self.snapshot = copy.snapshot.snapshot
        elif kind == "handed_over" and copy.handed_over.HasField("snapshot"):
            self.snapshot = copy.handed_over.snapshot
        elif kind == "message":
            self.revision = max(self.revision, copy.message.message.revision)
        self._changed.set()

    def media(self, packet: stream_pb2.VideoPacket, due_at: float) -> bool:
        self.packets.append(packet)
        self._changed.set()
        return True

    def show(self) -> None:
        """Shows what may be shown, and commits chunks that end."""
        assert self._actor is not None
        while self._waiting:
            chunk, pictures = self._waiting[0]
            while pictures and (self.until_frame is None or self.next_frame < self.until_frame):
                self.pictures.append((chunk.run, self.next_frame, pictures.pop(0)))
                self.next_frame += 1
            if pictures:
                break
            self._waiting.pop(0)
            session = self._actor.sessions["s1"]
            if isinstance(session, LiveSession):
                session.commit(
                    self._gateway_id, stream_pb2.Commit(run=chunk.run, chunk=chunk.chunk)
                )
        self.report()

    def report(self) -> None:
        """Reports its clock: it stands where it may show no more, and is fast elsewhere."""
        assert self._actor is not None
        buffered = sum(len(pictures) for _, pictures in self._waiting)
        due_in_us = 60_000_000 if buffered else 0
        report = stream_pb2.Playout(
            run=self.run, next_frame=self.next_frame, due_in_us=due_in_us, buffered=buffered
        )
        self._actor.sessions["s1"].playout(self._gateway_id, report)

    def lose(self) -> None:
        """The actor's link broke: what was not shown is gone with it."""
        self._waiting.clear()

    def command(self, **fields: Any) -> str:
        """Sends a command; returns its id."""
        assert self._actor is not None
        self._ids += 1
        command = command_pb2.Command(command_id=f"c{self._ids}", **fields)
        request = stream_pb2.SessionCommand(connection_id=7, command=command)
        self._actor.session.command(self._gateway_id, request)
        return command.command_id

    def prompt(self, text: str) -> None:
        """Sets the prompt."""
        self.command(set_prompt=command_pb2.SetPrompt(prompt=text))

    async def start_clip(self) -> None:
        """Stages the clip and starts."""
        mode = command_pb2.SetMode(mode=command_pb2.MODE_FILE)
        video = command_pb2.SetVideo(video=command_pb2.FileRef(upload_id="u1", size=4))
        self.command(set_mode=mode)
        self.command(set_video=video)
        self.prompt("one")
        await self.until(self.has("video_accepted"))
        self.command(start=command_pb2.Start())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for what is told next, until a condition holds."""
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    @property
    def messages(self) -> list[message_pb2.Message]:
        return [each.message.message for each in self.told if each.HasField("message")]

    def has(self, kind: str, count: int = 1) -> Callable[[], bool]:
        return lambda: (
            sum(1 for each in self.messages if each.WhichOneof("payload") == kind) >= count
        )

    def shows(self, frame: int) -> Callable[[], bool]:
        """Tells whether all before a frame was shown."""
        return lambda: self.next_frame >= frame

    @property
    def moved(self) -> list[int]:
        """The continuity of each move."""
        told = [each for each in self.messages if each.HasField("session_moved")]
        return [each.session_moved.continuity for each in told]

    def _ready(self, chunk: stream_pb2.ChunkReady) -> None:
        assert self._actor is not None
        actor = self._actor
        store = actor.session.store
        frames = [store.get(chunk.run, chunk.first_frame + n) for n in range(chunk.frames)]
        pictures = [frame.image.copy() for frame in frames if frame is not None]
        assert len(pictures) == chunk.frames, "frames were announced that are not there"
        if chunk.run != self.run:
            self.run, self.next_frame = chunk.run, 0
        waiting = self._waiting[-1][0] if self._waiting else None
        after = waiting.first_frame + waiting.frames if waiting is not None else self.next_frame
        assert chunk.first_frame == after, f"frame {chunk.first_frame} was announced, not {after}"
        self._waiting.append((chunk, pictures))
        asyncio.get_running_loop().call_soon(self.show)
