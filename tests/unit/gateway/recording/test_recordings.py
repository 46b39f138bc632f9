"""All recordings of a process."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.recording import recordings as module
from gateway.recording.errors import ClipFailedError
from gateway.recording.recordings import Bounds
from tests.unit.gateway.recording.reels import numbers, reel
from tests.unit.gateway.recording.studio import SESSION, FakeSession, Studio

pytestmark = pytest.mark.unit


async def begun(session: FakeSession) -> None:
    await session.recorded.changes.until(lambda: session.recorded.viewers)


async def test_a_session_is_recorded_once_however_often_it_gets_an_actor(studio: Studio) -> None:
    recordings, session = studio.recordings(), FakeSession()
    recordings.opened(session)
    await begun(session)
    recordings.opened(session)
    session.recorded.give(*reel(30))
    assert len(session.recorded.viewers) == 1
    assert recordings.clip(SESSION, None).whole
    recordings.ended(SESSION)
    await recordings.close()
    assert numbers(await studio.files()) == list(range(30))
    assert (await studio.index()).ended_at is not None


async def test_of_a_session_that_never_was_or_has_ended_there_is_no_clip(studio: Studio) -> None:
    recordings, session = studio.recordings(), FakeSession()
    with pytest.raises(ClipFailedError, match="nothing"):
        recordings.clip(SESSION, 2.0)
    recordings.opened(session)
    recordings.ended(SESSION)
    recordings.ended(SESSION)
    with pytest.raises(ClipFailedError, match="nothing"):
        recordings.clip(SESSION, 2.0)
    await recordings.close()


async def test_closing_stores_what_was_recorded_and_says_of_no_session_that_it_is_over(
    studio: Studio,
) -> None:
    recordings, session = studio.recordings(), FakeSession()
    recordings.opened(session)
    await begun(session)
    session.recorded.give(*reel(30))
    await recordings.close()
    assert session.recorded.viewers == []
    assert numbers(await studio.files()) == list(range(30))
    index = await studio.index()
    assert (index.ended_at, index.beat.recorder) == (None, "")


async def test_closing_waits_for_a_storage_that_hangs_only_so_long(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_S", 0.05)
    recordings, session = studio.recordings(), FakeSession()
    recordings.opened(session)
    await begun(session)
    studio.storage.gate = asyncio.Event()
    session.recorded.give(*reel(30))
    async with asyncio.timeout(30):
        await recordings.close()


async def test_other_bounds_hold_for_what_is_recorded_and_for_what_is_kept(studio: Studio) -> None:
    recordings, session = studio.recordings(), FakeSession()
    recordings.opened(session)
    await begun(session)
    session.recorded.give(*reel(240))
    await studio.storage.changes.until(lambda: "chunk_00000.m4s" in studio.storage.written)
    recordings.bound(Bounds(session_bytes=1, total_bytes=1, kept_s=1e9))
    session.recorded.give(*reel(240, first=240))
    first = f"recordings/{SESSION}/chunk_00000.m4s"
    # Whatever lay at its place is removed before a segment is stored.
    await studio.storage.changes.until(lambda: studio.storage.deleted.count(first) == 2)
    recordings.ended(SESSION)
    await recordings.close()
    later = studio.recordings("g2")
    later.bound(Bounds(session_bytes=1, total_bytes=0, kept_s=1e9))
    task = asyncio.create_task(later.run())
    await studio.storage.changes.until(lambda: f"recordings/{SESSION}" in studio.storage.deleted)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await later.close()


async def test_what_is_too_old_is_removed_while_it_runs(studio: Studio) -> None:
    recordings, session = studio.recordings(), FakeSession()
    recordings.opened(session)
    await begun(session)
    recordings.ended(SESSION)
    await recordings.close()
    index = await studio.index()
    await studio.shelf.put_index(SESSION, replace(index, ended_at=1.0).encoded())
    later = studio.recordings("g2")
    task = asyncio.create_task(later.run())
    await studio.storage.changes.until(lambda: f"recordings/{SESSION}" in studio.storage.deleted)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await later.close()
    assert await studio.shelf.index(SESSION) is None
