"""One session is recorded, by real remuxing into real files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest

from gateway.ports import Clip
from gateway.recording import recorder as module
from gateway.recording.errors import ClipFailedError
from gateway.recording.index import SILENT_S
from gateway.recording.recorder import MOST_CLIP_S, MOST_WAITING, Recorder
from tests.unit.gateway.recording.reels import PERIOD_US, numbers, reel, times_us
from tests.unit.gateway.recording.studio import FakeSession, Studio

pytestmark = pytest.mark.unit


class Take:
    """A recorder at work."""

    def __init__(self, studio: Studio, gateway_id: str = "g1") -> None:
        self.studio = studio
        self.session = FakeSession()
        self.output = self.session.recorded
        self.recorder: Recorder = studio.recorder(self.session, gateway_id)
        self.task = asyncio.create_task(self.recorder.run())

    async def begun(self) -> Take:
        await self.output.changes.until(lambda: self.output.viewers or self.task.done())
        return self

    async def stored(self, segments: int) -> None:
        """Waits until the index names so many segments."""
        storage = self.studio.storage
        async with asyncio.timeout(30):
            while True:
                # Before the look: what is written during it may be what is waited for.
                written = len(storage.written)
                index = await self.studio.shelf.index(self.session.session_id)
                if index is not None and len(index.segments) >= segments:
                    return
                await storage.changes.until(partial(storage.has_more_than, written))

    async def end(self, *, over: bool = True) -> None:
        self.recorder.end(over=over)
        async with asyncio.timeout(30):
            await self.task


@asynccontextmanager
async def recording(studio: Studio, gateway_id: str = "g1") -> AsyncIterator[Take]:
    take = await Take(studio, gateway_id).begun()
    yield take
    await take.end()


async def known_to(take: Take) -> Clip:
    """Waits until a recorder knows of what was recorded; returns all of it."""
    async with asyncio.timeout(30):
        while True:
            try:
                return take.recorder.clip(None)
            except ClipFailedError:
                await asyncio.sleep(0)


async def test_every_frame_is_recorded_once_in_order_and_in_time(studio: Studio) -> None:
    async with recording(studio) as take:
        take.output.give(*reel(180, gop=100))
    files = await studio.files()
    assert numbers(files) == list(range(180))
    assert times_us(files) == [n * PERIOD_US for n in range(180)]
    index = await studio.index()
    assert [each.duration_us for each in index.segments] == [4_000_000, 3_200_000]
    assert index.ended_at == studio.now
    assert not index.is_recorded(studio.now)
    assert take.output.viewers == []


async def test_what_is_known_of_the_session_is_kept_with_it(studio: Studio) -> None:
    async with recording(studio):
        pass
    index = await studio.index()
    assert (index.tenant, index.model, index.holders) == ("me", "painter", ("key 1",))
    assert index.owner.holders[0].name == "key 1"
    assert len(index.secret) > 32


async def test_a_pause_is_no_part_of_the_recording(studio: Studio) -> None:
    async with recording(studio) as take:
        take.output.give(*reel(30))
        held = reel(1, first=29, at_us=30 * PERIOD_US)[0]
        take.output.give(replace(held, held=True))
        await take.stored(1)
        take.output.give(*reel(20, first=30, at_us=90_000_000))
    files = await studio.files()
    assert numbers(files) == list(range(50))
    assert times_us(files) == [n * PERIOD_US for n in range(50)]


async def test_a_keyframe_is_asked_for_every_four_seconds(studio: Studio) -> None:
    async with recording(studio) as take:
        take.output.give(*reel(98, gop=500))
        assert take.output.refreshes == 0
        take.output.give(*reel(99, gop=500)[98:])
        assert take.output.refreshes == 1


async def test_a_clip_is_there_as_soon_as_it_was_asked_for(studio: Studio) -> None:
    async with recording(studio) as take:
        take.output.give(*reel(100, gop=50))
        clip = take.recorder.clip(2.0)
        assert (clip.end_us, clip.whole) == (100 * PERIOD_US, False)
        assert clip.start_us == clip.end_us - 2_000_000
        assert studio.now <= clip.ready_at < studio.now + 2
        await take.stored(2)
        assert (await studio.index()).position_us == clip.end_us
        take.output.give(*reel(150, gop=50)[100:])
    assert numbers(await studio.files()) == list(range(150))


async def test_who_asks_time_and_again_does_not_have_everything_cut_up(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with recording(studio) as take:
        monkeypatch.setattr(module, "CUT_EVERY_S", 60.0)
        for number, frame in enumerate(reel(20)):
            take.output.give(frame)
            clip = take.recorder.clip(1.0)
            assert clip.end_us == (number + 1) * PERIOD_US
            assert (clip.ready_at > studio.now + 50) == (number > 0)
    assert [each.duration_us for each in (await studio.index()).segments] == [
        PERIOD_US,
        19 * PERIOD_US,
    ]


async def test_the_last_frames_are_stored_when_no_more_come(studio: Studio) -> None:
    async with recording(studio) as take:
        take.output.give(*reel(10))
        await take.stored(1)
        assert numbers(await studio.files()) == list(range(10))


async def test_a_clip_has_a_most_and_a_recording_has_not(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MOST_CLIP_S == 300.0
    monkeypatch.setattr(module, "MOST_CLIP_S", 3.0)
    async with recording(studio) as take:
        take.output.give(*reel(100, gop=50))
        assert take.recorder.clip(1e9).start_us == 1_000_000
        assert take.recorder.clip(2.0).start_us == 2_000_000
        whole = take.recorder.clip(None)
        assert (whole.start_us, whole.end_us, whole.whole) == (0, 100 * PERIOD_US, True)


@pytest.mark.parametrize("duration_s", [0.0, -1.0, float("nan"), float("inf")])
async def test_a_clip_of_no_length_is_refused(studio: Studio, duration_s: float) -> None:
    async with recording(studio) as take:
        take.output.give(*reel(10))
        with pytest.raises(ClipFailedError, match="positive"):
            take.recorder.clip(duration_s)


async def test_before_anything_was_shown_there_is_no_clip(studio: Studio) -> None:
    async with recording(studio) as take:
        for duration_s in (2.0, None):
            with pytest.raises(ClipFailedError, match="nothing"):
                take.recorder.clip(duration_s)


async def test_a_full_disk_ends_the_recording_and_says_so_and_what_is_there_stays(
    studio: Studio, capsys: pytest.CaptureFixture[str]
) -> None:
    take = await Take(studio).begun()
    take.output.give(*reel(60, gop=50))
    await take.stored(1)
    studio.storage.broken = True
    take.output.give(*reel(120, gop=50)[60:])
    async with asyncio.timeout(30):
        await take.task
    assert take.output.viewers == [], "the session goes on without it"
    with pytest.raises(ClipFailedError, match="could not be stored"):
        take.recorder.clip(2.0)
    take.output.give(*reel(10))
    take.recorder.end(over=True)
    studio.storage.broken = False
    assert numbers(await studio.files())[:50] == list(range(50))
    assert "recording.failed" in capsys.readouterr().out


async def test_a_folder_that_cannot_be_written_is_noticed_at_once(studio: Studio) -> None:
    studio.storage.broken = True
    take = await Take(studio).begun()
    await take.task
    with pytest.raises(ClipFailedError, match="could not be stored"):
        take.recorder.clip(None)


async def test_what_cannot_be_remuxed_ends_the_recording(studio: Studio) -> None:
    take = await Take(studio).begun()
    broken = [replace(frame, data=b"no video") for frame in reel(5)]
    take.output.give(*broken)
    async with asyncio.timeout(30):
        await take.task
    with pytest.raises(ClipFailedError, match="could not be stored"):
        take.recorder.clip(None)


async def test_when_storing_does_not_keep_up_whole_segments_are_left_out(studio: Studio) -> None:
    studio.storage.gate = asyncio.Event()
    async with recording(studio) as take:
        frames = reel(50 * (MOST_WAITING + 3), gop=50)
        take.output.give(*frames)
        studio.storage.gate.set()
        await take.stored(MOST_WAITING)
        take.output.give(*reel(75, gop=50, first=500, at_us=len(frames) * PERIOD_US))
    files = await studio.files()
    kept = numbers(files)
    assert kept[: 50 * MOST_WAITING] == list(range(200)), "shades begin again at 200"
    assert times_us(files) == [n * PERIOD_US for n in range(len(kept))], "there is no gap"
    assert kept[-75:] == [n % 200 for n in range(500, 575)]


async def test_the_oldest_goes_when_there_is_too_much(studio: Studio) -> None:
    studio.most_bytes = 12_000
    async with recording(studio) as take:
        for first in range(0, 200, 50):
            take.output.give(*reel(50, gop=50, first=first))
            take.recorder.clip(None)
            await take.stored(1)
    index = await studio.index()
    assert index.size <= 12_000
    assert index.oldest_us > 0
    left = {each.name for each in index.segments} | {"init.mp4", "index.json", "beat.json"}
    assert {name async for name in studio.shelf.names("s1", "")} == left
    assert numbers(await studio.files())[-1] == 199


async def test_only_one_gateway_records_and_another_goes_on_when_it_is_gone(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.02)
    first = await Take(studio).begun()
    first.output.give(*reel(60, gop=50))
    first.recorder.clip(None)
    await first.stored(2)
    other = Take(studio, "g2")
    await known_to(other)
    assert other.output.viewers == []
    first.task.cancel()  # killed: it says nothing more
    await asyncio.gather(first.task, return_exceptions=True)
    await studio.shelf.put("s1", "chunk_00002.m4s", b"stored and not noted")
    studio.now += SILENT_S + 1
    await other.begun()
    other.output.give(*reel(40, gop=50, first=60))
    await other.end()
    assert [each.number for each in (await studio.index()).segments] == [0, 1, 2]
    files = await studio.files()
    assert numbers(files) == list(range(100))
    assert times_us(files) == [n * PERIOD_US for n in range(100)]


async def test_a_gateway_that_stops_lets_another_go_on_at_once(studio: Studio) -> None:
    first = await Take(studio).begun()
    first.output.give(*reel(30))
    await first.end(over=False)
    assert (await studio.index()).ended_at is None
    async with recording(studio, "g2") as take:
        take.output.give(*reel(20, first=30))
    assert numbers(await studio.files()) == list(range(50))
    assert (await studio.index()).ended_at == studio.now


async def test_who_only_takes_part_answers_with_what_the_other_has_stored(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.02)
    async with recording(studio) as take:
        take.output.give(*reel(30))
        await take.stored(1)
        other = Take(studio, "g2")
        clip = await known_to(other)
        assert (clip.end_us, clip.ready_at) == (30 * PERIOD_US, studio.now)
        assert other.output.viewers == []
        await other.end(over=False)


async def test_who_has_fallen_silent_gives_way_to_who_went_on(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await Take(studio).begun()
    first.output.give(*reel(30))
    await first.stored(1)
    studio.now += SILENT_S + 1
    monkeypatch.setattr(module, "BEAT_S", 1e9)
    second = await Take(studio, "g2").begun()
    monkeypatch.setattr(module, "BEAT_S", 0.0)
    await first.output.changes.until(lambda: not first.output.viewers)
    monkeypatch.setattr(module, "BEAT_S", 0.02)
    assert second.output.viewers == [second.recorder]
    await second.end()
    await first.end()


async def test_who_was_silent_for_too_long_looks_who_records_before_it_writes(
    studio: Studio,
) -> None:
    first = await Take(studio).begun()
    first.output.give(*reel(30))
    await first.stored(1)
    studio.storage.gate = asyncio.Event()
    first.output.give(*reel(20, first=30))
    first.recorder.clip(None)
    await studio.storage.changes.until(lambda: studio.storage.at_gate)
    studio.now += SILENT_S + 1
    second = await Take(studio, "g2").begun()
    before = await studio.index()
    studio.storage.gate.set()
    await first.output.changes.until(lambda: not first.output.viewers)
    assert await studio.index() == before
    assert before.beat.recorder == "g2"
    second.output.give(*reel(20, first=30))
    await second.end()
    await first.end()
    assert numbers(await studio.files()) == list(range(50))


async def test_saying_that_it_records_does_not_write_the_index_again(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.0)
    async with recording(studio) as take:
        take.output.give(*reel(30))
        await take.stored(1)
        written = len(studio.storage.written)
        await studio.storage.changes.until(partial(studio.storage.has_more_than, written + 5))
        assert set(studio.storage.written[written:]) == {"beat.json"}


async def test_what_a_killed_gateway_stored_and_did_not_note_is_in_nobodys_way(
    studio: Studio,
) -> None:
    for name in ("init.mp4", "chunk_00000.m4s"):
        await studio.shelf.put("s1", name, b"stored and not noted")
    async with recording(studio) as take:
        take.output.give(*reel(30))
    assert numbers(await studio.files()) == list(range(30))


async def test_a_recording_that_was_removed_begins_anew(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = await Take(studio).begun()
    take.output.give(*reel(30))
    await studio.storage.changes.until(lambda: studio.storage.written.count("beat.json") == 2)
    await studio.shelf.forget("s1")
    monkeypatch.setattr(module, "BEAT_S", 0.0)
    await take.output.changes.until(lambda: not take.output.viewers)
    await take.begun()
    monkeypatch.setattr(module, "BEAT_S", 2.0)
    take.output.give(*reel(20, first=30))
    await take.end()
    assert numbers(await studio.files()) == list(range(30, 50))
