"""Clips on the Reactor wire: what clients are answered, and what they fetch, over a real socket."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import aiohttp
import pytest

from gateway.auth import Access
from gateway.http import HttpServer
from gateway.ingress import IngressServices, IngressSettings
from gateway.ports import Clip
from gateway.recording import shelf
from gateway.recording.library import Library
from gateway.recording.shelf import OpenFile, Shelf
from scheduler.process.storage import FilesystemStorage
from sdk_adapters.reactor import clips, wire
from sdk_adapters.reactor.clips import ClipRoutes
from tests.fakes.hub import FakeHub
from tests.fakes.operations import FakeOperations
from tests.fakes.peers import FakePeers
from tests.fakes.uploads import FakeUploads
from tests.unit.gateway.recording.test_index import FIVE, NOW, recording
from tests.unit.sdk_adapters.reactor_site import KeyAuth
from tests.unit.sdk_adapters.test_reactor_channels import JS, Talk

pytestmark = pytest.mark.unit

WHOLE = "/clips?session_id=s1&start=0.000&end=20.000"
MINE = {"Authorization": "Bearer a"}


class Site:
    """A server with the routes, and a recording of five segments of four seconds."""

    def __init__(self, root: Path, *, enabled: bool = True) -> None:
        self.storage = FilesystemStorage(root)
        self.shelf = Shelf(self.storage)
        library = Library(self.shelf, Access(lambda: None).may_use, lambda: NOW)
        services = IngressServices(
            hub=FakeHub(),
            uploads=FakeUploads(),
            auth=KeyAuth(),
            peers=FakePeers(),
            pool=None,  # type: ignore[arg-type]
            drain=None,  # type: ignore[arg-type]
            operations=FakeOperations(),
            settings=IngressSettings(http_address="127.0.0.1:0"),
            recordings=library if enabled else None,
        )
        self.http = HttpServer(services)
        self.http.add_routes(ClipRoutes(services).routes())

    async def start(self) -> Site:
        index = recording(*FIVE)
        await self.shelf.put_index("s1", index.encoded().replace(b'"me"', b'"a"'))
        await self.shelf.put_beat("s1", index.beat)
        await self.shelf.put("s1", "init.mp4", b"header")
        for each in FIVE:
            await self.shelf.put("s1", each.name, b"media %d" % each.number)
        await self.http.start()
        self.client = aiohttp.ClientSession()
        return self

    async def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes, Any]:
        url = urljoin(f"{self.http.url}/clips", path)
        async with self.client.get(url, headers=MINE if headers is None else headers) as response:
            return response.status, await response.read(), response.headers

    async def address(self, name: str) -> str:
        """Returns where a file of the recording is."""
        _, body, _ = await self.get(WHOLE)
        (found,) = [line for line in body.decode().splitlines() if f"/{name}?" in line]
        return found.split('"')[1] if '"' in found else found

    async def stop(self) -> None:
        await self.client.close()
        await self.http.stop()
        await self.storage.close()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = await Site(tmp_path).start()
    yield made
    await made.stop()


async def test_a_playlist_and_its_files_can_be_fetched_the_files_without_a_token(
    site: Site,
) -> None:
    status, body, headers = await site.get(WHOLE)
    assert (status, headers["Content-Type"].split(";")[0]) == (200, "application/vnd.apple.mpegurl")
    lines = body.decode().splitlines()
    files = [line for line in lines if not line.startswith("#")]
    (header,) = [line.split('"')[1] for line in lines if line.startswith("#EXT-X-MAP")]
    fetched = [await site.get(file, {}) for file in (header, *files)]
    assert [each[:2] for each in fetched] == [
        (200, b"header"),
        *((200, b"media %d" % number) for number in range(5)),
    ]
    assert fetched[0][2]["Content-Type"] == "video/mp4"
    assert fetched[1][2]["Content-Type"] == "video/iso.segment"


async def test_the_addresses_hold_below_a_path_of_a_proxy(site: Site) -> None:
    _, body, _ = await site.get(WHOLE)
    file = body.decode().splitlines()[-2]
    there = urljoin("https://edit.example/base/clips?session_id=s1", file)
    assert there.startswith("https://edit.example/base/clips/chunks/s1/chunk_00004.m4s?")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
async def test_a_playlist_needs_a_token(site: Site, headers: dict[str, str]) -> None:
    assert (await site.get(WHOLE, headers))[0] == 401


async def test_another_tenant_finds_nothing(site: Site) -> None:
    assert (await site.get(WHOLE, {"Authorization": "Bearer b"}))[0] == 404
    assert (await site.get(WHOLE.replace("s1", "s2")))[0] == 404
    assert (await site.get(WHOLE.replace("s1", "..%2Fs1")))[0] == 404


async def test_files_need_their_signature(site: Site) -> None:
    file = "/clips/chunks/s1/init.mp4"
    assert (await site.get(file))[0] == 404
    assert (await site.get(f"{file}?until=9999999999&signature=0"))[0] == 404


async def test_a_clip_whose_end_is_still_to_come_is_asked_for_again(site: Site) -> None:
    status, body, headers = await site.get("/clips?session_id=s1&start=18&end=21.5")
    assert (status, body, headers["Retry-After"]) == (202, b"", "1")


async def test_a_clip_that_is_kept_no_longer_is_gone(site: Site) -> None:
    left = recording(*FIVE[3:]).encoded().replace(b'"me"', b'"a"')
    await site.shelf.put_index("s1", left)
    assert (await site.get("/clips?session_id=s1&start=0&end=8"))[0] == 410


@pytest.mark.parametrize(
    "query",
    ["start=0", "end=1", "start=x&end=1", "start=nan&end=1", "start=-1&end=1", "start=1&end=1"],
)
async def test_markers_that_make_no_sense_are_refused(site: Site, query: str) -> None:
    assert (await site.get(f"/clips?session_id=s1&{query}"))[0] == 400


async def test_a_storage_that_fails_is_asked_again_later(site: Site) -> None:
    await site.storage.close()
    assert (await site.get(WHOLE))[0] == 503
    assert (await site.get("/clips/chunks/s1/init.mp4?until=9999999999&signature=0"))[0] == 503


async def test_who_comes_when_too_many_read_is_told_to_come_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await site.address("init.mp4")
    monkeypatch.setattr(shelf, "WAIT_S", 0.01)
    async with AsyncExitStack() as others:
        for _ in range(shelf.MOST_READS):
            await others.enter_async_context(site.shelf.opened("s1", "init.mp4"))
        status, _, headers = await site.get(file, {})
        assert (status, headers["Retry-After"]) == (503, "1")
    monkeypatch.undo()
    assert (await site.get(file, {}))[:2] == (200, b"header")


async def test_who_does_not_read_gets_a_part_of_a_file_into_memory_and_is_hung_up_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clips, "SEND_S", 0.2)
    large, handed_out = bytes(32 * 1024 * 1024), 0
    given_up = asyncio.Event()
    await site.shelf.remove("s1", ["init.mp4"])
    await site.shelf.put("s1", "init.mp4", large)
    pieces = OpenFile.pieces

    def watched(self: OpenFile) -> Iterator[bytes]:
        nonlocal handed_out
        try:
            for piece in pieces(self):
                handed_out += len(piece)
                yield piece
        finally:
            given_up.set()

    monkeypatch.setattr(OpenFile, "pieces", watched)
    file = await site.address("init.mp4")
    async with site.client.get(urljoin(f"{site.http.url}/clips", file)) as response:
        assert (response.status, response.content_length) == (200, len(large))
        async with asyncio.timeout(30):
            await given_up.wait()
        assert handed_out < len(large)
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def test_a_file_is_described_without_being_sent(site: Site) -> None:
    url = urljoin(f"{site.http.url}/clips", await site.address("init.mp4"))
    async with site.client.head(url) as response:
        assert (response.status, response.content_length) == (200, 6)
        assert response.content_type == "video/mp4"


async def test_where_nothing_is_recorded_there_is_no_clip(tmp_path: Path) -> None:
    site = await Site(tmp_path, enabled=False).start()
    assert (await site.get(WHOLE))[0] == 404
    assert (await site.get("/clips/chunks/s1/init.mp4?until=9999999999&signature=0"))[0] == 404
    await site.stop()


async def test_a_clip_is_answered_with_all_that_clients_need() -> None:
    talk = Talk(JS).open()
    talk.heard()
    talk.session.clip = Clip(
        "s 1", whole=False, start_us=1_500_900, end_us=3_541_666, ready_at=1_790_000_000.25
    )
    talk.say("requestClip", "runtime", data={"duration_seconds": 2})
    assert talk.session.clips_asked == [2.0]
    ((kind, told),) = talk.heard()
    assert kind == "clipReady"
    assert told == {
        "session_id": "s 1",
        "kind": "snap",
        "start_marker": 1.5,
        "end_marker": 3.541,
        "now_marker": 3.541,
        "predicted_ready_at_ms": 1_790_000_000_250,
        "playlist_url": "/clips?session_id=s+1&start=1.500&end=3.541",
    }


async def test_a_recording_is_asked_for_without_a_length() -> None:
    talk = Talk(JS).open()
    talk.session.clip = Clip("s1", whole=True, start_us=0, end_us=1_000_000, ready_at=0.0)
    talk.heard()
    talk.say("requestRecording", "runtime")
    assert talk.session.clips_asked == [None]
    ((_, told),) = talk.heard()
    assert told["kind"] == "recording"


@pytest.mark.parametrize("duration", ["2", None, True, [], {}])
async def test_a_length_that_is_no_number_is_none(duration: object) -> None:
    talk = Talk(JS).open()
    talk.session.clip = "duration_seconds must be a positive number"
    talk.heard()
    talk.data.receive(
        json.dumps(
            {
                "scope": "runtime",
                "data": {"type": "requestClip", "data": {"duration_seconds": duration}},
            }
        )
    )
    (asked,) = talk.session.clips_asked
    assert asked is not None
    assert math.isnan(asked)
    assert talk.heard() == [
        ("clipFailed", {"reason": "duration_seconds must be a positive number"})
    ]


@pytest.mark.parametrize("duration", [10**400, -(10**400)])
async def test_a_length_beyond_all_measure_is_refused(duration: int) -> None:
    talk = Talk(JS).open()
    talk.session.clip = "duration_seconds must be a positive number"
    talk.heard()
    talk.say("requestClip", "runtime", data={"duration_seconds": duration})
    (asked,) = talk.session.clips_asked
    assert asked is not None
    assert not math.isfinite(asked)
    ((kind, _),) = talk.heard()
    assert kind == "clipFailed"


async def test_the_reply_carries_the_id_of_its_request() -> None:
    talk = Talk(JS)
    for asked in (wire.ClipRequest("c1", 1.0), wire.RecordingRequest("c1")):
        talk.session.clip = "why not"
        assert clips.answer(talk.session, asked) == wire.ClipFailed("c1", "why not")
        talk.session.clip = Clip("s1", whole=False, start_us=0, end_us=1, ready_at=0.0)
        answer = clips.answer(talk.session, asked)
        assert isinstance(answer, wire.ClipReady)
        assert answer.request_id == "c1"
