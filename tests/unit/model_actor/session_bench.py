"""One session on an actor, with a model, a clip, a ledger and gateways that tests can see."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import numpy as np
from opentelemetry.context import Context

from model_actor.chunk_watch import ChunkWatch
from model_actor.engine.compute import Compute
from model_actor.engine.encoder_pool import EncoderPool
from model_actor.engine.live_session import LiveSession
from model_actor.engine.services import EngineServices, ModelStates, Placement
from model_actor.media.camera import CameraPacket, CameraStats
from model_actor.media.errors import ClipFailedError, ClipRefusedError
from model_actor.media.frames import FrameBlock
from model_actor.media.workers import DecodeWorkers
from model_actor.plugin import Model, ModelInfo, SessionOptions, Stage, WindowTask
from model_actor.snapshots.states import KeptStates
from model_actor.snapshots.storage_tier import StorageTier
from sana_gateway.v1 import command_pb2, message_pb2
from sana_gateway_internal.v1 import stream_pb2
from scheduler.core.ids import Principal
from scheduler.core.prompts import Share
from scheduler.core.quality import FULL, NO_COMPUTE, Quality

SIZE = 64
CLIP_FRAMES = 60


class Inverter:
    """A model that inverts, and fails when it is told to."""

    info: ClassVar[ModelInfo] = ModelInfo(
        name="inverter",
        summary="inverts",
        stages=(Stage("generate", 5.0), Stage("commit", 0.0, off_latency_path=True)),
        width=SIZE,
        height=SIZE,
    )

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.mixtures: list[tuple[Share, ...]] = []
        self.read: list[str] = []
        self.at_encode: dict[int, Callable[[], object]] = {}
        """What happens on the event loop while a window is encoded, by its index."""
        self.at_generate: dict[int, Callable[[], object]] = {}
        """Likewise while it is generated."""
        self._loop = asyncio.get_running_loop()
        self.fail_at: int | None = None
        self.fail_commit = False

    def configure(self, options: dict[str, str]) -> None: ...

    def load(self) -> None: ...

    def open(self, options: SessionOptions) -> object:
        return options.session_id

    def stage(self, name: str, batch: list[WindowTask]) -> None:
        task = batch[0]
        meanwhile = {"encode": self.at_encode, "generate": self.at_generate}.get(name, {})
        if task.index in meanwhile:
            done = threading.Event()
            happens = meanwhile.pop(task.index)
            self._loop.call_soon_threadsafe(lambda: (happens(), done.set()))
            assert done.wait(20)
        if name == "encode":
            return
        if name == "commit":
            if self.fail_commit:
                raise ValueError(task.prompt)
            return
        if task.index == self.fail_at:
            raise ValueError(task.prompt)
        self.prompts.append(task.prompt)
        self.mixtures.append(task.earlier)
        task.result = 255 - task.source

    def snapshot(self, session: object) -> bytes:
        return b""

    def restore(self, options: SessionOptions, snapshot: bytes) -> object:
        return options.session_id

    def close(self, session: object) -> None: ...

    def read_prompt(self, prompt: str) -> None:
        self.read.append(prompt)


@dataclass
class Facts:
    width: int = 320
    height: int = 240
    num_frames: int = CLIP_FRAMES


class FakeClip:
    """A clip whose frame n is grey n."""

    facts = Facts()

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.broken_from: int | None = None

    async def read(self, first: int, count: int) -> FrameBlock:
        if self.broken_from is not None and first >= self.broken_from:
            raise ClipFailedError("a clip that was accepted can be decoded no further")
        numbers = np.minimum(np.arange(first, first + count), CLIP_FRAMES - 1).astype(np.uint8)
        frames = np.broadcast_to(numbers[:, None, None], (count, SIZE * 3 // 2, SIZE)).copy()
        return FrameBlock(frames, tuple(range(first, first + count)), lambda: None)

    async def close(self) -> None:
        self.closed.set()


class FakeCamera:
    """A decoder that remembers what it was given, and makes grey frames when told to."""

    def __init__(self, on_keyframe_needed: Callable[[], None]) -> None:
        self.ask_keyframe = on_keyframe_needed
        self.packets: list[CameraPacket] = []
        self.stats = CameraStats()
        self.available = 0
        self.rates: list[float] = []

    def pace(self, frame_rate: float) -> None:
        self.rates.append(frame_rate)

    def push(self, packet: CameraPacket) -> None:
        self.packets.append(packet)

    def take(self, count: int) -> FrameBlock:
        self.available -= count
        frames = np.zeros((count, SIZE * 3 // 2, SIZE), np.uint8)
        return FrameBlock(frames, tuple(range(count)), lambda: None)

    async def close(self) -> None: ...


class FakeWorkers:
    """Opens fake clips and cameras; refuses when it is told to."""

    def __init__(self) -> None:
        self.refusal: str | None = None
        self.broken = False
        self.clips: list[FakeClip] = []
        self.cameras: asyncio.Queue[FakeCamera] = asyncio.Queue()

    async def open_camera(self, on_keyframe_needed: Callable[[], None], **_: object) -> FakeCamera:
        camera = FakeCamera(on_keyframe_needed)
        self.cameras.put_nowait(camera)
        return camera

    async def open_clip(self, fd: int, **_: Any) -> FakeClip:
        if self.refusal is not None:
            raise ClipRefusedError(self.refusal)
        if self.broken:
            raise OSError("too many open files")
        self.clips.append(FakeClip())
        return self.clips[-1]


class FakeStorage:
    """Has every upload."""

    async def fetch(self, key: str, into: int) -> int:
        return 0


@dataclass
class FakeLedger:
    """Books at once, unless it is told not to."""

    book_now: bool = True
    quality: Quality = FULL
    log: list[str] = field(default_factory=list)
    given_back: asyncio.Event = field(default_factory=asyncio.Event)

    async def book(self, session_id: str, epoch: int) -> tuple[Quality, float]:
        self.log.append("book")
        return self.quality if self.book_now else NO_COMPUTE, 7.0

    async def unbook(self, session_id: str, epoch: int) -> None:
        self.log.append("unbook")
        self.given_back.set()


class Gateway:
    """A gateway that plays every chunk at once."""

    def __init__(self, bench: Bench, gateway_id: str = "g1", *, plays: bool = True) -> None:
        self._bench = bench
        self._gateway_id = gateway_id
        self._plays = plays
        self.told: list[stream_pb2.ControlResponse] = []
        self.packets: list[stream_pb2.VideoPacket] = []
        self.room = True
        self.refused = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def gateway_id(self) -> str:
        return self._gateway_id

    def control(self, response: stream_pb2.ControlResponse) -> None:
        copy = stream_pb2.ControlResponse()
        copy.CopyFrom(response)
        self.told.append(copy)
        self._changed.set()
        if self._plays and copy.HasField("chunk"):
            asyncio.get_running_loop().call_soon(self._play, copy.chunk)

    def media(self, packet: stream_pb2.VideoPacket, due_at: float) -> bool:
        if self.room:
            self.packets.append(packet)
            self._changed.set()
        else:
            self.refused.set()
        return self.room

    def _play(self, chunk: stream_pb2.ChunkReady) -> None:
        session = self._bench.session
        report = stream_pb2.Playout(run=chunk.run, next_frame=chunk.first_frame + chunk.frames)
        session.playout(self._gateway_id, report)
        commit = stream_pb2.Commit(run=chunk.run, chunk=chunk.chunk)
        session.commit(self._gateway_id, commit)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for what is told next, until a condition holds."""
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    @property
    def messages(self) -> list[message_pb2.Message]:
        return [each.message.message for each in self.told if each.HasField("message")]

    def kinds(self) -> list[str]:
        return [str(message.WhichOneof("payload")) for message in self.messages]

    def has(self, kind: str, count: int = 1) -> Callable[[], bool]:
        return lambda: self.kinds().count(kind) >= count


class Bench:
    """One session, one model, one or more gateways."""

    def __init__(self, model: Inverter | None = None) -> None:
        self.model = model or Inverter()
        self.workers = FakeWorkers()
        self.ledger = FakeLedger()
        self.compute = Compute(cast(Model, self.model))
        self.encoders = EncoderPool(1)
        self.chunks = ChunkWatch(self.model.info.name)
        services = EngineServices(
            info=self.model.info,
            workers=cast(DecodeWorkers, self.workers),
            storage=cast(Any, FakeStorage()),
            encoders=self.encoders,
            ledger=self.ledger,
            states=ModelStates(cast(Model, self.model), self.compute),
            kept=KeptStates(None, StorageTier(cast(Any, FakeStorage())), "here"),
            bitrate=300_000,
            start_wait_s=5.0,
            snapshot_every=4,
            departed=lambda _, __: None,
            chunks=self.chunks,
        )
        placement = Placement("s1", 3, Principal("t", frozenset()), "inverter", Context())
        self.session = LiveSession(placement, services, "state")
        self.session.go_on([])
        self._ids = 0

    def command(
        self, gateway: Gateway, command: command_pb2.Command, connection_id: int = 1002
    ) -> str:
        self._ids += 1
        command.command_id = command.command_id or f"c{self._ids}"
        self.session.command(
            gateway.gateway_id,
            stream_pb2.SessionCommand(connection_id=connection_id, command=command),
        )
        return command.command_id

    def stage_clip(self, gateway: Gateway, prompt: str = "one") -> None:
        file = command_pb2.FileRef(upload_id="u1")
        mode = command_pb2.SetMode(mode=command_pb2.MODE_FILE)
        self.command(gateway, command_pb2.Command(set_mode=mode))
        self.command(gateway, command_pb2.Command(set_video=command_pb2.SetVideo(video=file)))
        self.command(gateway, command_pb2.Command(set_prompt=command_pb2.SetPrompt(prompt=prompt)))

    def start(self, gateway: Gateway) -> str:
        return self.command(gateway, command_pb2.Command(start=command_pb2.Start()))
