"""What somebody does at a page: looks for things by what they are called, and uses mouse and keys.

All goes through the browser's own input, as from a hand: what is covered, disabled or outside
the window cannot be clicked. The page is never asked to do anything; it is only looked at.
"""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

import numpy as np
from PIL import Image

from tests.e2e.browser.chromium import Browser, Page
from tests.e2e.driving import POLL_S
from tests.e2e.walkthrough.scene import Rgb

WAIT_S: Final = 60.0
"""Longest wait for anything: a machine that runs other tests beside this one is slow."""
ResultT = TypeVar("ResultT")

_KEYS: Final = {
    "Tab": (9, ""),
    "Enter": (13, "\r"),
    "Escape": (27, ""),
    "ArrowLeft": (37, ""),
    "ArrowRight": (39, ""),
    "Home": (36, ""),
    "End": (35, ""),
    " ": (32, " "),
}
"""Codes of the keys that are no letters, and the text that they write."""
_SHIFT: Final = 8
_CONTROL: Final = 2

_REACHED: Final = """function () {
  this.scrollIntoView({ block: "nearest", inline: "nearest", behavior: "instant" });
  const { left, top, width, height } = this.getBoundingClientRect();
  const at = document.elementFromPoint(left + width / 2, top + height / 2);
  const isReached = at !== null && (this.contains(at) || at.contains(this));
  const isAble = !this.disabled && this.getAttribute("aria-disabled") !== "true";
  return { left, top, width, height, ready: isReached && isAble && width > 0 };
}"""


@dataclass(frozen=True, slots=True)
class Box:
    """Where something is in the window, in CSS pixels."""

    left: float
    top: float
    width: float
    height: float

    def at(self, across: float = 0.5, down: float = 0.5) -> tuple[float, float]:
        """Returns a point in it, by default its middle."""
        return self.left + across * self.width, self.top + down * self.height

    def inside(self, other: Box) -> Box:
        """Returns where it is in another one."""
        return Box(self.left - other.left, self.top - other.top, self.width, self.height)


class Thing:
    """Something on a page."""

    def __init__(self, window: Window, handle: str) -> None:
        """Takes the browser's handle of it."""
        self._window = window
        self._handle = handle

    def says(self, function: str) -> Any:
        """Returns what a function without arguments, of which `this` is it, returns."""
        return self._window.ask(
            "Runtime.callFunctionOn",
            objectId=self._handle,
            functionDeclaration=function,
            returnByValue=True,
        )["result"].get("value")

    @property
    def text(self) -> str:
        """What is written on it."""
        return str(self.says("function () { return this.innerText; }"))

    @property
    def box(self) -> Box:
        """Where it is, once it can be used there and has come to rest."""
        before: list[Any] = [None]

        def look() -> Box | None:
            now = self.says(_REACHED)
            ready, still = now.pop("ready"), now == before[0]
            before[0] = now
            return Box(**now) if ready and still else None

        return self._window.until(look, "something cannot be reached")

    @property
    def place(self) -> Box:
        """Where it is now, whether it can be used there or not."""
        now = self.says(_REACHED)
        del now["ready"]
        return Box(**now)

    def click(self, across: float = 0.5, down: float = 0.5) -> None:
        """Clicks on it."""
        self._window.click(*self.box.at(across, down))

    def write(self, words: str) -> None:
        """Clicks into it and types over what stands there."""
        self.click()
        self._window.type(words)


class Window:
    """A window with a page in it. A context manager: it is closed at the end."""

    def __init__(self, browser: Browser, url: str = "about:blank") -> None:
        """Opens a page, as large as on a desk."""
        self._browser = browser
        self.page: Page = browser.open("about:blank")
        self._expected: list[str] = []
        self.size = (1440, 900)
        self.resize(*self.size)
        for domain in ("DOM", "Accessibility"):
            self.ask(f"{domain}.enable")
        # As the window that somebody sits before, also where there are several.
        self.ask("Emulation.setFocusEmulationEnabled", enabled=True)
        self.go(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.page.close()

    # -- the window

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method of the DevTools protocol about this page."""
        return self._browser.ask(method, self.page.session, **parameters)

    def go(self, url: str) -> None:
        """Opens an address."""
        self.page.go(url)

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """Makes it as large, or turns it into the screen of a phone."""
        self.size = (width, height)
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        self.ask("Emulation.setTouchEmulationEnabled", enabled=phone)

    def prefer(self, scheme: str) -> None:
        """Sets what the system prefers: `light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", features=features)

    def expect(self, *words: str) -> None:
        """Says what its console will hold that is no fault: lines with one of these words."""
        self._expected += words

    def said(self) -> list[str]:
        """Returns what its console holds that nobody expected."""
        return [line for line in self.page.said if not any(word in line for word in self._expected)]

    # -- looking

    def look(self, expression: str) -> Any:
        """Returns what is to be seen on the page: the value of an expression."""
        return self.page.run(expression)

    def until(
        self,
        look: Callable[[], ResultT | None] | str,
        otherwise: str = "",
        within_s: float = WAIT_S,
    ) -> ResultT:
        """Looks until what is seen is true; returns it.

        Raises:
            AssertionError: It takes too long; it says what the page showed instead.
        """
        what: Callable[[], Any] = (lambda: self.look(look)) if isinstance(look, str) else look
        ends = time.monotonic() + within_s
        while not (seen := what()):
            if time.monotonic() > ends:
                shown = self.look("document.body.innerText")[:1500]
                raise AssertionError(f"{otherwise or look}; {self.page.said}; the page:\n{shown}")
            time.sleep(POLL_S)
        found: ResultT = seen
        return found

    def find(self, testid: str, which: int = 0) -> Thing:
        """Waits for what has a test id, the first by default; returns it."""
        where = f"document.querySelectorAll('[data-testid=\"{testid}\"]')[{which}]"
        return self._found(lambda: self._handle(where), testid)

    def count(self, selector: str) -> int:
        """Returns how many things there are that a CSS selector matches."""
        return int(self.look(f"document.querySelectorAll({json.dumps(selector)}).length"))

    def named(self, role: str, name: str) -> Thing:
        """Waits for what screen readers call so; returns it, the first where there are several."""
        return self._found(lambda: self._called(role, name), f"{role} {name!r}")

    def sees(self, role: str, name: str) -> bool:
        """Whether there is something that screen readers call so."""
        return self._called(role, name) is not None

    def text(self, testid: str) -> str:
        """Returns what is written on something; nothing where it is not there."""
        return str(self.look(f"{_by(testid)}?.innerText ?? ''"))

    def value(self, testid: str, attribute: str) -> str | None:
        """Returns an attribute of something."""
        asked = f"{_by(testid)}?.getAttribute({json.dumps(attribute)}) ?? null"
        found: str | None = self.look(asked)
        return found

    def focused(self) -> str:
        """Returns what has the focus, in words: its role or element, and its name."""
        it = self._handle("document.activeElement")
        told = self.ask("Accessibility.getPartialAXTree", objectId=it, fetchRelatives=False)
        node = told["nodes"][0]
        role, name = node.get("role", {}).get("value", ""), node.get("name", {}).get("value", "")
        return f"{role} {name}"

    def settle(self) -> None:
        """Waits until nothing fades or slides any more; what turns for ever is not waited for."""
        self.until(
            "document.getAnimations().every(({ playState, effect }) =>"
            " playState !== 'running' || effect.getTiming().iterations === Infinity)"
        )

    def picture(self, box: Box | None = None) -> Rgb:
        """Returns what the window shows, or a part of it, a pixel for each CSS pixel."""
        with Image.open(io.BytesIO(self.screenshot(box))) as image:
            return np.asarray(image.convert("RGB"))

    def screenshot(self, box: Box | None = None, scale: float = 1.0) -> bytes:
        """Returns what it shows as PNG."""
        clip = {}
        if box is not None:
            place = {"x": box.left, "y": box.top, "width": box.width, "height": box.height}
            clip = {"clip": {**place, "scale": scale}}
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png", **clip)["data"])

    # -- hands

    def click(self, x: float, y: float, count: int = 1) -> None:
        """Clicks somewhere."""
        self._mouse("mouseMoved", x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self._mouse(kind, x, y, button="left", clickCount=count)

    def drag(self, here: tuple[float, float], there: tuple[float, float], steps: int = 5) -> None:
        """Drags from one place to another."""
        self._mouse("mouseMoved", *here)
        self._mouse("mousePressed", *here, button="left", clickCount=1)
        for step in range(1, steps + 1):
            at = [a + (b - a) * step / steps for a, b in zip(here, there, strict=True)]
            self._mouse("mouseMoved", *at, button="left", buttons=1)
        self._mouse("mouseReleased", *there, button="left", clickCount=1)

    def press(self, *keys: str, shift: bool = False) -> None:
        """Presses keys, one after the other."""
        for key in keys:
            code, text = _KEYS.get(key, (ord(key[0].upper()), key))
            told = {"key": key, "windowsVirtualKeyCode": code, "modifiers": _SHIFT if shift else 0}
            if len(key) > 1 or key == " ":
                told["code"] = "Space" if key == " " else key
            kind = "keyDown" if text else "rawKeyDown"
            self.ask("Input.dispatchKeyEvent", type=kind, text=text, **told)
            self.ask("Input.dispatchKeyEvent", type="keyUp", **told)

    def type(self, words: str) -> None:
        """Types over what stands where the cursor is."""
        self.ask(
            "Input.dispatchKeyEvent",
            type="rawKeyDown",
            key="a",
            windowsVirtualKeyCode=65,
            modifiers=_CONTROL,
            commands=["selectAll"],
        )
        self.ask("Input.dispatchKeyEvent", type="keyUp", key="a", windowsVirtualKeyCode=65)
        self.ask("Input.insertText", text=words)

    def choose_file(self, testid: str, path: Any) -> None:
        """Chooses a file in the dialog of the system."""
        self.ask("DOM.setFileInputFiles", files=[str(path)], objectId=self._handle(_by(testid)))

    # -- inside

    def _mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def _found(self, look: Callable[[], str | None], what: str) -> Thing:
        return Thing(self, self.until(look, f"there is no {what}"))

    def _handle(self, expression: str) -> str | None:
        told = self.ask("Runtime.evaluate", expression=expression)["result"]
        handle: str | None = told.get("objectId")
        return handle

    def _called(self, role: str, name: str) -> str | None:
        root = self._handle("document")
        nodes = self.ask("Accessibility.queryAXTree", objectId=root, accessibleName=name, role=role)
        shown = [each for each in nodes["nodes"] if not each.get("ignored")]
        if not shown:
            return None
        told = self.ask("DOM.resolveNode", backendNodeId=shown[0]["backendDOMNodeId"])
        return str(told["object"]["objectId"])


def _by(testid: str) -> str:
    return f"document.querySelector('[data-testid=\"{testid}\"]')"
