"""A session whose actor died goes on at another one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from model_actor.engine import session_sources
from model_actor.media.errors import ClipRefusedError
from sana_gateway.v1 import command_pb2, media_pb2, message_pb2
from sana_gateway_internal.v1 import stream_pb2
from scheduler.process.storage import StorageError
from tests.unit.model_actor.moving_bench import CLIP, Actor, Viewer

pytestmark = pytest.mark.unit

EXACT = message_pb2.CONTINUITY_EXACT
LIVE_EDGE = message_pb2.CONTINUITY_LIVE_EDGE
RESTARTED = message_pb2.CONTINUITY_RESTARTED

Launch = Callable[..., Actor]


@pytest.fixture
async def launch(tmp_path: Path) -> AsyncIterator[Launch]:
    actors: list[Actor] = []

    def launch(**options: object) -> Actor:
        actors.append(Actor(tmp_path, **options))  # type: ignore[arg-type]
        return actors[-1]

    yield launch
    for actor in actors:
        await actor.close()


async def upload(actor: Actor, session_id: str = "s1") -> None:
    await actor.storage.put(f"{session_id}/u1", b"clip")


async def played(launch: Launch, change_at: int) -> list[npt.NDArray[np.uint8]]:
    """Returns the pictures of a clip that nothing happened to."""
    actor, viewer = launch(every=0, host="elsewhere"), Viewer()
    await upload(actor)
    await actor.admit(1)
    viewer.open(actor)
    viewer.until_frame = change_at
    await viewer.start_clip()
    await viewer.until(viewer.shows(change_at))
    await settled(actor)
    viewer.prompt("two")
    viewer.until_frame = None
    viewer.show()
    await viewer.until(viewer.has("generation_complete"))
    return [picture for _, _, picture in viewer.pictures]


async def settled(actor: Actor) -> None:
    """Returns once the actor has nothing more to compute or to keep."""
    async with asyncio.timeout(30):
        while True:
            session = actor.session
            now = asyncio.get_running_loop().time()
            busy = session._keeper.busy or session._keeper._keeping is not None
            if not busy and session._keeper._settled.is_set():
                candidate = session.candidate(now, 0.001)
                if candidate is None or candidate.deadline > now + 1:
                    return
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("died_at", [5, 40, 81, 82, 104, 130, CLIP - 3])
async def test_a_clip_goes_on_with_every_frame_once_and_the_same_pictures(
    launch: Launch, died_at: int
) -> None:
    change_at = 60
    expected = await played(launch, change_at)
    first, viewer = launch(), Viewer()
    await upload(first)
    await first.admit(1)
    viewer.open(first)
    viewer.until_frame = min(change_at, died_at)
    await viewer.start_clip()
    await viewer.until(viewer.shows(viewer.until_frame))
    if died_at > change_at:
        await settled(first)
        viewer.prompt("two")
        viewer.until_frame = died_at
        viewer.show()
        await viewer.until(viewer.shows(died_at))
    await settled(first)
    await first.die()
    viewer.lose()
    second = launch()
    await second.admit(2, restore=True, computing=True)
    if died_at < change_at:
        viewer.until_frame = change_at
    else:
        viewer.until_frame = None
    viewer.open(second, viewer.restore())
    if died_at < change_at:
        await viewer.until(viewer.shows(change_at))
        await settled(second)
        viewer.prompt("two")
        viewer.until_frame = None
        viewer.show()
    await viewer.until(viewer.has("generation_complete"))
    assert [frame for _, frame, _ in viewer.pictures] == list(range(CLIP))
    assert viewer.moved == [EXACT]
    made_again = second.model.windows[0]
    first_unshown = 0 if died_at < 33 else 1 + (died_at - 33) // 24
    # The window before may have begun before the one before that was written.
    assert first_unshown - 1 <= made_again[0] <= first_unshown, "a small state is always kept"
    same = [np.array_equal(a, b) for (_, _, a), b in zip(viewer.pictures, expected, strict=True)]
    assert all(same), f"frame {same.index(False)} differs"
    done = [m.chunk_complete for m in viewer.messages if m.HasField("chunk_complete")]
    assert [chunk.chunk_index for chunk in done] == list(range(9))
    revisions = [message.revision for message in viewer.messages if message.revision]
    assert revisions == sorted(set(revisions)), "revisions go on"


async def live(launch: Launch, frames: int) -> tuple[Actor, Viewer]:
    """Returns a live session of which so many frames were shown."""
    actor, viewer = launch(), Viewer()
    await actor.admit(1)
    viewer.open(actor)
    viewer.until_frame = frames
    published = stream_pb2.CameraStatus(session_id="s1", published=True)
    actor.session.camera_status("g1", published)
    actor.session.camera_packet("g1", packet(0))
    viewer.prompt("one")
    viewer.command(start=command_pb2.Start())
    camera = await actor.workers.cameras.get()
    camera.come(*range(1, 1 + 33 + 4 * 24))
    await viewer.until(viewer.shows(frames))
    return actor, viewer


def packet(at: int) -> stream_pb2.CameraPacket:
    return stream_pb2.CameraPacket(
        session_id="s1", codec=media_pb2.CODEC_VP8, keyframe=True, timestamp_us=at, data=b"x"
    )


async def test_a_live_session_goes_on_at_the_live_edge_and_repeats_nothing(
    launch: Launch,
) -> None:
    first, viewer = await live(launch, 70)
    await settled(first)
    await first.die()
    viewer.lose()
    second = launch()
    await second.admit(2, restore=True, computing=True)
    viewer.until_frame = None
    viewer.open(second, viewer.restore())
    second.sessions["s1"].camera_status("g1", stream_pb2.CameraStatus(published=True))
    second.sessions["s1"].camera_packet("g1", packet(9))
    camera = await second.workers.cameras.get()
    camera.come(*range(180, 180 + 48))
    await viewer.until(viewer.shows(70 + 48))
    assert viewer.moved == [LIVE_EDGE]
    assert [frame for _, frame, _ in viewer.pictures] == list(range(70 + 48))
    assert second.model.windows[0][0] > 0, "the model goes on from its state"
    assert second.model.windows[0][1] == 70
    assert second.ledger.log == [], "compute was booked for it"


async def test_without_a_kept_state_the_model_begins_anew_at_the_first_frame_not_shown(
    launch: Launch,
) -> None:
    first, viewer = await live(launch, 70)
    await settled(first)
    await first.die()
    viewer.lose()
    second = launch(host="another")
    await second.admit(2, restore=True)
    viewer.until_frame = None
    viewer.open(second, viewer.restore())
    second.sessions["s1"].camera_packet("g1", packet(9))
    camera = await second.workers.cameras.get()
    camera.come(*range(180, 180 + 33))
    await viewer.until(viewer.shows(70 + 33))
    assert viewer.moved == [RESTARTED]
    assert second.model.windows[0][:2] == (0, 70)
    assert second.ledger.log == ["book"]


async def test_a_kept_file_that_is_torn_counts_as_absent(launch: Launch, tmp_path: Path) -> None:
    first, viewer = await live(launch, 70)
    await settled(first)
    await first.die()
    viewer.lose()
    kept = [path for path in (tmp_path / "host").iterdir() if not path.name.startswith(".")]
    assert kept
    for path in kept:
        path.write_bytes(path.read_bytes()[:-1])
    second = launch()
    await second.admit(2, restore=True)
    viewer.open(second, viewer.restore())
    await viewer.until(lambda: viewer.moved == [RESTARTED])


async def test_an_open_without_a_snapshot_goes_on_from_what_is_kept(launch: Launch) -> None:
    first, viewer = await live(launch, 70)
    viewer.command(pause=command_pb2.Pause())
    await viewer.until(lambda: viewer.snapshot is not None and viewer.snapshot.host != "")
    await settled(first)
    await first.die()
    late = Viewer("g2")
    second = launch()
    await second.admit(2, restore=True)
    late.open(second)
    await late.until(late.has("state"))
    state = late.messages[-1].state
    assert (state.paused, state.current_prompt) == (True, "one")
    assert late.told[0].opened.epoch == 2


async def test_what_changed_while_nothing_was_computed_is_kept_when_the_last_gateway_leaves(
    launch: Launch,
) -> None:
    first, viewer = await live(launch, 70)
    viewer.command(pause=command_pb2.Pause())
    await viewer.until(lambda: viewer.snapshot is not None and viewer.snapshot.host != "")
    await settled(first)
    viewer.prompt("later")
    first.session.leave("g1")
    await settled(first)
    await first.die()
    second, late = launch(), Viewer("g2")
    await second.admit(2, restore=True)
    late.open(second)
    await late.until(late.has("state"))
    assert late.messages[-1].state.current_prompt == "later"


async def test_a_shell_that_is_told_nothing_and_finds_nothing_asks_for_a_snapshot(
    launch: Launch,
) -> None:
    actor, viewer = launch(), Viewer()
    await actor.admit(2, restore=True)
    viewer.open(actor)
    await viewer.until(lambda: bool(viewer.told))
    assert viewer.told[0].refused.needs_snapshot
    assert not actor.shell.has_gateway("g1")


async def test_a_gateway_that_comes_while_another_restores_just_joins(launch: Launch) -> None:
    first, viewer = await live(launch, 40)
    await settled(first)
    await first.die()
    viewer.lose()
    second, other = launch(), Viewer("g2")
    await second.admit(2, restore=True)
    viewer.open(second, viewer.restore())
    other.open(second)
    await other.until(other.has("session_moved"))
    assert other.told[0].HasField("opened")
    assert len([each for each in viewer.told if each.HasField("opened")]) == 2


async def test_late_answers_reach_who_asked_at_the_other_actor(launch: Launch) -> None:
    first, viewer = launch(), Viewer()
    await upload(first)
    await first.admit(1)
    viewer.open(first)
    mode = command_pb2.SetMode(mode=command_pb2.MODE_FILE)
    viewer.command(set_mode=mode)
    first.workers.broken = OSError("no descriptors left")
    video = command_pb2.SetVideo(video=command_pb2.FileRef(upload_id="u1", size=4))
    asked = viewer.command(set_video=video)
    await asyncio.sleep(0)
    await viewer.until(lambda: viewer.snapshot is not None and viewer.snapshot.HasField("probe"))
    assert viewer.snapshot is not None
    assert [each.connection_id for each in viewer.snapshot.due] == [7]
    await first.die()
    second = launch()
    await second.admit(2, restore=True)
    viewer.open(second, viewer.restore())
    await viewer.until(viewer.has("video_accepted"))
    answers = [
        each.message for each in viewer.told if each.message.message.HasField("video_accepted")
    ]
    assert [(each.connection_id, each.message.command_id) for each in answers] == [(7, asked)]


async def test_a_command_is_acknowledged_after_a_snapshot_that_knows_of_it(
    launch: Launch,
) -> None:
    actor, viewer = launch(), Viewer()
    await actor.admit(1)
    viewer.open(actor)
    sent = viewer.command(set_seed=command_pb2.SetSeed(seed=9))
    kinds = [each.WhichOneof("response") for each in viewer.told]
    snapshot = viewer.told[kinds.index("snapshot")].snapshot.snapshot
    assert kinds.index("snapshot") < kinds.index("ack")
    assert snapshot.seed == 9
    assert [each.command_id for each in snapshot.handled] == [sent]


async def test_a_clip_that_cannot_be_had_again_fails_the_run_and_not_the_session(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_sources, "FIRST_PAUSE_S", 0.0)
    first, viewer = launch(), Viewer()
    await upload(first)
    await first.admit(1)
    viewer.open(first)
    viewer.until_frame = 40
    await viewer.start_clip()
    await viewer.until(viewer.shows(40))
    await settled(first)
    await first.die()
    viewer.lose()
    second = launch()
    second.workers.broken = ClipRefusedError("it is no video that we take")
    await second.admit(2, restore=True, computing=True)
    viewer.open(second, viewer.restore())
    await viewer.until(viewer.has("command_error"))
    assert not viewer.messages[-1].state.started
    assert second.workers.clips == session_sources.REFUSALS


@pytest.mark.parametrize("away", [OSError("no descriptors left"), StorageError("away")])
async def test_a_clip_that_cannot_be_had_for_a_while_is_waited_for(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, away: Exception
) -> None:
    monkeypatch.setattr(session_sources, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(session_sources, "MOST_PAUSE_S", 0.001)
    first, viewer = launch(), Viewer()
    await upload(first)
    await first.admit(1)
    viewer.open(first)
    viewer.until_frame = 40
    await viewer.start_clip()
    await viewer.until(viewer.shows(40))
    await settled(first)
    await first.die()
    viewer.lose()
    second = launch()
    second.workers.broken = away
    await second.admit(2, restore=True, computing=True)
    viewer.until_frame = None
    viewer.open(second, viewer.restore())
    async with asyncio.timeout(20):
        while second.workers.clips < 20:  # noqa: ASYNC110 - nothing tells of a try
            await asyncio.sleep(0.001)
    assert not viewer.has("command_error")()
    second.workers.broken = None
    await viewer.until(viewer.has("generation_complete"))
    assert [frame for _, frame, _ in viewer.pictures] == list(range(CLIP))
    assert viewer.moved == [EXACT]


async def test_a_clip_that_never_comes_fails_the_run(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_sources, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(session_sources, "RESTAGE_S", 0.05)
    first, viewer = launch(), Viewer()
    await upload(first)
    await first.admit(1)
    viewer.open(first)
    viewer.until_frame = 40
    await viewer.start_clip()
    await viewer.until(viewer.shows(40))
    await settled(first)
    await first.die()
    viewer.lose()
    second = launch()
    second.workers.broken = StorageError("away")
    await second.admit(2, restore=True, computing=True)
    viewer.open(second, viewer.restore())
    await viewer.until(viewer.has("command_error"))
    assert not viewer.messages[-1].state.started


async def test_a_model_that_gives_no_snapshot_costs_the_session_nothing_else(
    launch: Launch,
) -> None:
    actor, viewer = launch(), Viewer()
    await upload(actor)
    await actor.admit(1)
    actor.model.refuses_snapshots = True
    viewer.open(actor)
    await viewer.start_clip()
    await viewer.until(viewer.has("generation_complete"))
    assert viewer.snapshot is not None
    assert viewer.snapshot.host == ""


async def test_a_gateway_that_knows_nothing_does_not_keep_one_that_knows_from_being_heard(
    launch: Launch,
) -> None:
    first, viewer = launch(every=0), Viewer()
    await upload(first)
    await first.admit(1)
    viewer.open(first)
    viewer.until_frame = 40
    await viewer.start_clip()
    await viewer.until(viewer.shows(40))
    await first.die()
    second, ignorant = launch(every=0, host="another"), Viewer("g2")
    await second.admit(2, restore=True, computing=True)
    ignorant._quiet = viewer._quiet = True
    second.shell.open(ignorant, stream_pb2.Open(session_id="s1"))
    viewer.open(second, viewer.restore())
    for each in (ignorant, viewer):
        await each.until(lambda each=each: any(told.HasField("opened") for told in each.told))
        assert not any(told.HasField("refused") for told in each.told)
    state = second.session._machine.state()
    assert (state.has_video, state.started) == (True, True)
