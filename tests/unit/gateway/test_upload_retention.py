"""Uploads that nobody owns are removed, and no others."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.placement import SchedulerAwayError
from gateway.upload_retention import UploadRetention
from model_actor.snapshots.host_tier import HostTier
from model_actor.snapshots.kept import KeptState
from model_actor.snapshots.states import KeptStates
from model_actor.snapshots.storage_tier import StorageTier
from scheduler.core.errors import NotReadyError, UnknownSessionError
from scheduler.kept_names import folder_of
from scheduler.process.storage import FilesystemStorage

pytestmark = pytest.mark.unit

DAY = 86_400.0
OURS, PARKED, GONE, FRESH, SLEEPING = (f"s{digit * 32}" for digit in "abcde")


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[FilesystemStorage]:
    storage = FilesystemStorage(tmp_path)
    yield storage
    await storage.close()


async def find(session_id: str) -> object:
    if session_id == OURS:
        return object()
    if session_id == PARKED:
        raise NotReadyError("it is parked")
    raise UnknownSessionError("no such session")


async def stored(storage: FilesystemStorage, root: Path, key: str, age_s: float) -> None:
    await storage.put(key, b"x")
    at = time.time() - age_s
    os.utime(root / key, (at, at))


async def test_what_is_left_over_goes_and_nothing_else(
    storage: FilesystemStorage, tmp_path: Path
) -> None:
    for session in (OURS, PARKED, GONE, SLEEPING):
        await stored(storage, tmp_path, f"{session}/clip", 2 * DAY)
    await stored(storage, tmp_path, f"{FRESH}/clip", 2 * DAY)
    await stored(storage, tmp_path, f"{FRESH}/other", 0.5 * DAY)
    await stored(storage, tmp_path, f"{folder_of(SLEEPING)}/index", 2 * DAY)
    await stored(storage, tmp_path, "recordings/old/part", 9 * DAY)
    assert await UploadRetention(storage, find, DAY).sweep() == 1
    assert not await storage.exists(f"{GONE}/clip")
    for kept in (f"{OURS}/clip", f"{PARKED}/clip", f"{SLEEPING}/clip", f"{FRESH}/clip"):
        assert await storage.exists(kept)
    assert await storage.exists("recordings/old/part")


async def test_uploads_of_a_session_stay_whose_state_an_actor_has_stored(
    storage: FilesystemStorage, tmp_path: Path
) -> None:
    await stored(storage, tmp_path, f"{SLEEPING}/clip", 2 * DAY)
    kept = KeptStates(HostTier(tmp_path / "host", 0), StorageTier(storage), "here")
    assert await kept.store(SLEEPING, 1, KeptState(b"control", None, 1, 1))
    await kept.close()
    assert await UploadRetention(storage, find, DAY).sweep() == 0
    assert await storage.exists(f"{SLEEPING}/clip")


async def test_many_sessions_are_looked_at_page_by_page(
    storage: FilesystemStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.upload_retention.PAGE", 3)
    for number in range(8):
        await stored(storage, tmp_path, f"s{number:032x}/clip", 2 * DAY)
    assert await UploadRetention(storage, find, DAY).sweep() == 8


async def test_while_nobody_knows_which_sessions_there_are_nothing_goes(
    storage: FilesystemStorage, tmp_path: Path
) -> None:
    async def away(_: str) -> object:
        raise SchedulerAwayError("away")

    await stored(storage, tmp_path, f"{GONE}/clip", 2 * DAY)
    with pytest.raises(SchedulerAwayError):
        await UploadRetention(storage, away, DAY).sweep()
    assert await storage.exists(f"{GONE}/clip")
