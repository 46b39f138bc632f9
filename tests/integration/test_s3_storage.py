"""The storage in a bucket, against a real service: SeaweedFS."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.upload_retention import UploadRetention
from scheduler.core.errors import ConfigurationError, UnknownSessionError
from scheduler.process.s3_storage import PART, S3Storage
from scheduler.process.storage import SMALL, Storage, StorageError
from tests.seaweed import BUCKET, KEYS, seaweed

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service that knows one user."""
    with seaweed(tmp_path_factory.mktemp("weed")) as url:
        yield url


@pytest.fixture
async def storage(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[S3Storage]:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    # A prefix of its own is a storage of its own.
    storage = S3Storage(BUCKET, prefix=f"t{os.urandom(6).hex()}", endpoint=endpoint)
    yield storage
    await storage.close()


async def fetched(storage: Storage, key: str, spool: Path) -> bytes:
    with spool.open("wb") as file:
        size = await storage.fetch(key, file.fileno())
    data = spool.read_bytes()
    assert size == len(data)
    return data


async def test_an_object_of_several_parts_exists_from_its_last_byte_on(
    storage: S3Storage, tmp_path: Path
) -> None:
    data = os.urandom(2 * PART + 12_345)
    await storage.create("s1/u1", len(data))
    step = 3 << 20
    for offset in range(0, len(data), step):
        assert not await storage.exists("s1/u1")
        await storage.append("s1/u1", offset, data[offset : offset + step])
    assert await storage.exists("s1/u1")
    assert await fetched(storage, "s1/u1", tmp_path / "spool") == data


async def test_an_object_is_written_once_in_order_and_to_its_size(storage: S3Storage) -> None:
    await storage.create("s1/u1", 4)
    with pytest.raises(StorageError, match="being written"):
        await storage.create("s1/u1", 4)
    await storage.append("s1/u1", 0, b"ab")
    with pytest.raises(StorageError, match="2 bytes are there, not 1"):
        await storage.append("s1/u1", 1, b"c")
    with pytest.raises(StorageError, match="only 4 bytes"):
        await storage.append("s1/u1", 2, b"cde")
    await storage.append("s1/u1", 2, b"cd")
    with pytest.raises(StorageError, match="exists already"):
        await storage.create("s1/u1", 1)
    with pytest.raises(StorageError, match="not being written"):
        await storage.append("s1/u1", 4, b"e")


async def test_what_was_deleted_while_it_grew_never_appears(storage: S3Storage) -> None:
    await storage.create("s1/u1", 2)
    await storage.append("s1/u1", 0, b"a")
    await storage.delete("s1")
    with pytest.raises(StorageError):
        await storage.append("s1/u1", 1, b"b")
    assert not await storage.exists("s1/u1")


async def test_deleting_takes_what_is_below_and_not_what_begins_alike(storage: S3Storage) -> None:
    for key in ("s1/a", "s1/b/c", "s10/a", "s1x"):
        await storage.put(key, b"x")
    await storage.delete("s1")
    await storage.delete("s1")
    left = [key for key in ("s1/a", "s1/b/c", "s10/a", "s1x") if await storage.exists(key)]
    assert left == ["s10/a", "s1x"]
    await storage.delete("s1x")
    assert not await storage.exists("s1x")


async def test_a_copy_outlives_what_it_was_made_of(storage: S3Storage, tmp_path: Path) -> None:
    await storage.put("s1/a", b"clip")
    await storage.link("s1/a", "s2/a")
    await storage.put("s1/a", b"other")
    await storage.link("s1/a", "s2/a")
    await storage.delete("s1")
    assert await fetched(storage, "s2/a", tmp_path / "spool") == b"clip"
    with pytest.raises(StorageError, match="no such object"):
        await storage.link("s1/a", "s3/a")


async def test_names_come_in_order_page_by_page(storage: S3Storage) -> None:
    for key in ("b/1", "b/3", "b/2/x", "b/2/y", "c"):
        await storage.put(key, b"x")
    assert await storage.names("b", "", 10) == ["1", "2", "3"]
    assert await storage.names("b", "1", 1) == ["2"]
    assert await storage.names("", "", 10) == ["b", "c"]
    assert await storage.names("none", "", 10) == []


async def test_a_folder_that_is_left_of_what_lay_there_is_nothing(storage: S3Storage) -> None:
    for key in ("kept/a/index", "kept/a/1", "b/1"):
        await storage.put(key, b"x")
    await storage.delete("kept/a")
    assert await storage.names("kept", "", 10) == []
    assert await storage.newest("kept") is None
    assert await storage.newest("kept/a") is None


async def test_small_objects_are_replaced_and_large_ones_not_returned(storage: S3Storage) -> None:
    await storage.put("a", b"1")
    await storage.put("a", b"2")
    assert await storage.get("a") == b"2"
    with pytest.raises(StorageError, match="at most"):
        await storage.put("a", bytes(SMALL + 1))
    await storage.create("big", SMALL + 1)
    await storage.append("big", 0, bytes(SMALL + 1))
    with pytest.raises(StorageError, match="more than"):
        await storage.get("big")
    with pytest.raises(StorageError, match="no such object"):
        await storage.get("none")


@pytest.mark.parametrize("key", ["", "../a", "a//b", "/a", "a/.b", "a\x00"])
async def test_a_hostile_key_is_refused(storage: S3Storage, key: str) -> None:
    with pytest.raises(StorageError, match="not a key"):
        await storage.put(key, b"x")


async def test_the_time_of_the_newest_object_is_told(storage: S3Storage) -> None:
    assert await storage.newest("s1") is None
    await storage.put("s1/a", b"x")
    newest = await storage.newest("s1")
    assert newest is not None
    assert abs(newest - time.time()) < 60


async def test_forgotten_uploads_are_swept(storage: S3Storage) -> None:
    async def find(_: str) -> object:
        raise UnknownSessionError("no such session")

    forgotten = f"s{'a' * 32}"
    await storage.put(f"{forgotten}/clip", b"x")
    later = UploadRetention(storage, find, 3600.0, clock=lambda: time.time() + 7200)
    assert await later.sweep() == 1
    assert not await storage.exists(f"{forgotten}/clip")


async def test_a_wrong_secret_is_worded_without_it(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS["AWS_ACCESS_KEY_ID"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    storage = S3Storage(BUCKET, endpoint=endpoint)
    with pytest.raises(StorageError) as refused:
        await storage.put("s1/a", b"x")
    assert "another" not in str(refused.value)
    assert "s1/a" not in str(refused.value)
    await storage.close()


async def test_a_call_given_up_harms_no_other(storage: S3Storage, tmp_path: Path) -> None:
    await storage.put("a", b"kept")
    with (tmp_path / "spool").open("wb") as file:
        given_up = asyncio.ensure_future(storage.fetch("a", file.fileno()))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
    assert await storage.get("a") == b"kept"


async def test_a_closed_storage_says_so(storage: S3Storage) -> None:
    await storage.close()
    with pytest.raises(StorageError, match="closed"):
        await storage.get("a")


@pytest.mark.parametrize("told", [{"bucket": ""}, {"bucket": "a", "endpoint": "localhost:1"}])
def test_options_that_make_no_sense_are_refused(told: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        S3Storage(**told)
