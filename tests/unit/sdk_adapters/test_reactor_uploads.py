"""Uploads over a real socket and a fake hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from scheduler.core.errors import UnknownUploadError
from sdk_adapters.reactor import uploads
from tests.unit.sdk_adapters.reactor_site import Site

pytestmark = pytest.mark.unit


CLIP = {"name": "clip.mp4", "mime_type": "video/mp4", "size": 5}


async def _slot(site: Site) -> dict[str, str]:
    status, slot = await site.ask("POST", await site.session() + "/uploads", CLIP)
    assert status == 201
    made: dict[str, str] = slot
    return made


async def test_an_upload_takes_three_steps_and_no_token_for_the_bytes(site: Site) -> None:
    slot = await _slot(site)
    assert set(slot) == {"presigned_id", "presigned_url", "path"}
    assert slot["presigned_url"].startswith(site.url + "/uploads/")
    assert slot["presigned_id"] not in slot["presigned_url"]
    assert (await site.ask("PUT", slot["presigned_url"], b"12345"))[0] == 200
    upload = site.services.uploads.find(site.hub.session.session_id, slot["presigned_id"])
    assert upload.complete
    assert (await site.ask("PUT", slot["presigned_url"], b"12345"))[0] == 409


async def test_the_url_is_the_public_one_where_one_is_configured(
    serve: Callable[..., Any],
) -> None:
    site = await serve(public_url="https://edit.example/base/")
    slot = await _slot(site)
    assert slot["presigned_url"].startswith("https://edit.example/base/uploads/")


async def test_large_uploads_arrive_in_blocks(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "BLOCK_BYTES", 1000)
    content = bytes(range(256)) * 10
    path = await site.session() + "/uploads"
    _, slot = await site.ask("POST", path, CLIP | {"size": len(content)})
    assert (await site.ask("PUT", slot["presigned_url"], content))[0] == 200
    upload = site.services.uploads.find(site.hub.session.session_id, slot["presigned_id"])
    assert bytes(upload.data) == content  # type: ignore[attr-defined]


async def test_an_upload_that_takes_too_long_is_given_up_and_may_be_repeated(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = await _slot(site)
    monkeypatch.setattr(uploads, "LIFETIME_S", 0.01)
    never = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield b"1"
        await never.wait()

    async with site.client.put(slot["presigned_url"], data=stuck()) as response:
        assert response.status == 408
    monkeypatch.undo()
    assert (await site.ask("PUT", slot["presigned_url"], b"12345"))[0] == 200


@pytest.mark.parametrize("body", [b"1234", b"123456"])
async def test_bytes_of_another_length_are_refused(site: Site, body: bytes) -> None:
    slot = await _slot(site)
    assert (await site.ask("PUT", slot["presigned_url"], body))[0] == 400
    assert (await site.ask("PUT", slot["presigned_url"], b"12345"))[0] == 200


async def test_a_broken_upload_goes_on_when_it_is_sent_again(site: Site) -> None:
    slot = await _slot(site)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"1"
        yield b"2"

    async with site.client.put(slot["presigned_url"], data=pieces()) as response:
        assert response.status == 400
    assert (await site.ask("PUT", slot["presigned_url"], b"12345"))[0] == 200
    upload = site.services.uploads.find(site.hub.session.session_id, slot["presigned_id"])
    assert bytes(upload.data) == b"12345"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "change",
    [{"name": ""}, {"mime_type": ""}, {"size": 0}, {"size": "5"}, {"size": True}, {"name": None}],
)
async def test_an_upload_needs_name_type_and_size(site: Site, change: dict[str, object]) -> None:
    path = await site.session() + "/uploads"
    assert (await site.ask("POST", path, CLIP | change))[0] == 400


async def test_uploads_of_nobody_are_not_found(site: Site) -> None:
    assert (await site.ask("PUT", "/uploads/guess", b"12345"))[0] == 404
    assert (await site.ask("POST", "/sessions/nobody/uploads", CLIP))[0] == 404


async def test_an_ended_session_takes_no_uploads(site: Site) -> None:
    path = await site.session()
    await site.ask("DELETE", path)
    assert (await site.ask("POST", path + "/uploads", CLIP))[0] == 400


async def test_the_url_of_an_upload_expires(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "LIFETIME_S", 0.0)
    slot = await _slot(site)
    assert (await site.ask("PUT", slot["presigned_url"], b"12345"))[0] == 404


async def test_uploads_of_some_take_no_room_from_others(site: Site) -> None:
    for _ in range(65):
        path = await site.session()
        asked = [site.ask("POST", path + "/uploads", CLIP) for _ in range(64)]
        assert {status for status, _ in await asyncio.gather(*asked)} == {201}
        await site.ask("DELETE", path)


async def test_the_url_of_an_upload_ends_with_its_session(site: Site) -> None:
    slot = await _slot(site)
    assert (await site.ask("PUT", slot["presigned_url"], b"12345"))[0] == 200
    site.services.uploads.uploads.clear()  # type: ignore[attr-defined]
    assert (await site.ask("PUT", slot["presigned_url"], b"12345"))[0] == 404


async def test_only_one_sends_the_bytes_of_an_upload(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "BLOCK_BYTES", 2)
    slot = await _slot(site)
    arriving, go = asyncio.Event(), asyncio.Event()
    write = site.services.uploads.write

    async def watched(*args: Any) -> Any:
        arriving.set()
        return await write(*args)

    monkeypatch.setattr(site.services.uploads, "write", watched)

    async def slow() -> AsyncIterator[bytes]:
        yield b"12"
        await go.wait()
        yield b"345"

    async def put() -> int:
        async with site.client.put(slot["presigned_url"], data=slow()) as response:
            return response.status

    first = asyncio.create_task(put())
    async with asyncio.timeout(30):
        await arriving.wait()
    assert (await site.ask("PUT", slot["presigned_url"], b"12345"))[0] == 409
    go.set()
    assert await first == 200


def capability(now: float = 0.0) -> tuple[uploads.Capabilities, str]:
    made = uploads.Capabilities()
    return made, made.of("session/1 a", "upload-1", now)


def test_a_capability_is_good_for_one_upload_until_its_time() -> None:
    made, known = capability()
    assert made.read(known, uploads.LIFETIME_S - 1) == ("session/1 a", "upload-1")
    assert "upload-1" not in known
    with pytest.raises(UnknownUploadError):
        made.read(known, uploads.LIFETIME_S)
    with pytest.raises(UnknownUploadError):
        uploads.Capabilities().read(known, 0.0)


@pytest.mark.parametrize("guess", ["", "=", "a", "ü", "A" * 43, "A" * 100])
def test_what_was_not_given_out_is_no_capability(guess: str) -> None:
    made, known = capability()
    for tried in (guess, known[:-4], known + "AAAA", known[4:], "AAAA" + known[4:]):
        with pytest.raises(UnknownUploadError):
            made.read(tried, 0.0)
