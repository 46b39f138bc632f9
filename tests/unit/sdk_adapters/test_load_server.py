"""Scraping, against HTTP servers of our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from sdk_adapters.harness.generator.target import Target
from sdk_adapters.harness.server import EVERY_S, Scraper, pause_s
from tests.unit.sdk_adapters.load_runs import measured, record

pytestmark = pytest.mark.unit

TEXT = """# TYPE sana_gateway_pool_queued_sessions gauge
sana_gateway_pool_queued_sessions 4
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 5e7
"""
NOBODY = "127.0.0.1:9"


@asynccontextmanager
async def serving(answer: Callable[[web.Request], web.Response]) -> AsyncIterator[str]:
    """A gateway's /metrics; yields its address."""

    async def handle(request: web.Request) -> web.Response:
        return answer(request)

    app = web.Application()
    app.add_routes([web.get("/metrics", handle)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield "{}:{}".format(*runner.addresses[0])
    finally:
        await runner.cleanup()


async def test_every_gateway_is_asked_with_the_token() -> None:
    asked: list[str] = []

    def answer(request: web.Request) -> web.Response:
        asked.append(request.headers.get("Authorization", ""))
        return web.Response(text=TEXT)

    async with serving(answer) as one, serving(answer) as other:
        target = Target((NOBODY, NOBODY), (one, f"http://{other}"), "secret")
        async with Scraper(target, clock=lambda: 42.0) as scraper:
            scrape = await scraper.scrape()
    assert asked == ["Bearer secret"] * 2
    assert (scrape.at_s, scrape.levels) == (42.0, {"sessions_queued": 4})
    assert len(scrape.processes) == 2


async def test_a_gateway_that_is_gone_hides_no_other() -> None:
    async with (
        serving(lambda _: web.Response(text=TEXT)) as address,
        Scraper(Target((NOBODY,), (NOBODY, address))) as scraper,
    ):
        assert (await scraper.scrape()).levels == {"sessions_queued": 4}


async def test_times_are_those_of_the_run() -> None:
    run = measured(record(), epoch=100.0)
    async with (
        serving(lambda _: web.Response(text=TEXT)) as address,
        Scraper(Target((NOBODY,), (address,)), clock=lambda: 112.5) as scraper,
    ):
        scraper.scrapes.append(await scraper.scrape())
        scraper.into(run)
    assert [each.at_s for each in run.scrapes] == [12.5]
    assert "sessions_queued" not in run.not_measured
    assert "server_rss_slope" not in run.not_measured
    assert run.not_measured["deadline_misses"] == "the service did not tell"


async def test_a_service_that_does_not_answer_is_a_reason() -> None:
    run = measured(record())
    async with (
        serving(lambda _: web.Response(status=403)) as address,
        Scraper(Target((NOBODY,), (address,))) as scraper,
    ):
        scraper.scrapes.append(await scraper.scrape())
        scraper.into(run)
    assert run.not_measured["queue_age"] == "/metrics answered with status 403"
    assert "join" not in run.not_measured


async def test_watching_scrapes_until_it_is_cancelled() -> None:
    seen = asyncio.Event()
    answers = 0

    def answer(_: web.Request) -> web.Response:
        nonlocal answers
        answers += 1
        if answers == 3:
            seen.set()
        return web.Response(text=TEXT)

    async with (
        serving(answer) as address,
        Scraper(Target((NOBODY,), (address,))) as scraper,
    ):
        watching = asyncio.create_task(scraper.watch(0.01))
        await seen.wait()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert len(scraper.scrapes) >= 2


@pytest.mark.parametrize(("run_s", "pause"), [(30, EVERY_S), (14_400, 7.2)])
def test_long_runs_are_asked_less_often(run_s: float, pause: float) -> None:
    assert pause_s(run_s) == pause
