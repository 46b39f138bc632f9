"""What a client script of a Reactor SDK is made of: what it has seen, and how it is run.

Runs inside foreign environments: standard library and numpy only. A client script
implements `Client` and calls `run`, which goes through the flows (`flows.py`) that the
command line names, each with a connection of its own, and prints one JSON report a flow.
It exits non-zero when one of them failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

LOW = 2
"""A client that cannot keep up is given pictures of half the size, as on a busy machine."""
STILL_S = 0.5
"""A stream without a frame for so long, twelve frames, is paused."""


class Client(Protocol):
    """One SDK."""

    correlated: bool
    """Whether `command` returns the reply."""
    local: bool
    """Whether it is in local mode."""
    words: dict[str, str]
    """What the SDK calls a refusal: by the HTTP status, or by the code of a track."""

    @property
    def session_id(self) -> str:
        """The session."""

    def another(self, seen: Seen, model: str = "") -> Client:
        """Makes a second client of the same server."""

    async def connect(self, session_id: str | None = None) -> None:
        """Connects and returns once ready: to a new session, or to one that exists."""

    async def refusal(self, asking: Awaitable[Any]) -> str:
        """Returns what the SDK calls the refusal of what is asked; empty where it is none."""

    async def publish(self, sizes: list[tuple[int, int]] | None = None) -> None:
        """Publishes a moving picture on `camera`; its size changes every half second."""

    async def unpublish(self) -> None:
        """Stops it."""

    async def upload(self, path: str) -> Any:
        """Uploads a file and returns the reference to it."""

    async def command(self, name: str, arguments: dict[str, Any]) -> Any:
        """Sends a command; returns its reply where the SDK has replies."""

    async def pause_output(self) -> None:
        """Stops main_video for this client."""

    async def resume_output(self) -> None:
        """Starts it again."""

    async def reconnect(self) -> None:
        """Loses the transport and comes back to the same session."""

    async def extras(self, seen: Seen) -> None:
        """Tries what only this SDK has."""

    def is_ready(self) -> bool:
        """Tells whether the SDK says that it is connected."""

    async def disconnect(self) -> None:
        """Ends the session, where this client made it."""


@dataclass
class Seen:
    """What a client has seen; wakes whoever waits for it. Single-threaded."""

    statuses: list[str] = field(default_factory=list)
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    frames: int = 0
    sizes: list[list[int]] = field(default_factory=list)
    frame_ids: list[int] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def message(self, message: Any) -> None:
        """Takes an application message, `{"type", "data"}`."""
        self.messages.append((message["type"], message["data"]))
        self._news.set()

    def status(self, status: Any) -> None:
        """Takes a change of status."""
        self.statuses.append(str(getattr(status, "value", status)))
        self._news.set()

    def error(self, code: str, message: str) -> None:
        """Takes an error that the SDK tells of."""
        self.errors.append(f"{code}: {message}")
        self._news.set()

    def frame(self, width: int, height: int, frame_id: int = 0) -> None:
        """Takes a received frame."""
        self.frames += 1
        if [width, height] not in self.sizes:
            self.sizes.append([width, height])
        if frame_id:
            self.frame_ids.append(frame_id)
        self._news.set()

    def types(self) -> list[str]:
        """Returns the types of the messages in order."""
        return [name for name, _ in self.messages]

    def of(self, name: str, since: int = 0) -> list[dict[str, Any]]:
        """Returns the data of all messages of a type, at index `since` or later."""
        return [data for each, data in self.messages[since:] if each == name]

    def last(self, name: str) -> dict[str, Any]:
        """Returns the data of the latest message of a type."""
        return self.of(name)[-1]

    async def until(self, what: str, condition: Callable[[], Any], timeout_s: float = 40.0) -> Any:
        """Waits until a condition holds; it is looked at after everything that happens."""
        try:
            async with asyncio.timeout(timeout_s):
                while not (value := condition()):
                    self._news.clear()
                    await self._news.wait()
                return value
        except TimeoutError:
            raise AssertionError(f"waited {timeout_s:.0f} s for {what}") from None

    async def until_frames(self, count: int) -> None:
        """Waits for so many more frames."""
        frames = self.frames
        await self.until(f"{count} frames", lambda: self.frames >= frames + count)

    async def still(self, seconds: float = STILL_S, timeout_s: float = 40.0) -> None:
        """Waits until no frame has come for a while: what was under way may still arrive."""
        try:
            async with asyncio.timeout(timeout_s):
                frames = -1
                while frames != self.frames:
                    frames = self.frames
                    await asyncio.sleep(seconds)
        except TimeoutError:
            raise AssertionError(f"frames came for {timeout_s:.0f} s") from None

    async def until_message(self, name: str, since: int = 0, **expected: Any) -> dict[str, Any]:
        """Waits for a message of a type with these values, at index `since` or later."""

        def found() -> dict[str, Any] | None:
            for data in self.of(name, since):
                if all(data.get(key) == it for key, it in expected.items()):
                    return data
            return None

        return await self.until(f"{name} {expected}", found)


Flow = Callable[[Client, Seen, Path], Awaitable[None]]
"""A flow is given a connected client, what it has seen, and the folder of the clips."""


def arguments(flows: dict[str, Flow]) -> argparse.Namespace:
    """Returns the command line of every client script."""
    parser = argparse.ArgumentParser()
    parser.add_argument("base_url")
    parser.add_argument("mode", choices=["cloud", "local"])
    parser.add_argument("flows", type=lambda names: names.split(","))
    parser.add_argument("clips", type=Path, nargs="?", default=Path())
    parser.add_argument("--size", default="1280x704")
    parser.add_argument("--timeout", type=float, default=90.0, help="of each flow")
    options = parser.parse_args()
    if unknown := set(options.flows) - flows.keys():
        parser.error(f"no such flow: {unknown}")
    return options


def run(make: Callable[[argparse.Namespace, Seen], Client], flows: dict[str, Flow]) -> int:
    """Goes through the flows that the command line names; returns the exit status."""
    options = arguments(flows)

    async def all_of_them() -> list[bool]:
        return [await _through(flows[name], name, make, options) for name in options.flows]

    return 0 if all(asyncio.run(all_of_them())) else 1


async def _through(
    flow: Flow,
    name: str,
    make: Callable[[argparse.Namespace, Seen], Client],
    options: argparse.Namespace,
) -> bool:
    """Goes through one flow and prints its report; returns whether all went well."""
    began = time.monotonic()
    failure: str | None = None
    seen = Seen()
    try:
        async with asyncio.timeout(options.timeout):
            client = make(options, seen)
            try:
                await client.connect()
                await seen.until_message("state")
                await flow(client, seen, options.clips)
            finally:
                await client.disconnect()
    except BaseException as error:
        failure = f"{type(error).__name__}: {error}"
        traceback.print_exc()
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
    width, height = map(int, options.size.split("x"))
    whole, low = [width, height], [width // LOW, height // LOW]
    if failure is None and seen.sizes not in ([], [whole], [whole, low]):
        failure = f"frames of sizes {seen.sizes}"
    report = {
        "flow": name,
        "ok": failure is None,
        "failure": failure,
        "seconds": round(time.monotonic() - began, 2),
        "statuses": seen.statuses,
        "messages": seen.types(),
        "frames": seen.frames,
        "sizes": seen.sizes,
        "frame_ids": seen.frame_ids,
        "errors": seen.errors,
        **seen.notes,
    }
    print(json.dumps(report), flush=True)
    return failure is None
