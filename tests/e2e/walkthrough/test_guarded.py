"""A service that asks who one is, and has one place: signing in, waiting, being forbidden, and
what the page says when the service is gone.
"""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.walkthrough.conftest import SERVICE, OpenWindow
from tests.e2e.walkthrough.console import Console
from tests.e2e.walkthrough.playground import Playground
from tests.e2e.walkthrough.window import Window
from tests.stack import Stack, serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

KEYS = {"user": "rk_" + "u" * 43, "staff": "rk_" + "o" * 43}
UNAUTHENTICATED = "status of 401"
FORBIDDEN = "status of 403"
UNREACHABLE = "net::ERR_"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """It; the last test kills it."""
    folder = tmp_path_factory.mktemp("guarded")
    scopes = {"user": ["session"], "staff": ["operator"]}
    entries = [
        {
            "id": name,
            "sha256": hashlib.sha256(key.encode()).hexdigest(),
            "tenant": name,
            "scopes": scopes[name],
        }
        for name, key in KEYS.items()
    ]
    (folder / "keys.yaml").write_text(json.dumps({"keys": entries}))
    (folder / "secret").write_text("s" * 64)
    for name in ("keys.yaml", "secret"):
        (folder / name).chmod(0o600)
    options = (
        *("--auth", "api-key", "--api-keys", str(folder / "keys.yaml")),
        *("--token-secret", str(folder / "secret"), "--model-option", "resident_slots=1"),
    )
    try:
        with serving(*SERVICE, *options) as running:
            yield running
    except RuntimeError:
        if running.process.returncode != -signal.SIGKILL:
            raise


def show(window: Window, key: str) -> None:
    """Types a key into the dialog that asks for one."""
    window.named("textbox", "API key or token").write(key)
    window.named("button", "Sign in").click()


def sign_in(window: Window, key: str) -> None:
    """The same with a key that is taken."""
    show(window, key)
    window.until(lambda: window.count("dialog[open]") == 0, "the key is not taken")


def user(window: Window, guarded: Stack) -> Playground:
    """Opens the playground and signs in."""
    window.expect(UNAUTHENTICATED)
    page = Playground(window)
    page.open(guarded.http_url)
    sign_in(window, KEYS["user"])
    return page


def plays(window: Window, guarded: Stack, bay: Path) -> Playground:
    """Opens it, signs in, and edits the clip."""
    page = user(window, guarded)
    window.expect(UNREACHABLE)
    page.choose_clip(bay)
    page.start()
    page.moves()
    return page


def test_a_wrong_key_is_refused_in_words_and_a_right_one_is_not_kept(
    open_window: OpenWindow, guarded: Stack
) -> None:
    window = open_window()
    window.expect(UNAUTHENTICATED)
    window.go(f"{guarded.http_url}/")
    show(window, "rk_" + "x" * 43)
    told = "document.querySelector('dialog [role=alert]')?.innerText ?? ''"
    assert "ask the operator" in window.until(told, "nothing is said of a wrong key")
    sign_in(window, KEYS["user"])
    kept = window.look("location.href + JSON.stringify({ ...localStorage, ...sessionStorage })")
    assert KEYS["user"] not in kept


def test_who_waits_sees_their_place_and_then_comes_in(
    open_window: OpenWindow, guarded: Stack, bay: Path
) -> None:
    first, second = user(open_window(), guarded), user(open_window(), guarded)
    for page in (first, second):
        page.choose_clip(bay)
    first.start()
    second.go("Start")
    window = second.window
    window.until(lambda: "Place 1 in the queue" in window.text("overlay"), "no place is shown")
    assert second.status == "waiting"
    # Who operates the service sees both of them.
    staff = open_window()
    staff.expect(UNAUTHENTICATED)
    console = Console(staff)
    console.open(guarded.http_url)
    sign_in(staff, KEYS["staff"])
    console.draws(1)
    staff.named("tab", "Queue 1").click()
    staff.until("document.querySelector('.list-row')?.innerText.includes('user')")
    first.leave()
    window.until(lambda: window.text("go") == "Pause", "its turn does not come")
    second.moves()
    second.leave()


def test_who_operates_nothing_is_kept_out_of_the_console(
    open_window: OpenWindow, guarded: Stack
) -> None:
    window = open_window()
    window.expect(UNAUTHENTICATED, FORBIDDEN)
    console = Console(window)
    console.open(guarded.http_url)
    show(window, KEYS["user"])
    window.until("/scope operator/.test(document.querySelector('dialog[open]')?.innerText)")
    assert window.count("article.gpu") == 0
    sign_in(window, KEYS["staff"])
    console.draws(1)


@pytest.mark.slow
def test_a_service_that_hangs_is_waited_for(
    open_window: OpenWindow, guarded: Stack, bay: Path
) -> None:
    page = plays(open_window(), guarded, bay)
    guarded.process.send_signal(signal.SIGSTOP)
    try:
        page.window.until(lambda: page.status == "reconnecting", "nothing is said of it")
        assert "taken up again" in page.window.text("overlay")
    finally:
        guarded.process.send_signal(signal.SIGCONT)
    page.window.until(lambda: page.status == "ready", "it does not come back")
    page.moves()
    page.leave()


@pytest.mark.slow
def test_a_service_that_is_killed_is_told_of(
    open_window: OpenWindow, guarded: Stack, bay: Path
) -> None:
    page = plays(open_window(), guarded, bay)
    guarded.kill()
    page.window.until(lambda: page.status == "reconnecting", "nothing is said of it")
    assert "The connection is lost" in page.window.text("overlay")
