"""The packed `@sana-gateway/client` in Chromium, against the service as users start it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import ExitStack
from typing import Any

import pytest

from tests.e2e.browser.chromium import Browser
from tests.e2e.reactor.matrix import CLOUD, record
from tests.e2e.typescript.conftest import LONGEST_S, Flow
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

CLIENT = "TypeScript SDK"


@pytest.fixture(scope="module", autouse=True)
def begun(
    browser: Browser, site: str, simulated: Stack, clips: dict[int, str]
) -> Iterator[dict[str, Future[Any]]]:
    """The flows that mostly wait, begun before all others."""
    given: dict[str, tuple[str, ...]] = {
        "pings": (),
        "errors": (),
        "uploads": (clips[40], clips[57]),
    }
    with ExitStack() as stack:
        pages = {name: stack.enter_context(browser.open(site)) for name in given}
        yield {
            name: page.begin(f"flows.{name}(...{json.dumps([simulated.http_url, *given[name]])})")
            for name, page in pages.items()
        }
        assert [page.run("faults") for page in pages.values()] == [[]] * len(pages)


def test_a_camera_is_edited_live(flow: Flow, simulated: Stack) -> None:
    with record(CLIENT, CLOUD, "live"):
        print(flow("live", simulated.http_url).result(LONGEST_S))


def test_a_clip_is_edited_to_its_end_and_again(
    flow: Flow, simulated: Stack, clips: dict[int, str]
) -> None:
    with record(CLIENT, CLOUD, "file"):
        shown = flow("file", simulated.http_url, clips[40], 40).result(LONGEST_S)
    print(f"{shown} of 40 pictures told apart")


def test_a_lost_connection_is_taken_up_again_by_revision(
    flow: Flow, simulated: Stack, clips: dict[int, str]
) -> None:
    with record(CLIENT, CLOUD, "reconnect"):
        flow("reconnect", simulated.http_url, clips[105]).result(LONGEST_S)


def test_a_second_client_sees_hears_controls_and_pauses_for_itself(
    flow: Flow, simulated: Stack
) -> None:
    with record(CLIENT, CLOUD, "join"), record(CLIENT, CLOUD, "pause"):
        flow("join", simulated.http_url).result(LONGEST_S)


def test_a_session_is_copied_and_edited_differently(
    flow: Flow, simulated: Stack, clips: dict[int, str]
) -> None:
    flow("fork", simulated.http_url, clips[40]).result(LONGEST_S)


def test_an_app_on_the_react_parts_works(flow: Flow, simulated: Stack) -> None:
    said = flow("app", simulated.http_url).result(LONGEST_S)
    assert said == "ready, a mosaic of small stones, running, fine, 320x192"


def test_a_clip_is_replaced_and_what_is_none_is_refused(begun: dict[str, Future[Any]]) -> None:
    with record(CLIENT, CLOUD, "uploads"):
        begun["uploads"].result(LONGEST_S)


def test_what_is_refused_is_a_typed_error_and_it_goes_on(begun: dict[str, Future[Any]]) -> None:
    with record(CLIENT, CLOUD, "errors"):
        begun["errors"].result(LONGEST_S)


def test_a_client_that_waits_is_told_its_place_in_the_queue(
    flow: Flow, simulated: Stack, begun: dict[str, Future[Any]]
) -> None:
    # It fills the pool: whoever comes then waits.
    wait([begun["uploads"], begun["errors"]], LONGEST_S)
    places = flow("queue", simulated.http_url).result(LONGEST_S)
    assert (places[0]["position"], places[-1]) == (1, {})


def test_a_silent_client_is_hung_up_on_and_comes_again(begun: dict[str, Future[Any]]) -> None:
    with record(CLIENT, CLOUD, "pings"):
        heard, silent = begun["pings"].result(LONGEST_S)
        assert heard == ["connecting", "waiting", "ready"]
        assert silent == ["connecting", "waiting", "ready", "reconnecting", "ready"]
