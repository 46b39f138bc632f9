"""Server-sent events: who leaves is noticed, who is refused reads no stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from gateway import server_sent

pytestmark = pytest.mark.unit


class Words:
    """Says one word, then nothing until its reader has left."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def __call__(self) -> AsyncIterator[str]:
        try:
            yield server_sent.event("first", {"a": 1}, 7)
            await asyncio.Event().wait()
        finally:
            self.over.set()


@pytest.fixture
async def words() -> Words:
    return Words()


@pytest.fixture
async def url(words: Words) -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await server_sent.answer(request, words())

    app = web.Application()
    app.add_routes([web.get("/", answer)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


async def test_a_reader_that_leaves_is_noticed_though_there_is_nothing_to_say(
    words: Words, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_sent, "LOOK_S", 0.01)
    monkeypatch.setattr(server_sent, "PING_S", 3600.0)
    async with asyncio.timeout(30):
        async with aiohttp.ClientSession() as client, client.get(url) as answer:
            assert answer.headers["Cache-Control"] == "no-store"
            told = [(await answer.content.readline()).decode() for _ in range(5)]
        await words.over.wait()
    assert "".join(told) == 'retry: 1000\n\nid: 7\nevent: first\ndata: {"a": 1}\n'
