"""The filesystem storage: growing objects, hostile keys and links, deletion, cancellation."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from scheduler.process.storage import SMALL, FilesystemStorage, Storage, StorageError

pytestmark = pytest.mark.unit


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
async def storage(root: Path) -> AsyncIterator[FilesystemStorage]:
    storage = FilesystemStorage(root)
    yield storage
    await storage.close()


async def fetched(storage: Storage, key: str, spool: Path) -> bytes:
    with spool.open("wb") as file:
        size = await storage.fetch(key, file.fileno())
    data = spool.read_bytes()
    assert size == len(data)
    return data


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_an_object_appended_in_pieces_is_fetched_whole(
    storage: FilesystemStorage, tmp_path: Path
) -> None:
    await storage.create("s1/u1", 6)
    await storage.append("s1/u1", 0, b"abcd")
    await storage.append("s1/u1", 4, b"ef")
    assert await fetched(storage, "s1/u1", tmp_path / "spool") == b"abcdef"


async def test_an_object_larger_than_one_piece_is_fetched_whole(
    storage: FilesystemStorage, tmp_path: Path
) -> None:
    data = os.urandom((2 << 20) + 7)
    await storage.create("s1/u1", len(data))
    await storage.append("s1/u1", 0, data)
    assert await fetched(storage, "s1/u1", tmp_path / "spool") == data


async def test_an_object_exists_from_its_last_byte_on(storage: FilesystemStorage) -> None:
    await storage.create("s1/u1", 3)
    await storage.append("s1/u1", 0, b"ab")
    assert not await storage.exists("s1/u1")
    with pytest.raises(StorageError, match="no such object"):
        await storage.get("s1/u1")
    await storage.append("s1/u1", 2, b"c")
    assert await storage.exists("s1/u1")


async def test_another_instance_on_the_same_directory_reads_a_complete_object(
    storage: FilesystemStorage, root: Path
) -> None:
    await storage.put("probe/p1", b"seen")
    other = FilesystemStorage(root)
    assert await other.get("probe/p1") == b"seen"
    await other.close()


async def test_appending_elsewhere_than_at_the_end_is_refused_and_changes_nothing(
    storage: FilesystemStorage,
) -> None:
    await storage.create("s1/u1", 4)
    await storage.append("s1/u1", 0, b"ab")
    for offset in (0, 1, 3):
        with pytest.raises(StorageError, match="2 bytes are there"):
            await storage.append("s1/u1", offset, b"x")
    await storage.append("s1/u1", 2, b"cd")
    assert await storage.get("s1/u1") == b"abcd"


async def test_appending_more_than_announced_is_refused(storage: FilesystemStorage) -> None:
    await storage.create("s1/u1", 2)
    with pytest.raises(StorageError, match="only 2 bytes"):
        await storage.append("s1/u1", 0, b"abc")
    await storage.append("s1/u1", 0, b"ab")
    with pytest.raises(StorageError, match="not being written"):
        await storage.append("s1/u1", 2, b"c")


async def test_of_two_appends_at_the_same_offset_one_is_refused(
    storage: FilesystemStorage,
) -> None:
    await storage.create("s1/u1", 4)
    results = await asyncio.gather(
        storage.append("s1/u1", 0, b"ab"),
        storage.append("s1/u1", 0, b"xy"),
        return_exceptions=True,
    )
    assert [type(result) for result in results if result] == [StorageError]


async def test_creating_what_is_there_or_under_way_is_refused(
    storage: FilesystemStorage,
) -> None:
    await storage.create("s1/u1", 1)
    with pytest.raises(StorageError, match="already"):
        await storage.create("s1/u1", 1)
    await storage.append("s1/u1", 0, b"a")
    with pytest.raises(StorageError, match="already"):
        await storage.create("s1/u1", 1)


async def test_an_object_of_no_bytes_cannot_be_created(storage: FilesystemStorage) -> None:
    with pytest.raises(StorageError, match="at least one byte"):
        await storage.create("s1/u1", 0)


@pytest.mark.parametrize(
    "key",
    [
        "", "/", "/etc/passwd", "..", "../x", "a/../b", "a//b", "a/", "/a", ".", ".hidden", "a/.b",
        "a\\b", "a b", "a\nb", "a\x00b", "ä", "-a", "a" * 129, "/".join("a" * 9),
    ],
)  # fmt: skip
async def test_a_key_that_could_lead_elsewhere_is_refused_by_every_method(
    storage: FilesystemStorage, root: Path, key: str
) -> None:
    calls = (
        storage.create(key, 1),
        storage.append(key, 0, b"a"),
        storage.fetch(key, 0),
        storage.exists(key),
        storage.delete(key),
        storage.put(key, b"a"),
        storage.get(key),
    )
    for call in calls:
        with pytest.raises(StorageError, match="not a key"):
            await call
    assert not root.exists()


async def test_a_link_in_the_place_of_an_object_is_not_followed(
    storage: FilesystemStorage, root: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    await storage.put("s1/u1", b"x")
    (root / "s1" / "link").symlink_to(secret)
    assert not await storage.exists("s1/link")
    with pytest.raises(StorageError, match="no such object"):
        await storage.get("s1/link")
    await storage.delete("s1/link")
    assert secret.read_bytes() == b"secret"


async def test_a_link_in_the_place_of_a_folder_is_not_followed(
    storage: FilesystemStorage, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"kept")
    root.mkdir()
    (root / "s1").symlink_to(outside)
    for call in (storage.put("s1/u1", b"x"), storage.create("s1/u2", 1)):
        with pytest.raises(StorageError):
            await call
    with pytest.raises(StorageError, match="no such object"):
        await storage.get("s1/kept")
    await storage.delete("s1/kept")
    await storage.delete("s1")
    assert (outside / "kept").read_bytes() == b"kept"


async def test_a_pipe_in_the_place_of_an_object_blocks_nothing(
    storage: FilesystemStorage, root: Path
) -> None:
    root.mkdir()
    os.mkfifo(root / "pipe")
    with pytest.raises(StorageError, match="no such object"):
        await storage.get("pipe")


async def test_deleting_a_prefix_removes_all_below_and_nothing_beside(
    storage: FilesystemStorage, root: Path
) -> None:
    await storage.put("s1/u1", b"1")
    await storage.put("s1/deep/u2", b"2")
    await storage.create("s1/u3", 2)
    await storage.append("s1/u3", 0, b"3")
    await storage.put("s10/u1", b"4")
    await storage.delete("s1")
    assert not (root / "s1").exists()
    assert await storage.exists("s10/u1")
    with pytest.raises(StorageError, match="not being written"):
        await storage.append("s1/u3", 1, b"3")


async def test_deleting_one_unfinished_object_leaves_no_file(
    storage: FilesystemStorage, root: Path
) -> None:
    await storage.create("s1/u1", 2)
    await storage.delete("s1/u1")
    assert list((root / "s1").iterdir()) == []


async def test_deleting_what_is_not_there_is_no_error(storage: FilesystemStorage) -> None:
    await storage.delete("s1")
    await storage.delete("s1/u1")


async def test_names_below_a_prefix_are_listed_in_order_and_piece_by_piece(
    storage: FilesystemStorage, root: Path
) -> None:
    for key in ("kept/b/index", "kept/a", "kept/c/index", "keptish/d"):
        await storage.put(key, b"x")
    await storage.create("kept/b/growing", 2)
    assert await storage.names("kept", "", 10) == ["a", "b", "c"]
    assert await storage.names("kept", "", 2) == ["a", "b"]
    assert await storage.names("kept", "b", 2) == ["c"]
    assert await storage.names("kept/b", "", 10) == ["index"], "what is not complete is no object"
    assert await storage.names("kept/a", "", 10) == [], "an object has nothing below it"
    assert await storage.names("nothing", "", 10) == []
    (root / "link").symlink_to(root / "kept")
    assert await storage.names("link", "", 10) == [], "a link is not followed"
    with pytest.raises(StorageError):
        await storage.names("..", "", 10)


async def test_put_replaces_an_object_at_once(storage: FilesystemStorage, root: Path) -> None:
    await storage.put("probe", b"old")
    await storage.put("probe", b"new")
    assert await storage.get("probe") == b"new"
    assert [path.name for path in root.iterdir()] == ["probe"]


async def test_put_and_get_refuse_large_objects(storage: FilesystemStorage) -> None:
    with pytest.raises(StorageError, match="at most"):
        await storage.put("big", bytes(SMALL + 1))
    await storage.create("big", SMALL + 1)
    await storage.append("big", 0, bytes(SMALL + 1))
    with pytest.raises(StorageError, match="more than"):
        await storage.get("big")


async def test_an_error_of_the_system_is_worded_without_the_path(
    storage: FilesystemStorage, root: Path
) -> None:
    root.write_bytes(b"a file where the directory should be")
    with pytest.raises(StorageError) as caught:
        await storage.put("private-name", b"x")
    assert "private-name" not in str(caught.value)
    assert str(root) not in str(caught.value)


async def test_a_cancelled_fetch_keeps_and_harms_no_descriptor(
    storage: FilesystemStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.put("u1", b"late")
    started, go_on, copied = threading.Event(), threading.Event(), threading.Event()
    fetch = storage._fetch

    def slow(segments: tuple[str, ...], into: int) -> int:
        started.set()
        go_on.wait(30)
        size = fetch(segments, into)
        copied.set()
        return size

    monkeypatch.setattr(storage, "_fetch", slow)
    spool = os.open(tmp_path / "spool", os.O_RDWR | os.O_CREAT)
    before = open_descriptors()
    task = asyncio.create_task(storage.fetch("u1", spool))
    await asyncio.to_thread(started.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    os.close(spool)
    # Gets the number that the spool file had.
    innocent = os.open(tmp_path / "innocent", os.O_RDWR | os.O_CREAT)
    assert innocent == spool
    go_on.set()
    assert await asyncio.to_thread(copied.wait, 30)
    await storage.close()
    assert (tmp_path / "innocent").read_bytes() == b""
    assert open_descriptors() <= before
    os.close(innocent)


async def test_a_closed_storage_refuses(root: Path) -> None:
    storage = FilesystemStorage(root)
    await storage.close()
    with pytest.raises(StorageError, match="closed"):
        await storage.put("a", b"a")


def test_it_has_the_shape_of_a_storage(tmp_path: Path) -> None:
    assert isinstance(FilesystemStorage(tmp_path), Storage)


async def test_a_linked_object_outlives_the_one_that_it_was_linked_from(
    storage: FilesystemStorage, tmp_path: Path
) -> None:
    await storage.put("s1/u1", b"a clip")
    await storage.link("s1/u1", "s2/u1")
    await storage.link("s1/u1", "s2/u1")
    await storage.delete("s1")
    assert await fetched(storage, "s2/u1", tmp_path / "spool") == b"a clip"
    await storage.link("s1/u1", "s2/u1")
    await storage.delete("s2")
    assert not await storage.exists("s2/u1")


async def test_only_complete_objects_of_the_storage_are_linked(
    storage: FilesystemStorage, root: Path, tmp_path: Path
) -> None:
    await storage.create("s1/u1", 3)
    (tmp_path / "secret").write_bytes(b"not yours")
    (root / "s1" / "u2").symlink_to(tmp_path / "secret")
    for key in ("s1/u1", "s1/u2", "s1", "s9/u1", "../secret"):
        with pytest.raises(StorageError):
            await storage.link(key, "s2/u1")
    assert not await storage.exists("s2/u1")
