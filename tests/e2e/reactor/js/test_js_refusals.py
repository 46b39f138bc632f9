"""What a JavaScript client is refused, in the SDK's own words.

A page on another origin reads why it was refused: errors, too, say who may read them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.browser.chromium import Browser
from tests.e2e.reactor.js.conftest import SDK, WIRE, Player, ask, opener, refused
from tests.e2e.reactor.matrix import record
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MODES = ("cloud", "local")
MOST = 500
"""More sessions than there are places in the pool and in its queue."""
NOWHERE = "s" + "0" * 32
MODEL = {"model": {"name": "sana-streaming"}}


@pytest.fixture(scope="module")
def asker(browser: Browser, site: str, simulated: Stack) -> Iterator[Player]:
    """A page whose client never connects: it asks for others."""
    with ExitStack() as pages:
        yield opener(pages, browser, site, simulated)(WIRE, "cloud")


@pytest.fixture
def full(asker: Player) -> Iterator[None]:
    """Sessions take every place, and every place in the queue."""
    made: list[str] = []
    try:
        for _ in range(MOST):
            status, answer = ask(asker, "POST", "/sessions", MODEL)
            if status != 201:
                break
            made.append(json.loads(answer)["session_id"])
        yield
    finally:
        for session in reversed(made):
            ask(asker, "DELETE", f"/sessions/{session}")


@pytest.mark.usefixtures("full")
def test_a_service_without_room_says_when_to_come_again(asker: Player, simulated: Stack) -> None:
    for client in (SDK, WIRE):
        for mode in MODES:
            with record(client, mode, "errors"):
                refusal = refused(asker.page, client, simulated.http_url, mode)
                assert refusal.code == "CONNECTION_FAILED"
                assert "503" in refusal.message
                assert "503" in refusal.thrown
                last = next(each for each in reversed(asker.requests) if each["status"] == 503)
                assert int(last["retryAfter"]) >= 1


@pytest.mark.parametrize("client", [SDK, WIRE])
def test_an_unknown_model_is_refused_with_the_list_of_those_there_are(
    asker: Player, simulated: Stack, client: str
) -> None:
    with record(client, "cloud", "errors"):
        refusal = refused(asker.page, client, simulated.http_url, "cloud", model="no-such-model")
        assert refusal.code == "CONNECTION_FAILED"
        assert "404" in refusal.message
        assert "simulated" in refusal.message


@pytest.mark.parametrize(
    ("version", "code"), [("0", "CLIENT_VERSION_TOO_OLD"), ("2", "SERVER_VERSION_TOO_OLD")]
)
@pytest.mark.parametrize("client", [SDK, WIRE])
def test_another_version_of_the_api_is_refused(
    asker: Player, simulated: Stack, client: str, version: str, code: str
) -> None:
    asker.page.run(f"seen.version = '{version}'")
    try:
        with record(client, "cloud", "errors"):
            refusal = refused(asker.page, client, simulated.http_url, "cloud")
            # The SDK of 2.9 puts the code into the text alone.
            assert code in (refusal.code, refusal.message.partition("Error: ")[2].partition(":")[0])
    finally:
        asker.page.run("seen.version = null")


def test_a_session_that_is_not_there_cannot_be_joined(asker: Player, simulated: Stack) -> None:
    for mode in MODES:
        with record(WIRE, mode, "errors"):
            refusal = refused(asker.page, WIRE, simulated.http_url, mode, sessionId=NOWHERE)
            assert refusal.code == "CONNECTION_FAILED"
            assert "404" in refusal.message
