"""Which recordings are kept."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.recording.expiry import Expiry, Kept, expired
from gateway.recording.index import Beat, Index
from gateway.recording.shelf import Shelf
from scheduler.process.storage import FilesystemStorage
from tests.unit.gateway.recording.test_index import recording, stored

pytestmark = pytest.mark.unit

NOW = 100_000.0
DAY_S = 86_400.0


def gone(known: dict[str, Index], most_bytes: int) -> list[str]:
    kept = {session_id: Kept.of(index) for session_id, index in known.items()}
    return expired(kept, NOW, kept_s=DAY_S, most_bytes=most_bytes)


def ended(age_s: float, size: int = 10) -> Index:
    index = recording(stored(0, size=size), recorder="", beat_at=NOW - age_s)
    return replace(index, ended_at=NOW - age_s)


def test_a_recording_goes_when_its_time_is_over() -> None:
    known = {"old": ended(DAY_S + 1), "new": ended(DAY_S - 1)}
    assert gone(known, 1000) == ["old"]


def test_one_whose_end_nobody_told_goes_after_it_was_last_recorded() -> None:
    known = {
        "silent": recording(stored(0), beat_at=NOW - DAY_S - 1),
        "recorded": replace(recording(stored(0), beat_at=NOW), ended_at=None),
    }
    assert gone(known, 1000) == ["silent"]


def test_when_all_take_too_much_those_that_ended_first_go_first() -> None:
    known = {"b": ended(20.0, 40), "a": ended(30.0, 40), "c": ended(10.0, 40)}
    assert gone(known, 80) == ["a"]
    assert gone(known, 79) == ["a", "b"]


def test_what_is_being_recorded_stays_however_much_it_is() -> None:
    known = {"live": recording(stored(0, size=500), beat_at=NOW), "over": ended(1.0)}
    assert gone(known, 100) == ["over"]


async def test_a_sweep_removes_the_files(tmp_path: Path) -> None:
    storage = FilesystemStorage(tmp_path)
    shelf = Shelf(storage)
    for session_id, index in {"old": ended(DAY_S + 1), "new": ended(1.0)}.items():
        await shelf.put(session_id, "chunk_00000.m4s", b"media")
        await shelf.put_index(session_id, index.encoded())
    await Expiry(shelf, kept_s=DAY_S, most_bytes=1000).sweep(NOW)
    assert [each async for each in shelf.sessions()] == ["new"]
    assert [each.name for each in (tmp_path / "recordings").iterdir()] == ["new"]
    await storage.close()


class Watched(Shelf):
    """Lets the test act while a sweep goes over the recordings."""

    most_indexes = 0

    async def sessions(self) -> AsyncIterator[str]:
        async for session_id in super().sessions():
            yield session_id
            known = sum(isinstance(each, Index) for each in gc.get_objects())
            self.most_indexes = max(self.most_indexes, known)
        await self.swept()

    async def swept(self) -> None:
        """All have been looked at, and none is removed yet."""


class Resumed(Watched):
    """A gateway goes on with one of them in the middle of the sweep."""

    async def swept(self) -> None:
        await self.put_beat("b", Beat("g2", NOW + 1.0))


async def test_what_somebody_goes_on_with_during_the_sweep_stays(tmp_path: Path) -> None:
    storage = FilesystemStorage(tmp_path)
    shelf = Resumed(storage)
    for session_id in ("a", "b", "c"):
        await shelf.put_index(session_id, ended(DAY_S + 1).encoded())
        await shelf.put_beat(session_id, Beat("", NOW - DAY_S - 1))
    await Expiry(shelf, kept_s=DAY_S, most_bytes=1000).sweep(NOW)
    assert [each.name for each in (tmp_path / "recordings").iterdir()] == ["b"]
    await storage.close()


async def test_a_sweep_holds_what_decides_and_not_what_it_has_read(tmp_path: Path) -> None:
    storage = FilesystemStorage(tmp_path)
    shelf = Watched(storage)
    for number in range(20):
        await shelf.put_index(f"s{number}", ended(1.0).encoded())
    gc.collect()
    before = sum(isinstance(each, Index) for each in gc.get_objects())
    await Expiry(shelf, kept_s=DAY_S, most_bytes=1000).sweep(NOW)
    assert shelf.most_indexes - before <= 2
    await storage.close()


async def test_a_storage_that_fails_is_swept_another_time(tmp_path: Path) -> None:
    shelf = Shelf(FilesystemStorage(tmp_path))
    await shelf.put_index("old", ended(DAY_S + 1).encoded())
    broken = FilesystemStorage(tmp_path)
    await broken.close()
    await Expiry(Shelf(broken), kept_s=DAY_S, most_bytes=1000).sweep(NOW)
    assert [each async for each in shelf.sessions()] == ["old"]
