"""A moderation service over HTTP: what it is asked, and what counts as an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.moderation import NOT_ALLOWED, Question
from gateway.moderation.asking import UNANSWERED, Moderation
from gateway.moderation.remote import MOST_ANSWER_BYTES, NoAnswerError, RemoteModerator
from scheduler.core.errors import ConfigurationError

pytestmark = pytest.mark.unit

QUESTION = Question("a fox", "acme", "s1", "painter")


@dataclass
class Service:
    """Answers as it is told."""

    url: str = ""
    status: int = 200
    body: str = '{"allowed": true}'
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[Any, str | None]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((await request.json(), request.headers.get("Authorization")))
        return web.Response(status=self.status, text=self.body, headers=self.headers)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    app = web.Application()
    app.router.add_post("/check", made.answer)
    server = TestServer(app)
    await server.start_server()
    made.url = str(server.make_url("/check"))
    yield made
    await server.close()


@pytest.fixture
async def moderator(service: Service, tmp_path: Path) -> AsyncIterator[RemoteModerator]:
    (tmp_path / "token").write_text("s3cret\n")
    made = RemoteModerator(service.url, str(tmp_path / "token"))
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_it_is_asked_about_the_prompt_and_whose_it_is(
    service: Service, moderator: RemoteModerator
) -> None:
    assert (await moderator.check(QUESTION)).allowed
    asked = {"prompt": "a fox", "tenant": "acme", "session_id": "s1", "model": "painter"}
    assert service.asked == [(asked, "Bearer s3cret")]


@pytest.mark.parametrize(
    ("body", "reason"),
    [('{"allowed": false, "reason": "no foxes"}', "no foxes"), ('{"allowed": false}', NOT_ALLOWED)],
)
async def test_a_refusal_has_its_reason(
    service: Service, moderator: RemoteModerator, body: str, reason: str
) -> None:
    service.body = body
    verdict = await moderator.check(QUESTION)
    assert (verdict.allowed, verdict.reason) == (False, reason)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, '{"allowed": true}'),
        (204, ""),
        (302, ""),
        (200, "yes"),
        (200, "[]"),
        (200, '{"allowed": 1}'),
        (200, '{"allowed": "true"}'),
        (200, "{}"),
        (200, "[" * 20_000),
        (200, '{"allowed": true, "more": "' + "x" * MOST_ANSWER_BYTES + '"}'),
    ],
)
async def test_anything_else_is_no_answer(
    service: Service, moderator: RemoteModerator, status: int, body: str
) -> None:
    service.status, service.body = status, body
    service.headers = {"Location": service.url} if status == 302 else {}
    with pytest.raises(NoAnswerError):
        await moderator.check(QUESTION)
    assert len(service.asked) == 1, "a redirect is not followed"
    assert await Moderation(moderator).refusal(QUESTION) == UNANSWERED


async def test_a_service_that_is_away_is_no_answer() -> None:
    moderator = RemoteModerator("http://127.0.0.1:1/check")
    with pytest.raises(aiohttp.ClientError):
        await moderator.check(QUESTION)
    running = asyncio.create_task(moderator.run())
    await asyncio.sleep(0)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("url", ["", "moderation", "ftp://a/b", "https://"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        RemoteModerator(url)
