"""Both pages for everybody: axe-core finds nothing serious, keys alone are enough, the first
picture of a page comes soon.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.walkthrough import story
from tests.e2e.walkthrough.conftest import OpenWindow
from tests.e2e.walkthrough.console import Console
from tests.e2e.walkthrough.playground import Playground
from tests.e2e.walkthrough.shots import DESK, PHONE
from tests.e2e.walkthrough.window import Window
from tests.required import require
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

AXE: Final = "sdk_adapters/web/node_modules/axe-core/axe.min.js"
TAGS: Final = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
GRAVE: Final = ("serious", "critical")
FIRST_PAINT_MS: Final = 1000.0
MOST_TABS: Final = 60
RINGED: Final = """
[document.activeElement, ...document.activeElement.children].some((each) => {
  const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(each);
  return (outlineStyle !== "none" && outlineWidth !== "0px") || boxShadow !== "none";
})
"""
"""Whether what has the focus, or a part of it, has a line around it."""


def faults(window: Window) -> list[str]:
    """Returns what axe-core finds on the page that is serious or worse."""
    window.settle()
    if not window.look("'axe' in window"):
        window.look(require(AXE).read_text() + ";0")
    asked = f"axe.run({{ runOnly: {list(TAGS)}, resultTypes: ['violations'] }})"
    found: list[dict[str, Any]] = window.look(f"{asked}.then(({{ violations }}) => violations)")
    return [
        f"{each['id']} at {node['target']}: {node['failureSummary']}"
        for each in found
        if each["impact"] in GRAVE
        for node in each["nodes"]
    ]


def looks(window: Window) -> Iterator[str]:
    """Shows a page in each layout and each theme."""
    for layout, size in (("desk", DESK), ("phone", PHONE)):
        window.resize(*size, phone=layout == "phone")
        for theme in ("light", "dark"):
            window.prefer(theme)
            yield f"{layout}, {theme}"
    window.resize(*DESK)


def found(window: Window) -> dict[str, list[str]]:
    """Returns the faults by layout and theme."""
    by_look = {look: faults(window) for look in looks(window)}
    return {look: faults for look, faults in by_look.items() if faults}


def test_axe_finds_nothing_serious_in_the_playground(playground: Playground, bay: Path) -> None:
    window = playground.window
    assert found(window) == {}
    playground.choose_clip(bay)
    playground.start()
    playground.moves()
    # A picture that stands: what moves is not looked at twice.
    playground.go("Pause")
    window.until(lambda: window.text("go") == "Resume")
    for tab in ("Quality", "State", "Messages", "Code"):
        playground.tab(tab)
        assert faults(window) == [], tab
    assert found(window) == {}
    window.find("fork").click()
    assert faults(window) == []
    window.press("Escape")


def test_axe_finds_nothing_serious_in_the_console(
    playground: Playground, open_window: OpenWindow, service: Stack, bay: Path
) -> None:
    playground.choose_clip(bay)
    playground.start()
    window = open_window()
    console = Console(window)
    console.open(service.http_url)
    console.draws(1)
    assert found(window) == {}
    console.open_first_session()
    for tab in ("Trace", "Metering"):
        window.named("tab", tab).click()
        assert faults(window) == [], tab
    assert found(window) == {}
    window.named("button", "End session…").click()
    console.dialog()
    assert faults(window) == []
    console.answer("Keep it")
    for part in ("Sessions", "Metering"):
        window.named("button", part).click()
        assert faults(window) == [], part


def test_keys_alone_are_enough(playground: Playground, bay: Path) -> None:
    window = playground.window
    window.press("3")
    window.choose_file("file", bay)
    window.until(lambda: window.text("source-name") == bay.name)
    window.press("p")
    assert window.focused().startswith("textbox")
    window.type(story.OWN_PROMPT)
    reach(window, "button Start")
    window.press("Enter")
    window.until(lambda: window.text("go") == "Pause", "it does not start")
    playground.moves()
    # From here shortcuts: nothing that takes keys has the focus.
    reach(window, "button Pause")
    window.press(" ")
    window.until(lambda: window.text("go") == "Resume")
    window.press("r")
    window.until(lambda: window.text("go") == "Start")
    window.press("?", shift=True)
    window.until(lambda: window.count("dialog[open]") == 1, "there is no help")
    window.press("Escape")
    window.until(lambda: window.count("dialog[open]") == 0, "the help stays")


def reach(window: Window, what: str) -> None:
    """Presses Tab until that has the focus, which is visible at each stop."""
    for _ in range(MOST_TABS):
        window.press("Tab")
        if window.look("document.activeElement === document.body"):
            continue  # Past the last one: the next is the first.
        assert window.look(RINGED), f"{window.focused()} does not show its focus"
        if window.focused() == what:
            return
    raise AssertionError(f"{what} is not reached")


@pytest.mark.parametrize("path", ["/", "/console"])
def test_the_first_paint_comes_within_a_second(
    open_window: OpenWindow, service: Stack, path: str
) -> None:
    window = open_window()
    painted: list[float] = []

    def soon() -> bool:
        # Loaded again while the machine is busy with something else.
        window.go(service.http_url + path)
        paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
        painted.append(window.until(paint))
        return painted[-1] <= FIRST_PAINT_MS

    window.until(soon, f"{painted}")
    print(f"{path}: first paint after {min(painted):.0f} ms")
