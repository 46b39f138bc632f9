"""Where recordings lie."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.recording import shelf as module
from gateway.recording.errors import ClipBusyError
from gateway.recording.index import Beat
from gateway.recording.shelf import PIECE, Shelf
from scheduler.process.storage import FilesystemStorage, StorageError
from tests.unit.gateway.recording.studio import read
from tests.unit.gateway.recording.test_index import FIVE, recording

pytestmark = pytest.mark.unit


class Full(FilesystemStorage):
    """A storage whose disk is full after the first bytes."""

    async def append(self, key: str, offset: int, data: bytes) -> None:
        await super().append(key, offset, data[:2])
        raise StorageError("the storage failed: No space left on device")


async def test_of_a_file_that_does_not_fit_nothing_is_left(tmp_path: Path) -> None:
    storage = Full(tmp_path)
    with pytest.raises(StorageError):
        await Shelf(storage).put("s1", "chunk_00000.m4s", b"media")
    assert list((tmp_path / "recordings/s1").iterdir()) == []
    await storage.close()


async def test_a_large_file_is_read_whole(tmp_path: Path) -> None:
    storage = FilesystemStorage(tmp_path)
    data = bytes(range(256)) * 20_000
    await Shelf(storage).put("s1", "chunk_00000.m4s", data)
    assert await read(Shelf(storage), "s1", "chunk_00000.m4s") == data
    with pytest.raises(StorageError):
        await read(Shelf(storage), "s1", "chunk_00001.m4s")
    await storage.close()


async def test_a_file_is_handed_out_in_pieces_and_only_so_many_are_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_READS", 1)
    monkeypatch.setattr(module, "WAIT_S", 0.01)
    storage = FilesystemStorage(tmp_path)
    shelf = Shelf(storage)
    await shelf.put("s1", "chunk_00000.m4s", bytes(2 * PIECE + 1))
    async with shelf.opened("s1", "chunk_00000.m4s") as file:
        assert [len(piece) for piece in file.pieces()] == [PIECE, PIECE, 1]
        with pytest.raises(ClipBusyError):
            await read(shelf, "s1", "chunk_00000.m4s")
    monkeypatch.undo()
    async with shelf.opened("s1", "chunk_00000.m4s"):
        waits = asyncio.create_task(read(shelf, "s1", "chunk_00000.m4s"))
        await asyncio.sleep(0)
    assert len(await waits) == 2 * PIECE + 1
    with pytest.raises(StorageError):
        await read(shelf, "s1", "chunk_00001.m4s")
    assert len(await read(shelf, "s1", "chunk_00000.m4s")) == 2 * PIECE + 1
    await storage.close()


async def test_all_is_listed_however_much_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    storage = FilesystemStorage(tmp_path)
    shelf = Shelf(storage)
    assert [each async for each in shelf.sessions()] == []
    for number in range(5):
        await shelf.put_index(f"s{number}", recording(*FIVE).encoded())
    assert [each async for each in shelf.sessions()] == [f"s{number}" for number in range(5)]
    await storage.close()


@pytest.mark.parametrize("at_once", [0, 1 << 20])
async def test_an_index_is_read_whatever_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(module, "READ_AT_ONCE", at_once)
    storage = FilesystemStorage(tmp_path)
    shelf = Shelf(storage)
    await shelf.put_index("s1", recording(*FIVE).encoded())
    assert await shelf.index("s1") == replace(recording(*FIVE), beat=Beat())
    await shelf.put_beat("s1", recording().beat)
    assert await shelf.index("s1") == recording(*FIVE)
    assert await shelf.index("s2") is None
    assert await shelf.beat("s2") == Beat()
    await storage.close()


class Vanishing(FilesystemStorage):
    """A storage in which somebody removes what is about to be read."""

    async def get(self, key: str) -> bytes:
        await self.delete(key)
        return await super().get(key)


async def test_what_is_removed_just_before_it_is_read_is_not_there(tmp_path: Path) -> None:
    storage = Vanishing(tmp_path)
    shelf = Shelf(storage)
    await shelf.put_index("s1", recording(*FIVE).encoded())
    await shelf.put_beat("s1", Beat("g1", 1.0))
    assert await shelf.beat("s1") == Beat()
    assert await shelf.index("s1") is None
    await storage.close()
