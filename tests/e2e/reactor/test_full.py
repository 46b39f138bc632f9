"""What an unmodified Reactor SDK makes of a service that has no room."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.e2e.reactor.matrix import record
from tests.e2e.reactor.reactor_sdks import HERE, LIMIT_S, SDKS, run
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MOST = 500
"""More sessions than there are places in the pool and in its queue."""
MODEL = {"model": {"name": "sana-streaming"}}


@pytest.fixture
async def full(simulated: Stack) -> AsyncIterator[Stack]:
    """Sessions take every place, and every place in the queue."""
    made: list[str] = []
    async with aiohttp.ClientSession(simulated.http_url) as http:
        try:
            for _ in range(MOST):
                async with http.post("/sessions", json=MODEL) as answer:
                    if answer.status != 201:
                        break
                    made.append((await answer.json())["session_id"])
            yield simulated
        finally:
            for session_id in reversed(made):
                async with http.delete(f"/sessions/{session_id}"):
                    pass


async def test_the_native_sdk_is_told_when_to_come_again(full: Stack) -> None:
    sdk = SDKS["native"]
    out, err = await run(sdk.python, str(HERE / "full_native.py"), full.http_url, limit_s=LIMIT_S)
    assert out, err[-4000:]
    for mode, told in json.loads(out).items():
        with record(sdk.client, mode, "errors"):
            assert (told["code"], told["status"]) == ("SERVER_ERROR", 503)
            assert told["recoverable"] is True
            assert told["retry_after_ms"] >= 1000
            assert "NO_CAPACITY" in told["text"]
