"""An operator at the console: sees the pool and who is on it, looks into a session, ends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.walkthrough.conftest import OpenWindow
from tests.e2e.walkthrough.console import Console
from tests.e2e.walkthrough.playground import Playground
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

REASON = "the host needs new fans"


def test_an_operator_watches_the_pool_and_ends_a_session(
    playground: Playground, open_window: OpenWindow, service: Stack, bay: Path
) -> None:
    playground.choose_clip(bay)
    playground.start()
    window = open_window()
    console = Console(window)
    console.open(service.http_url)
    console.draws(1)
    window.until(lambda: "1 generating" in console.cells, console.cells)
    session = console.open_first_session()

    # Its events, its traces as they come, and what it has used.
    window.until("document.querySelector('aside.drawer').innerText.includes('Placed')")
    window.named("tab", "Trace").click()
    window.until(lambda: window.count("aside.drawer .falls li") >= 2, "no trace comes")
    window.named("tab", "Metering").click()
    window.until("/Frames/i.test(document.querySelector('aside.drawer').innerText)")

    # An actor is emptied only when that was meant, and can be kept.
    window.named("button", f"Drain {console.actor}").click()
    assert console.dialog().startswith("Drain ")
    console.answer("Cancel")
    window.named("button", f"Drain {console.actor}").click()
    console.dialog()
    console.answer("Drain it")
    window.until(lambda: window.count("article.gpu.draining") == 1, "it is not drained")
    window.named("button", "Stop draining").click()
    window.until(lambda: window.count("article.gpu.draining") == 0, "it is drained on")

    # Neither is a session ended by accident; who had it reads why.
    assert playground.status == "ready"
    window.named("button", "End session…").click()
    assert console.dialog() == "End this session?"
    console.answer("Keep it")
    window.named("button", "End session…").click()
    console.dialog()
    window.named("textbox", "Reason").write(REASON)
    console.answer("End the session")
    assert "Press Start" in playground.problem(REASON)
    assert playground.status == "disconnected"
    window.until(lambda: "none" in console.cells, console.cells)

    # It is in the story of what happened, and every part of the console opens.
    window.until(f"document.querySelector('main').innerText.includes('Released {session[:8]}')")
    window.named("button", "Sessions").click()
    window.until("document.querySelector('main').innerText.includes('There are no sessions')")
    window.named("button", "Metering").click()
    window.named("table", "Sums")
