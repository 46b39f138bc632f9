"""Copies of a session make the same frames as the session itself, until their prompts differ.

A whole actor with `painter`, whose pictures depend on those before: real decode workers, kept
states as files, frames as the model made them. No encoder comes into it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from model_actor.conformance.checks import _psnr
from model_actor.engine.clock import WindowCost
from model_actor.engine.live_session import LiveSession
from model_actor.engine.shells import Shell
from model_actor.host import ModelHost
from model_actor.models.painter import PainterModel
from sana_gateway.v1 import command_pb2, message_pb2
from sana_gateway_internal.v1 import stream_pb2
from scheduler.core.chunks import Batching
from scheduler.core.quality import FULL, Quality
from scheduler.process.storage import FilesystemStorage
from tests.integration.model_hosts import Hosts, placement
from tests.media.clips import Recipe, make

pytestmark = pytest.mark.integration

WINDOWS = 5
FRAMES = 33 + (WINDOWS - 1) * 24
COPIES = ("s2", "s3")
ALIKE_DB = 45.0
"""Where copies and original were computed in batches of different size."""
WIDTH, HEIGHT = 640, 352


class Screen:
    """A gateway with one session: takes every frame as the model made it, shows it at once."""

    gateway_id = "g1"

    def __init__(self, host: ModelHost, session_id: str) -> None:
        self._host = host
        self._session_id = session_id
        self.frames: dict[int, npt.NDArray[np.uint8]] = {}
        self.told: list[stream_pb2.ControlResponse] = []
        self.until_frame: int | None = None
        """Shows nothing from this frame on, so that no more windows are wanted; None: all."""
        self._changed = asyncio.Event()
        self._chunks: list[stream_pb2.ChunkReady] = []

    @property
    def session(self) -> LiveSession:
        session = self._host.get(self._session_id)
        assert isinstance(session, LiveSession)
        return session

    def control(self, response: stream_pb2.ControlResponse) -> None:
        copy = stream_pb2.ControlResponse()
        copy.CopyFrom(response)
        self.told.append(copy)
        if copy.HasField("chunk"):
            chunk = copy.chunk
            for frame in range(chunk.first_frame, chunk.first_frame + chunk.frames):
                found = self.session.store.get(chunk.run, frame)
                assert found is not None
                self.frames[frame] = found.image.copy()
            self._chunks.append(chunk)
            asyncio.get_running_loop().call_soon(self.show)
        self._changed.set()

    def media(self, packet: stream_pb2.VideoPacket, due_at: float) -> bool:
        return True

    def show(self) -> None:
        """Shows what it may, and says so."""
        while self._chunks:
            chunk = self._chunks[0]
            end = chunk.first_frame + chunk.frames
            stops = self.until_frame is not None and end > self.until_frame
            report = stream_pb2.Playout(
                run=chunk.run,
                next_frame=chunk.first_frame if stops else end,
                due_in_us=60_000_000 if stops else 0,
                buffered=chunk.frames if stops else 0,
            )
            self.session.playout(self.gateway_id, report)
            if stops:
                return
            self._chunks.pop(0)
            commit = stream_pb2.Commit(run=chunk.run, chunk=chunk.chunk)
            self.session.commit(self.gateway_id, commit)

    def command(self, **fields: object) -> None:
        command = command_pb2.Command(command_id=f"c{len(self.told)}", **fields)  # type: ignore[arg-type]
        request = stream_pb2.SessionCommand(connection_id=1, command=command)
        self.session.command(self.gateway_id, request)

    def prompt(self, text: str) -> None:
        self.command(set_prompt=command_pb2.SetPrompt(prompt=text))

    def has(self, kind: str) -> Callable[[], bool]:
        def told() -> bool:
            messages: list[message_pb2.Message] = [
                each.message.message for each in self.told if each.HasField("message")
            ]
            return any(each.WhichOneof("payload") == kind for each in messages)

        return told

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
def batches(request: pytest.FixtureRequest) -> int:
    """Most sessions in one call of the model."""
    return int(getattr(request, "param", 1))


@pytest.fixture
async def host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: int
) -> AsyncIterator[ModelHost]:
    async def book(*_: object) -> tuple[Quality, float]:
        return FULL, 0.0

    monkeypatch.setattr("model_actor.enrolment.Enrolment.book", book)
    info = replace(PainterModel.info, width=WIDTH, height=HEIGHT, max_batch=batches)
    monkeypatch.setattr(PainterModel, "info", info)
    hosts = Hosts(tmp_path, model="painter")
    host, _ = await hosts.start()
    yield host
    await hosts.stop()


async def original(host: ModelHost, folder: Path) -> Screen:
    """Plays the first windows of a clip, and stops there."""
    storage = FilesystemStorage(folder / "storage")
    recipe = Recipe(frames=FRAMES, width=WIDTH, height=HEIGHT)
    clip = make(folder / "clip.mp4", recipe).read_bytes()
    await storage.put("s1/u1", clip)
    for copy in COPIES:
        await storage.link("s1/u1", f"{copy}/u1")
    await storage.close()
    assert await host.admit(placement(1)) == ""
    screen = Screen(host, "s1")
    screen.until_frame = 33
    screen.session.open(screen)
    screen.command(set_mode=command_pb2.SetMode(mode=command_pb2.MODE_FILE))
    upload = command_pb2.FileRef(upload_id="u1", size=len(clip))
    screen.command(set_video=command_pb2.SetVideo(video=upload))
    screen.prompt("an oil painting in the snow")
    await screen.until(screen.has("video_accepted"))
    screen.command(start=command_pb2.Start())
    await screen.until(lambda: len(screen.frames) >= 33)
    return screen


async def forked(host: ModelHost, screen: Screen) -> list[Screen]:
    """Copies what a screen shows, as its gateway does."""
    request = stream_pb2.Copy(session_id="s1", copies=COPIES)
    screen.session.copy(screen.gateway_id, request)
    await screen.until(lambda: any(each.HasField("copied") for each in screen.told))
    copied = next(each.copied for each in screen.told if each.HasField("copied"))
    assert list(copied.copies) == list(COPIES)
    copies = []
    for name in COPIES:
        told = placement(1, session_id=name, restore=True, computing=True)
        assert await host.admit(told) == ""
        copies.append(Screen(host, name))
        shell = host.get(name)
        assert isinstance(shell, Shell)
        snapshot = type(copied.snapshot)()
        snapshot.CopyFrom(copied.snapshot)
        snapshot.session_id, snapshot.epoch, snapshot.revision = name, 0, 0
        restore = stream_pb2.Restore(snapshot=snapshot)
        shell.open(copies[-1], stream_pb2.Open(session_id=name, restore=restore))
    return copies


async def next_windows_there(screens: list[Screen]) -> None:
    """Waits until the next window of each could run: only then they can meet in a batch."""
    loop = asyncio.get_running_loop()

    def could_run(screen: Screen) -> bool:
        candidate = screen.session.candidate(loop.time(), 0.0)
        return candidate is not None and candidate.ready_at <= loop.time()

    async with asyncio.timeout(60):
        while not all(map(could_run, screens)):  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.01)


def likeness(one: Screen, other: Screen) -> float:
    """Returns the PSNR of the least alike frame that both have, in dB; 99 for equal ones."""
    both = sorted(one.frames.keys() & other.frames.keys())
    assert both
    pictures = [np.stack([each.frames[frame] for frame in both]) for each in (one, other)]
    return _psnr(*pictures)


async def test_copies_are_equal_to_the_bit_until_their_prompts_differ(
    host: ModelHost, tmp_path: Path
) -> None:
    screen = await original(host, tmp_path)
    same, other = await forked(host, screen)
    for each in (same, other):
        each.until_frame = 0
    await other.until(lambda: other.frames)
    first = min(other.frames)
    assert first >= 33, "it goes on where the original was"
    await same.until(lambda: same.frames)
    # What was made before the prompts differ is equal; so is what shares its prompt for ever.
    other.prompt("neon at night")
    for each in (screen, same, other):
        each.until_frame = None
        each.show()
        await each.until(each.has("generation_complete"))
    assert sorted(screen.frames) == list(range(FRAMES))
    assert sorted(same.frames) == sorted(other.frames) == list(range(first, FRAMES))
    for frame in range(first, FRAMES):
        assert np.array_equal(screen.frames[frame], same.frames[frame]), frame
    differ = [f for f in same.frames if not np.array_equal(same.frames[f], other.frames[f])]
    assert min(differ) >= first + 24, "the window that was made before is as it was"
    assert differ == list(range(min(differ), FRAMES)), "and every one since has the other prompt"
    assert likeness(same, other) < ALIKE_DB


@pytest.mark.parametrize("batches", [2], indirect=True)
async def test_copies_in_batches_are_like_the_original_alone(
    host: ModelHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = await original(host, tmp_path)
    copies = await forked(host, screen)
    monkeypatch.setattr(WindowCost, "batching", lambda _: Batching({2: 2.0}))
    for each in copies:
        each.until_frame = 0
    for each in copies:
        await each.until(lambda each=each: each.frames)  # type: ignore[misc]
    await next_windows_there(copies)
    for each in copies:
        each.until_frame = None
        each.show()
    for each in copies:
        await each.until(each.has("generation_complete"))
    computed = host._compute
    assert computed.batches < computed.windows, "the copies ran together"
    screen.until_frame = None
    screen.show()
    await screen.until(screen.has("generation_complete"))
    assert likeness(*copies) == 99.0, "at equal batch size they are equal"
    for each in copies:
        assert likeness(screen, each) >= ALIKE_DB
