"""A session leaves its actor: handed over, parked, or copied."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from model_actor.engine import handover, keeping
from sana_gateway.v1 import command_pb2, media_pb2, message_pb2
from sana_gateway_internal.v1 import stream_pb2
from scheduler.kept_names import key_of
from tests.unit.model_actor.moving_bench import CLIP, Actor, Viewer
from tests.unit.model_actor.test_restoring import (
    EXACT,
    Launch,
    live,
    packet,
    played,
    settled,
    upload,
)

pytestmark = pytest.mark.unit


@pytest.fixture
async def launch(tmp_path: Path) -> AsyncIterator[Launch]:
    actors: list[Actor] = []

    def launch(**options: object) -> Actor:
        actors.append(Actor(tmp_path, **options))  # type: ignore[arg-type]
        return actors[-1]

    yield launch
    for actor in actors:
        await actor.close()


async def playing(launch: Launch, frames: int) -> tuple[Actor, Viewer]:
    """Returns a clip of which so many frames were shown."""
    actor, viewer = launch(), Viewer()
    await upload(actor)
    await actor.admit(1)
    viewer.open(actor)
    viewer.until_frame = frames
    await viewer.start_clip()
    await viewer.until(viewer.shows(frames))
    return actor, viewer


def handed_over(viewer: Viewer) -> list[stream_pb2.HandedOver]:
    return [each.handed_over for each in viewer.told if each.HasField("handed_over")]


async def move(first: Actor, second: Actor, viewer: Viewer, *, store: bool = False) -> None:
    """Moves the session as a gateway does."""
    await second.admit(2, restore=True, computing=True)
    second.shell.open(viewer, stream_pb2.Open(session_id="s1", standby=True))
    first.session.hand_over(stream_pb2.HandOver(session_id="s1", epoch=2, store=store))
    await viewer.until(lambda: bool(handed_over(viewer)))


@pytest.mark.parametrize("shown", [3, 40, 100])
async def test_a_clip_that_is_moved_misses_and_repeats_nothing(launch: Launch, shown: int) -> None:
    expected = await played(launch, 60)
    first, viewer = await playing(launch, min(shown, 60))
    if shown > 60:
        await settled(first)
        viewer.prompt("two")
        viewer.until_frame = shown
        viewer.show()
        await viewer.until(viewer.shows(shown))
    second = launch()
    await move(first, second, viewer)
    assert first.ledger.log == ["book"], "what it held is the other's now"
    viewer.open(second, viewer.restore(handed_over=True))
    if shown < 60:
        viewer.until_frame = 60
        viewer.show()
        await viewer.until(viewer.shows(60))
        await settled(second)
        viewer.prompt("two")
    viewer.until_frame = None
    viewer.show()
    await viewer.until(viewer.has("generation_complete"))
    assert [frame for _, frame, _ in viewer.pictures] == list(range(CLIP))
    assert viewer.moved == [EXACT]
    made = [index for index, _, _ in first.model.windows + second.model.windows]
    assert made == list(range(8)), "no window is made twice"
    same = [np.array_equal(a, b) for (_, _, a), b in zip(viewer.pictures, expected, strict=True)]
    assert all(same)


async def test_a_live_session_that_is_moved_takes_up_its_camera_where_the_other_left_it(
    launch: Launch,
) -> None:
    first, viewer = await live(launch, 33 + 4 * 24)
    await settled(first)
    second = launch()
    await second.admit(2, restore=True, computing=True)
    shell = second.shell
    shell.open(viewer, stream_pb2.Open(session_id="s1", standby=True))
    shell.camera_status("g1", stream_pb2.CameraStatus(session_id="s1", published=True))
    shell.camera_packet("g1", packet(9))
    decoded_ahead = await second.workers.cameras.get()
    decoded_ahead.ask_keyframe()
    assert viewer.told[-1].HasField("camera_keyframe"), "its decoder begins at a keyframe"
    # What the other actor has taken already, and what comes after that.
    decoded_ahead.come(*range(110, 130), *range(130, 130 + 24))
    first.session.hand_over(stream_pb2.HandOver(session_id="s1", epoch=2))
    await viewer.until(lambda: bool(handed_over(viewer)))
    assert handed_over(viewer)[0].snapshot.source_us == 129
    viewer.open(second, viewer.restore(handed_over=True))
    viewer.until_frame = None
    viewer.show()
    await viewer.until(viewer.shows(33 + 5 * 24))
    assert viewer.moved == [EXACT]
    assert [frame for _, frame, _ in viewer.pictures] == list(range(33 + 5 * 24))
    assert [first for _, first, _ in second.model.windows] == [33 + 4 * 24]
    assert second.session._camera.taken_us == 130 + 24 - 1
    assert second.workers.cameras.empty(), "the decoder that ran ahead is the session's"


async def test_a_session_moves_to_another_host_through_the_storage(launch: Launch) -> None:
    first, viewer = await playing(launch, 40)
    second = launch(host="another")
    await move(first, second, viewer, store=True)
    viewer.open(second, viewer.restore(handed_over=True))
    viewer.until_frame = None
    viewer.show()
    await viewer.until(viewer.has("generation_complete"))
    assert viewer.moved == [EXACT]
    assert [index for index, _, _ in first.model.windows + second.model.windows] == list(range(8))


async def refused(*_: object) -> bool:
    return False


async def test_a_state_that_the_host_does_not_take_moves_through_the_storage(
    launch: Launch,
) -> None:
    first, viewer = await playing(launch, 40)
    await settled(first)
    second = launch(host="another")
    first.kept.keep = refused  # type: ignore[method-assign]
    await move(first, second, viewer)
    viewer.open(second, viewer.restore(handed_over=True))
    viewer.until_frame = None
    viewer.show()
    await viewer.until(viewer.has("generation_complete"))
    assert viewer.moved == [EXACT]
    assert [index for index, _, _ in first.model.windows + second.model.windows] == list(range(8))


async def test_a_session_whose_state_nobody_takes_stays_and_goes_on(launch: Launch) -> None:
    first, viewer = await playing(launch, 40)
    await settled(first)
    first.kept.keep = first.kept.store = refused  # type: ignore[method-assign]
    await move(first, launch(host="another"), viewer)
    assert not handed_over(viewer)[0].HasField("snapshot")
    viewer.until_frame = None
    viewer.show()
    await viewer.until(viewer.has("generation_complete"))
    assert [frame for _, frame, _ in viewer.pictures] == list(range(CLIP))


async def test_a_move_without_the_models_state_makes_the_clip_again_and_shows_none_of_it_twice(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "SMALL_BYTES", -1)
    first, viewer = await playing(launch, 40)
    second = launch(host="another")
    await move(first, second, viewer)
    viewer.open(second, viewer.restore(handed_over=True))
    viewer.until_frame = None
    viewer.show()
    await viewer.until(viewer.has("generation_complete"))
    assert viewer.moved == [EXACT]
    assert [frame for _, frame, _ in viewer.pictures] == list(range(CLIP))
    assert [index for index, _, _ in second.model.windows] == list(range(8))


async def test_after_it_was_handed_over_a_session_decides_nothing_and_shows_the_rest(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "AFTER_SHOWN_S", 0.0)
    first, viewer = await playing(launch, 40)
    await settled(first)
    second = launch()
    await move(first, second, viewer)
    before = len(viewer.told)
    viewer.prompt("ignored")
    assert len(viewer.told) == before, "neither message nor acknowledgement"
    assert first.session.candidate(0.0, 0.0) is None
    assert not first.departed
    report = stream_pb2.Playout(run=1, next_frame=CLIP, due_in_us=0, buffered=0)
    first.session.playout("g1", report)
    await asyncio.wait_for(first.parted.wait(), 30)
    assert first.departed == [("s1", 1)]


async def test_a_session_that_was_handed_over_departs_when_the_last_gateway_leaves(
    launch: Launch,
) -> None:
    first, viewer = await playing(launch, 40)
    second = launch()
    await move(first, second, viewer)
    first.session.leave("g1")
    await asyncio.wait_for(first.parted.wait(), 30)


async def test_its_outputs_go_on_for_whoever_looks(launch: Launch) -> None:
    first, viewer = await playing(launch, 3)
    second = launch()
    await move(first, second, viewer)
    output = stream_pb2.Output(codec=media_pb2.CODEC_VP8)
    first.session.demand("g1", stream_pb2.OutputDemand(output=output, wanted=True, keyframe=True))
    first.session.playout("g1", stream_pb2.Playout(run=1, next_frame=3, due_in_us=0, buffered=30))
    await viewer.until(lambda: len(viewer.packets) >= 3)
    assert viewer.packets[0].keyframe
    assert {packet.epoch for packet in viewer.packets} == {1}
    assert [packet.frame for packet in viewer.packets[:3]] == [3, 4, 5]


async def test_a_second_gateway_is_told_the_same(launch: Launch) -> None:
    first, viewer = await playing(launch, 40)
    other = Viewer("g2")
    other.until_frame = 0
    other.open_quietly(first)
    second = launch()
    await move(first, second, viewer)
    assert len(handed_over(other)) == 1
    first.session.hand_over(stream_pb2.HandOver(session_id="s1", epoch=2))
    assert len(handed_over(other)) == 2
    assert handed_over(other)[1].HasField("snapshot")


async def test_a_window_that_does_not_end_keeps_the_session_here(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "SETTLE_S", 0.01)
    first, viewer = await playing(launch, 40)
    await settled(first)
    first.session._keeper.began()
    first.session.hand_over(stream_pb2.HandOver(session_id="s1", epoch=2))
    await viewer.until(lambda: bool(handed_over(viewer)))
    assert not handed_over(viewer)[0].HasField("snapshot")
    assert await first.session.park(store=False) == handover.UNSETTLED
    first.session._keeper._settled.set()
    first.compute.wake()
    viewer.until_frame = None
    viewer.show()
    await viewer.until(viewer.has("generation_complete"))


@pytest.mark.parametrize("store", [False, True])
async def test_a_parked_session_goes_on_where_it_paused(launch: Launch, store: bool) -> None:
    first, viewer = await playing(launch, 40)
    viewer.command(pause=command_pb2.Pause())
    await settled(first)
    viewer.until_frame = None
    viewer.show()
    shown = viewer.next_frame
    assert await first.session.park(store=store) == ""
    told = len(viewer.told)
    await first.session.close("parked", tell=False)
    assert len(viewer.told) == told, "nobody is told that it closed"
    del first.sessions["s1"]
    second = launch(host="another" if store else "host")
    await second.admit(2, restore=True)
    viewer.open(second, viewer.restore())
    await viewer.until(viewer.has("session_moved"))
    viewer.command(resume=command_pb2.Resume())
    await viewer.until(viewer.has("generation_complete"))
    assert viewer.moved == [EXACT]
    assert [frame for _, frame, _ in viewer.pictures] == list(range(CLIP))
    made = [index for index, _, _ in first.model.windows + second.model.windows]
    assert made == list(range(8)), f"shown {shown}"


@pytest.mark.parametrize("store", [False, True])
async def test_the_picture_of_a_parked_session_is_kept_for_who_sees_it_next(
    launch: Launch, store: bool
) -> None:
    first, viewer = await playing(launch, 40)
    viewer.command(pause=command_pb2.Pause())
    await settled(first)
    viewer.until_frame = None
    viewer.show()
    held = first.session.store.held
    assert held is not None
    assert await first.session.park(store=store) == ""
    await first.session.close("parked", tell=False)
    second, other = launch(host="another" if store else "host"), Viewer("g2")
    await second.admit(2, restore=True)
    # Nobody brings anything: no gateway has shown a picture, or it is gone.
    other.until_frame = 0
    second.shell.open(other, stream_pb2.Open(session_id="s1"))
    await other.until(other.has("session_moved"))
    found = second.session.store.held
    assert found is not None
    assert (found.run, found.chunk, found.frame) == (held.run, held.chunk, held.frame)
    assert np.abs(found.image.astype(int) - held.image.astype(int)).mean() < 3


async def give_clip(actor: Actor, copy: str) -> None:
    """Gives a copy the clip, as its gateway does."""
    await actor.storage.link("s1/u1", f"{copy}/u1")


def kept_for(tmp_path: Path, copy: str) -> list[Path]:
    """Returns what is kept for a copy."""
    return [each for each in (tmp_path / "host").iterdir() if key_of(copy) in each.name]


@pytest.mark.parametrize("comes_back", [False, True])
async def test_copies_whose_gateway_is_gone_are_not_kept(
    launch: Launch, tmp_path: Path, comes_back: bool
) -> None:
    actor, viewer = await playing(launch, 40)
    await settled(actor)
    actor.session.copy("g1", stream_pb2.Copy(session_id="s1", copies=["s2", "s3"]))
    (copying,) = actor.session._departure._tasks
    actor.session.leave("g1")
    if comes_back:
        other = Viewer()
        other.until_frame = 0
        other.open_quietly(actor)
    await copying
    assert kept_for(tmp_path, "s1")
    assert not kept_for(tmp_path, "s2")
    assert not any(each.HasField("copied") for each in viewer.told)


async def test_a_copy_goes_on_with_the_same_pictures_until_the_prompts_differ(
    launch: Launch,
) -> None:
    actor, viewer = await playing(launch, 40)
    await settled(actor)
    made = len(actor.model.windows)
    actor.session.copy("g1", stream_pb2.Copy(session_id="s1", copies=["s2", "s3"]))
    await viewer.until(lambda: any(each.HasField("copied") for each in viewer.told))
    copied = next(each.copied for each in viewer.told if each.HasField("copied"))
    assert list(copied.copies) == ["s2", "s3"]
    for name in ("s2", "s3"):
        await give_clip(actor, name)
    original = Viewer()
    for name in ("s2", "s3"):
        await actor.admit(1, name, restore=True, computing=True)
    forks = {}
    for name in ("s2", "s3"):
        fork = Fork(actor, name)
        restore = stream_pb2.Restore(snapshot=copied.snapshot)
        actor.sessions[name].open(fork, stream_pb2.Open(session_id=name, restore=restore))  # type: ignore[arg-type, call-arg]
        forks[name] = fork
    await forks["s2"].until(lambda: len(forks["s2"].frames) >= 24)
    await forks["s3"].until(lambda: len(forks["s3"].frames) >= 24)
    assert forks["s2"].frames.keys() == forks["s3"].frames.keys()
    first = min(forks["s2"].frames)
    assert first == 33 + (made - 1) * 24
    viewer.until_frame = None
    viewer.show()
    await viewer.until(viewer.shows(first + 24))
    for frame in range(first, first + 24):
        mine = next(picture for _, at, picture in viewer.pictures if at == frame)
        assert np.array_equal(forks["s2"].frames[frame], mine)
        assert np.array_equal(forks["s3"].frames[frame], mine)
    assert original.next_frame == 0
    assert not any(message.HasField("session_moved") for message in forks["s2"].messages), (
        "a fork has not moved"
    )
    assert forks["s2"].messages[0].revision == 1


async def test_a_copy_that_is_told_nothing_finds_what_was_kept_for_it(launch: Launch) -> None:
    actor, viewer = await playing(launch, 40)
    await settled(actor)
    made = len(actor.model.windows)
    actor.session.copy("g1", stream_pb2.Copy(session_id="s1", copies=["s2"]))
    await viewer.until(lambda: any(each.HasField("copied") for each in viewer.told))
    await give_clip(actor, "s2")
    await actor.admit(1, "s2", restore=True, computing=True)
    fork = Fork(actor, "s2")
    actor.sessions["s2"].open(fork, stream_pb2.Open(session_id="s2"))  # type: ignore[arg-type, call-arg]
    await fork.until(lambda: bool(fork.frames))
    assert min(fork.frames) == 33 + (made - 1) * 24


class Fork:
    """A gateway that keeps the frames of the first chunk a fork makes."""

    gateway_id = "g1"

    def __init__(self, actor: Actor, session_id: str) -> None:
        self._actor = actor
        self._session_id = session_id
        self.frames: dict[int, np.ndarray] = {}
        self.messages: list[message_pb2.Message] = []
        self._changed = asyncio.Event()

    def control(self, response: stream_pb2.ControlResponse) -> None:
        if response.HasField("message"):
            message = message_pb2.Message()
            message.CopyFrom(response.message.message)
            self.messages.append(message)
        if response.HasField("chunk"):
            chunk = response.chunk
            store = self._actor.sessions[self._session_id].store  # type: ignore[union-attr]
            for frame in range(chunk.first_frame, chunk.first_frame + chunk.frames):
                found = store.get(chunk.run, frame)
                assert found is not None
                self.frames[frame] = found.image.copy()
        self._changed.set()

    def media(self, packet: stream_pb2.VideoPacket, due_at: float) -> bool:
        return True

    async def until(self, condition: object) -> None:
        async with asyncio.timeout(20):
            while not condition():  # type: ignore[operator]
                self._changed.clear()
                await self._changed.wait()
