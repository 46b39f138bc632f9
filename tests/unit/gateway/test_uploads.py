"""Uploads into the storage."""

import asyncio

import pytest

from gateway.uploads import NAME_LENGTH, UPLOADS_LIMIT, StoredUploads
from scheduler.core.errors import (
    BadArgumentError,
    BadUploadError,
    LimitError,
    SanaGatewayError,
    UnknownUploadError,
)

pytestmark = pytest.mark.unit


class MemoryStore:
    """A storage in memory whose disk can be made to wait or to fail."""

    def __init__(self) -> None:
        self.objects: dict[str, bytearray] = {}
        self.sizes: dict[str, int] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.fault: Exception | None = None

    async def create(self, key: str, size: int) -> None:
        await self._disk()
        self.objects[key], self.sizes[key] = bytearray(), size

    async def append(self, key: str, offset: int, data: bytes) -> None:
        await self._disk()
        assert offset == len(self.objects[key])
        self.objects[key] += data

    async def link(self, key: str, to: str) -> None:
        await self._disk()
        self.objects[to] = self.objects[key]

    async def delete(self, prefix: str) -> None:
        await self._disk()
        for key in [key for key in self.objects if f"{key}/".startswith(f"{prefix}/")]:
            del self.objects[key]

    async def _disk(self) -> None:
        self.entered.set()
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def uploads(store: MemoryStore) -> StoredUploads:
    return StoredUploads(store, max_upload_bytes=100, upload_session_bytes=150)


async def test_pieces_land_under_session_and_upload(
    store: MemoryStore, uploads: StoredUploads
) -> None:
    upload = await uploads.reserve("s", "clip.mp4", "video/mp4", 6)
    upload_id = upload.file.upload_id
    await uploads.write("s", upload_id, 0, b"abc")
    assert (upload.received, upload.complete) == (3, False)
    await uploads.write("s", upload_id, 3, b"def")
    assert upload.complete
    assert store.objects == {f"s/{upload_id}": b"abcdef"}
    assert uploads.find("s", upload_id) is upload
    assert (upload.file.name, upload.file.mime_type, upload.file.size) == (
        "clip.mp4",
        "video/mp4",
        6,
    )


async def test_ids_cannot_be_guessed_from_each_other(uploads: StoredUploads) -> None:
    made = {(await uploads.reserve("s", "a", "", 1)).file.upload_id for _ in range(8)}
    assert len(made) == 8
    assert all(len(each) == 32 for each in made)


@pytest.mark.parametrize(("name", "size"), [("", 1), ("a", 0), ("a", -1)])
async def test_an_upload_without_name_or_size_is_refused(
    uploads: StoredUploads, name: str, size: int
) -> None:
    with pytest.raises(BadArgumentError):
        await uploads.reserve("s", name, "", size)


async def test_an_upload_over_the_limit_is_refused(uploads: StoredUploads) -> None:
    with pytest.raises(LimitError):
        await uploads.reserve("s", "a", "", 101)


async def test_the_uploads_of_a_session_share_a_limit(uploads: StoredUploads) -> None:
    await uploads.reserve("s", "a", "", 100)
    with pytest.raises(LimitError):
        await uploads.reserve("s", "b", "", 51)
    await uploads.reserve("s", "b", "", 50)
    await uploads.reserve("other", "a", "", 100)


async def test_a_session_makes_a_bounded_number_of_uploads(uploads: StoredUploads) -> None:
    for _ in range(UPLOADS_LIMIT):
        await uploads.reserve("s", "a", "", 1)
    with pytest.raises(LimitError):
        await uploads.reserve("s", "a", "", 1)


async def test_a_long_name_is_cut(uploads: StoredUploads) -> None:
    upload = await uploads.reserve("s", "n" * 1000, "m" * 1000, 1)
    assert (len(upload.file.name), len(upload.file.mime_type)) == (NAME_LENGTH, NAME_LENGTH)


@pytest.mark.parametrize(
    ("offset", "data"), [(1, b"a"), (-1, b"a"), (0, b"12345678901")], ids=["ahead", "neg", "long"]
)
async def test_bytes_that_do_not_fit_are_refused_and_change_nothing(
    store: MemoryStore, uploads: StoredUploads, offset: int, data: bytes
) -> None:
    upload = await uploads.reserve("s", "a", "", 10)
    with pytest.raises(BadUploadError):
        await uploads.write("s", upload.file.upload_id, offset, data)
    assert upload.received == 0
    assert store.objects[f"s/{upload.file.upload_id}"] == b""


async def test_a_complete_upload_takes_no_more(uploads: StoredUploads) -> None:
    upload = await uploads.reserve("s", "a", "", 1)
    await uploads.write("s", upload.file.upload_id, 0, b"a")
    with pytest.raises(BadUploadError):
        await uploads.write("s", upload.file.upload_id, 1, b"b")


async def test_another_session_does_not_find_an_upload(uploads: StoredUploads) -> None:
    upload = await uploads.reserve("s", "a", "", 1)
    with pytest.raises(UnknownUploadError):
        uploads.find("other", upload.file.upload_id)
    with pytest.raises(UnknownUploadError):
        await uploads.write("other", upload.file.upload_id, 0, b"a")


async def test_a_write_given_up_by_its_client_is_finished_all_the_same(
    store: MemoryStore, uploads: StoredUploads
) -> None:
    upload = await uploads.reserve("s", "a", "", 4)
    store.gate.clear()
    store.entered.clear()
    writing = asyncio.create_task(uploads.write("s", upload.file.upload_id, 0, b"ab"))
    await store.entered.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    store.gate.set()
    await uploads.close()
    assert upload.received == 2
    await uploads.write("s", upload.file.upload_id, 2, b"cd")
    assert store.objects[f"s/{upload.file.upload_id}"] == b"abcd"


async def test_of_two_writes_to_one_place_one_is_refused(uploads: StoredUploads) -> None:
    upload = await uploads.reserve("s", "a", "", 4)
    writes = [uploads.write("s", upload.file.upload_id, 0, b"ab") for _ in range(2)]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(each) for each in results if isinstance(each, Exception)] == [BadUploadError]
    assert upload.received == 2


async def test_a_failing_disk_leaves_the_upload_where_it_was(
    store: MemoryStore, uploads: StoredUploads
) -> None:
    upload = await uploads.reserve("s", "a", "", 2)
    store.fault = SanaGatewayError("disk full")
    with pytest.raises(SanaGatewayError):
        await uploads.write("s", upload.file.upload_id, 0, b"ab")
    assert upload.received == 0
    store.fault = None
    await uploads.write("s", upload.file.upload_id, 0, b"ab")
    assert upload.complete


async def test_a_failed_reservation_counts_for_nothing(
    store: MemoryStore, uploads: StoredUploads
) -> None:
    store.fault = SanaGatewayError("disk full")
    with pytest.raises(SanaGatewayError):
        await uploads.reserve("s", "a", "", 100)
    store.fault = None
    await uploads.reserve("s", "a", "", 100)


async def test_forgetting_a_session_removes_its_bytes(
    store: MemoryStore, uploads: StoredUploads
) -> None:
    upload = await uploads.reserve("s", "a", "", 2)
    other = await uploads.reserve("other", "a", "", 2)
    uploads.forget("s")
    uploads.forget("never heard of")
    with pytest.raises(UnknownUploadError):
        uploads.find("s", upload.file.upload_id)
    await uploads.close()
    assert list(store.objects) == [f"other/{other.file.upload_id}"]


async def test_forgetting_removes_what_came_through_a_gateway_that_is_gone(
    store: MemoryStore, uploads: StoredUploads
) -> None:
    await uploads.reserve("s", "a", "", 2)
    later = StoredUploads(store, max_upload_bytes=100, upload_session_bytes=100)
    later.forget("s")
    await later.close()
    assert store.objects == {}


async def test_a_storage_that_cannot_remove_does_not_disturb(
    store: MemoryStore, uploads: StoredUploads
) -> None:
    await uploads.reserve("s", "a", "", 2)
    store.fault = SanaGatewayError("gone")
    uploads.forget("s")
    await uploads.close()


async def test_a_session_that_ends_during_a_reservation_leaves_nothing(
    store: MemoryStore, uploads: StoredUploads
) -> None:
    store.gate.clear()
    store.entered.clear()
    reserving = asyncio.create_task(uploads.reserve("s", "a", "", 2))
    await store.entered.wait()
    uploads.forget("s")
    store.gate.set()
    with pytest.raises(UnknownUploadError):
        await reserving
    await uploads.close()
    assert store.objects == {}


async def test_who_waits_for_an_upload_hears_when_it_is_complete(store: MemoryStore) -> None:
    heard: list[str] = []
    uploads = StoredUploads(
        store, max_upload_bytes=100, upload_session_bytes=150, on_complete=heard.append
    )
    upload = await uploads.reserve("s", "a", "", 2)
    await uploads.write("s", upload.file.upload_id, 0, b"x")
    assert heard == []
    await uploads.write("s", upload.file.upload_id, 1, b"x")
    assert heard == ["s"]


async def test_copies_of_a_session_keep_its_clip_when_it_ends(
    store: MemoryStore, uploads: StoredUploads
) -> None:
    upload = await uploads.reserve("s", "a", "", 2)
    upload_id = upload.file.upload_id
    await uploads.write("s", upload_id, 0, b"ab")
    await uploads.copy("s", [upload.file], ["c1", "c2"])
    uploads.forget("s")
    await uploads.close()
    assert set(store.objects) == {f"c1/{upload_id}", f"c2/{upload_id}"}
    assert uploads.find("c1", upload_id).complete
    uploads.forget("c1")
    await uploads.close()
    assert set(store.objects) == {f"c2/{upload_id}"}


async def test_copies_that_cannot_be_given_a_clip_are_given_nothing(
    store: MemoryStore, uploads: StoredUploads
) -> None:
    upload = await uploads.reserve("s", "a", "", 1)
    await uploads.write("s", upload.file.upload_id, 0, b"a")
    store.fault = SanaGatewayError("the disk is full")
    with pytest.raises(SanaGatewayError):
        await uploads.copy("s", [upload.file], ["c1"])
    with pytest.raises(UnknownUploadError):
        uploads.find("c1", upload.file.upload_id)
    await uploads.close()


async def test_what_a_quota_refuses_takes_no_room(store: MemoryStore) -> None:
    asked: list[tuple[str, str, int]] = []

    async def count(session_id: str, upload_id: str, size: int) -> None:
        asked.append((session_id, upload_id, size))
        if size > 50:
            raise LimitError("no more", quota="stored")

    uploads = StoredUploads(store, max_upload_bytes=100, upload_session_bytes=150, on_reserve=count)
    with pytest.raises(LimitError, match="no more"):
        await uploads.reserve("s", "a", "", 60)
    assert store.objects == {}
    upload = await uploads.reserve("s", "a", "", 50)
    assert asked[1] == ("s", upload.file.upload_id, 50)
    # What our own bounds refuse is counted nowhere.
    with pytest.raises(LimitError):
        await uploads.reserve("s", "a", "", 101)
    assert len(asked) == 2
    # The refused one is no part of what the session may upload.
    await uploads.reserve("s", "b", "", 50)
    await uploads.reserve("s", "c", "", 50)
