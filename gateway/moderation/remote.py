"""`--moderation http`: asks a service of one's own, by POST.

    {"prompt": "...", "tenant": "acme", "session_id": "...", "model": "painter"}

It answers 200 and `{"allowed": true}`, or `{"allowed": false, "reason": "..."}`. Anything else,
redirects included, is no answer.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from gateway.moderation import ALLOWED, Question, Verdict
from scheduler.core.errors import ConfigurationError, SanaGatewayError

MOST_ANSWER_BYTES: Final = 64 * 1024
"""Longest answer that is read."""
MOST_CONNECTIONS: Final = 32
"""Questions at once; further ones wait, within their time."""


class NoAnswerError(SanaGatewayError):
    """The service said nothing that is an answer."""


class RemoteModerator:
    """Asks a URL.

    Args:
        url: `https://...`, or `http://...` within a network of one's own.
        token_file: File with a token that is shown as `Authorization: Bearer`; read each time.

    Raises:
        ConfigurationError: The URL is none.
    """

    def __init__(self, url: str, token_file: str = "") -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ConfigurationError("the url of --moderation http begins with https:// or http://")
        self._url = url
        self._token_file = Path(token_file) if token_file else None
        self._session: aiohttp.ClientSession | None = None

    async def check(self, question: Question) -> Verdict:
        """Judges a prompt; see `gateway.moderation.Moderator`.

        Raises:
            NoAnswerError: What came back is no answer.
            aiohttp.ClientError: Nothing came back.
        """
        asked = {
            "prompt": question.prompt,
            "tenant": question.tenant,
            "session_id": question.session_id,
            "model": question.model,
        }
        headers = {}
        if self._token_file is not None:
            token = await asyncio.to_thread(self._token_file.read_text)
            headers["Authorization"] = f"Bearer {token.strip()}"
        async with self._connected().post(
            self._url, json=asked, headers=headers, allow_redirects=False
        ) as response:
            if response.status != 200:
                raise NoAnswerError("the status is not 200")
            return _verdict(await _bounded(response))

    async def run(self) -> None:
        """Keeps the connections until cancelled."""
        try:
            await asyncio.Event().wait()
        finally:
            if self._session is not None:
                await self._session.close()

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MOST_CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for block in response.content.iter_any():
        body += block
        if len(body) > MOST_ANSWER_BYTES:
            raise NoAnswerError("the answer is too long")
    return bytes(body)


def _verdict(body: bytes) -> Verdict:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        raise NoAnswerError("the answer is not JSON") from None
    match told:
        case {"allowed": True}:
            return ALLOWED
        case {"allowed": False, "reason": str(reason)}:
            return Verdict(allowed=False, reason=reason)
        case {"allowed": False}:
            return Verdict(allowed=False)
    raise NoAnswerError("the answer does not say whether it is allowed")
