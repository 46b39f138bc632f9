"""What is served of recordings, and to whom."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from gateway.recording import library as module
from gateway.recording.errors import ClipGoneError, ClipPendingError, ClipUnknownError
from gateway.recording.index import Stored
from gateway.recording.library import Library, SignedFile
from gateway.recording.playlist import GOOD_FOR_S, playlist
from gateway.recording.shelf import Shelf
from scheduler.core.errors import ForbiddenError
from scheduler.core.ids import Grant, Principal
from scheduler.process.storage import FilesystemStorage
from tests.unit.gateway.recording.studio import ME, allow, plain
from tests.unit.gateway.recording.test_index import FIVE, NOW, SECOND, recording

pytestmark = pytest.mark.unit

OTHER = Principal("somebody else", frozenset({"session"}))


class Site:
    """A library of one recording, five segments of four seconds."""

    def __init__(self, root: Path) -> None:
        self.shelf = Shelf(FilesystemStorage(root))
        self.now = NOW
        self.library = Library(self.shelf, allow, lambda: self.now)
        self.signed: dict[str, SignedFile] = {}

    async def fill(self) -> Site:
        await self.shelf.put("s1", "init.mp4", b"header")
        for each in FIVE:
            await self.shelf.put("s1", each.name, b"media %d" % each.number)
        await self.shelf.put_index("s1", recording(*FIVE).encoded())
        await self.shelf.put_beat("s1", recording().beat)
        return self

    async def playlist(self, end_s: float, start_s: float = 0.0, caller: Principal = ME) -> str:
        return await self.library.playlist(caller, "s1", start_s, end_s, self._address)

    def _address(self, file: SignedFile) -> str:
        self.signed[file.name] = file
        return plain(file)

    async def fetch(self, signed_name: str, **changed: str) -> bytes:
        file = self.signed.get(signed_name) or next(iter(self.signed.values()))
        asked = {
            "session_id": file.session_id,
            "name": signed_name,
            "until": str(file.until),
            "signed": file.signature,
        }
        async with self.library.file(**asked | changed) as opened:
            return b"".join(opened.pieces())


@pytest.fixture
async def site(tmp_path: Path) -> Site:
    return await Site(tmp_path).fill()


async def test_what_a_playlist_names_can_be_fetched(site: Site) -> None:
    lines = (await site.playlist(12.0, 5.0)).splitlines()
    assert [each for each in lines if not each.startswith("#")] == [
        "chunk_00001.m4s",
        "chunk_00002.m4s",
    ]
    assert await site.fetch("init.mp4") == b"header"
    assert await site.fetch("chunk_00002.m4s") == b"media 2"


async def test_a_playlist_is_made_off_the_event_loop(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_by = []

    def watched(segments: Sequence[Stored], address: Callable[[str], str]) -> str:
        made_by.append(threading.current_thread())
        return playlist(segments, address)

    monkeypatch.setattr(module, "playlist", watched)
    assert "chunk_00004.m4s" in await site.playlist(20.0)
    (thread,) = made_by
    assert thread is not threading.current_thread()


async def test_addresses_are_good_for_a_while(site: Site) -> None:
    await site.playlist(20.0)
    site.now += GOOD_FOR_S
    assert await site.fetch("init.mp4") == b"header"
    site.now += 1
    with pytest.raises(ClipUnknownError):
        await site.fetch("init.mp4")
    await site.playlist(20.0)
    assert await site.fetch("init.mp4") == b"header"


@pytest.mark.parametrize(
    "changed",
    [
        {"signed": "0" * 32},
        {"signed": ""},
        {"until": "9999999999"},
        {"name": "index.json"},
        {"name": "../s1/init.mp4"},
        {"session_id": "s2"},
        {"session_id": "../s1"},
        {"session_id": ""},
    ],
)
async def test_what_was_not_given_out_cannot_be_fetched(
    site: Site, changed: dict[str, str]
) -> None:
    await site.playlist(20.0)
    with pytest.raises(ClipUnknownError):
        await site.fetch("init.mp4", **changed)


async def test_without_an_address_nobody_learns_what_was_recorded(site: Site) -> None:
    await site.playlist(12.0)
    told = set()
    for session_id in ("s1", "never-was", "..", "s1/../s1"):
        with pytest.raises(ClipUnknownError) as refused:
            await site.fetch("init.mp4", session_id=session_id, signed="0" * 32)
        told.add(str(refused.value))
    assert len(told) == 1


async def test_a_file_that_is_gone_since_is_unknown(site: Site) -> None:
    await site.playlist(20.0)
    await site.shelf.put_index("s1", recording(*FIVE[1:]).encoded())
    with pytest.raises(ClipUnknownError):
        await site.fetch("chunk_00000.m4s")
    await site.shelf.remove("s1", ["chunk_00001.m4s"])
    with pytest.raises(ClipUnknownError):
        await site.fetch("chunk_00001.m4s")


async def test_a_clip_whose_end_is_still_to_come_is_pending(site: Site) -> None:
    with pytest.raises(ClipPendingError):
        await site.playlist(20.5)


async def test_a_clip_that_is_kept_no_longer_is_gone(site: Site) -> None:
    await site.shelf.put_index("s1", recording(*FIVE[3:]).encoded())
    with pytest.raises(ClipGoneError):
        await site.playlist(8.0)


async def test_another_tenant_is_told_nothing(site: Site) -> None:
    with pytest.raises(ClipUnknownError):
        await site.playlist(20.0, caller=OTHER)
    for session_id in ("s2", "", "..", "a/b/c"):
        with pytest.raises(ClipUnknownError):
            await site.library.playlist(ME, session_id, 0.0, 20.0, plain)


async def test_who_may_use_a_session_is_asked_with_what_is_kept_of_its_owner(
    site: Site,
) -> None:
    asked = []

    def may_use(principal: Principal, session_id: str, owner: Principal, model: str) -> None:
        asked.append((session_id, owner.tenant, [each.name for each in owner.holders], model))
        if principal.grant.sessions is not None:
            raise ForbiddenError("bound to another")

    library = Library(site.shelf, may_use, lambda: NOW)
    await library.playlist(ME, "s1", 0.0, 20.0, plain)
    assert asked == [("s1", "me", ["key"], "painter")]
    bound = Principal("me", frozenset(), grant=Grant(sessions=frozenset({"s2"})))
    with pytest.raises(ForbiddenError):
        await library.playlist(bound, "s1", 0.0, 20.0, plain)


def test_the_recording_here_has_five_segments_of_four_seconds() -> None:
    assert FIVE[-1].end_us == 20 * SECOND
