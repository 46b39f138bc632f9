"""What every Reactor client is put through, whatever its SDK.

Runs inside foreign environments: standard library and numpy only. A client script
implements `Client` and calls `run`, which prints one JSON report and exits non-zero
when a step failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

FIRST_PROMPT = "Van Gogh oil painting, swirling brushstrokes, vivid colors"
SECOND_PROMPT = "Charcoal drawing on rough paper"
SIZE = [1280, 704]
LOW_SIZE = [640, 352]
"""What a client that cannot keep up is given, as on a busy machine."""
STILL_S = 0.5
"""A stream without a frame for so long, twelve frames, is paused."""


class Client(Protocol):
    """One SDK."""

    correlated: bool
    """Whether `command` returns the reply."""

    async def connect(self) -> None:
        """Connects and returns once ready."""

    async def publish(self) -> None:
        """Publishes a moving picture on `camera`."""

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

    async def disconnect(self) -> None:
        """Ends the session."""


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

    def last(self, name: str) -> dict[str, Any]:
        """Returns the data of the latest message of a type."""
        return next(data for each, data in reversed(self.messages) if each == name)

    async def until(self, what: str, condition: Callable[[], Any], timeout_s: float = 40.0) -> Any:
        """Waits until a condition holds; it is looked at after everything that happens."""
        try:
            async with _timeout(timeout_s):
                while not (value := condition()):
                    self._news.clear()
                    await self._news.wait()
                return value
        except TimeoutError:
            raise AssertionError(f"waited {timeout_s:.0f} s for {what}") from None

    async def still(self, seconds: float = STILL_S, timeout_s: float = 40.0) -> None:
        """Waits until no frame has come for a while: what was under way may still arrive."""
        try:
            async with _timeout(timeout_s):
                frames = -1
                while frames != self.frames:
                    frames = self.frames
                    await asyncio.sleep(seconds)
        except TimeoutError:
            raise AssertionError(f"frames came for {timeout_s:.0f} s") from None

    async def until_message(self, name: str, since: int = 0, **expected: Any) -> dict[str, Any]:
        """Waits for a message of a type with these values, at index `since` or later."""

        def found() -> dict[str, Any] | None:
            for each, data in self.messages[since:]:
                if each == name and all(data.get(key) == it for key, it in expected.items()):
                    return data
            return None

        return await self.until(f"{name} {expected}", found)


def _timeout(seconds: float) -> Any:
    return asyncio.timeout(seconds)


async def _reply(client: Client, seen: Seen, name: str, reply: str | None, **arguments: Any) -> Any:
    """Sends a command and checks its reply: on SDKs with replies, and that it came only once."""
    since = len(seen.messages)
    got = await client.command(name, arguments)
    if client.correlated:
        kind = got["type"] if got else None
        assert kind == reply, f"{name} was answered by {kind}, not {reply}"
    if reply is not None:
        await seen.until_message(reply, since)
    await seen.until_message("state", since)
    if reply is not None:
        times = [each for each, _ in seen.messages[since:]].count(reply)
        assert times == 1, f"{reply} came {times} times"
    return got


async def live(client: Client, seen: Seen, _: str) -> None:
    """The documented live example, and every other command on the way."""
    await seen.until_message("state", started=False, current_prompt=None)
    assert len(seen.last("state")) == 9, seen.last("state")
    await client.publish()
    await _reply(client, seen, "set_prompt", "prompt_accepted", prompt=FIRST_PROMPT)
    await _reply(client, seen, "set_mode", None, mode="live")
    await _reply(client, seen, "set_seed", None, seed=42)
    await seen.until_message("state", seed=42, current_prompt=FIRST_PROMPT)
    since = len(seen.messages)
    await client.command("start", {})
    started = await seen.until_message("generation_started", since)
    assert started == {"prompt": FIRST_PROMPT, "chunk_num": 0, "frame_num": 0}, started
    await seen.until("24 frames", lambda: seen.frames >= 24)
    await seen.until_message("chunk_complete", since, chunk_index=0)
    await _reply(client, seen, "set_prompt", "prompt_accepted", prompt=SECOND_PROMPT)
    await seen.until_message("chunk_complete", since, active_prompt=SECOND_PROMPT)
    await _reply(client, seen, "no_such_command", "command_error")
    await _reply(client, seen, "set_seed", "command_error", seed="many")
    await _reply(client, seen, "pause", None)
    await seen.until_message("state", since, paused=True)
    since = len(seen.messages)
    await _reply(client, seen, "resume", None)
    await seen.until_message("state", since, paused=False, running=True)
    await seen.until_message("chunk_complete", since)
    await _output_pauses(client, seen)
    await client.extras(seen)
    await _reply(client, seen, "reset", "generation_reset")
    await seen.until_message("state", len(seen.messages) - 1, started=False, has_prompt=False)
    await client.unpublish()


async def file(client: Client, seen: Seen, clip: str) -> None:
    """The documented file example, and a replay."""
    await seen.until_message("state", has_video=False)
    reference = await client.upload(clip)
    await _reply(client, seen, "set_mode", None, mode="file")
    await _reply(client, seen, "set_video", "video_accepted", video=reference)
    accepted = seen.last("video_accepted")
    assert accepted["num_latent_frames"] == (accepted["num_frames"] - 1) // 8 + 1, accepted
    await seen.until_message("state", has_video=True, num_source_frames=accepted["num_frames"])
    await _reply(client, seen, "set_prompt", "prompt_accepted", prompt=FIRST_PROMPT)
    for _ in range(2):
        since, frames = len(seen.messages), seen.frames
        await client.command("start", {})
        await seen.until_message("generation_started", since)
        complete = await seen.until_message("generation_complete", since)
        chunks = [data for name, data in seen.messages[since:] if name == "chunk_complete"]
        assert [each["chunk_index"] for each in chunks] == list(
            range(int(complete["total_chunks"]))
        )
        await seen.until_message("state", since, started=False, has_video=True, has_prompt=True)
        assert seen.frames > frames, "no frame was received"
    seen.notes["video_accepted"] = accepted


async def _output_pauses(client: Client, seen: Seen) -> None:
    await client.pause_output()
    await seen.still()
    paused_at = seen.frames
    await client.resume_output()
    await seen.until("frames after resume", lambda: seen.frames >= paused_at + 24)


async def reconnecting(client: Client, seen: Seen, _: str) -> None:
    """The session and its state survive the transport."""
    await _reply(client, seen, "set_prompt", "prompt_accepted", prompt=FIRST_PROMPT)
    since = len(seen.messages)
    await client.reconnect()
    await seen.until_message("state", since, current_prompt=FIRST_PROMPT)
    await client.publish()
    await client.command("start", {})
    frames = seen.frames
    await seen.until("24 frames after the reconnect", lambda: seen.frames >= frames + 24)


async def staying(*_: object) -> None:
    """Says so once it is connected, and stays until it is killed."""
    print("connected", flush=True)
    await asyncio.Event().wait()


FLOWS: dict[str, Callable[[Client, Seen, str], Awaitable[None]]] = {
    "live": live,
    "file": file,
    "reconnect": reconnecting,
    "stay": staying,
}


def arguments() -> argparse.Namespace:
    """Returns the command line of every client script."""
    parser = argparse.ArgumentParser()
    parser.add_argument("base_url")
    parser.add_argument("mode", choices=["cloud", "local"])
    parser.add_argument("flow", choices=sorted(FLOWS))
    parser.add_argument("clip", nargs="?", default="")
    parser.add_argument("--timeout", type=float, default=90.0)
    return parser.parse_args()


async def _go(client: Client, seen: Seen, flow: str, clip: str) -> None:
    try:
        await client.connect()
        await FLOWS[flow](client, seen, clip)
    finally:
        await client.disconnect()


def run(make: Callable[[argparse.Namespace, Seen], Client]) -> int:
    """Runs the flow that the command line names; returns the exit status."""
    options = arguments()
    began = time.monotonic()
    failure: str | None = None

    async def main() -> Seen:
        nonlocal failure
        seen = Seen()
        try:
            async with _timeout(options.timeout):
                await _go(make(options, seen), seen, options.flow, options.clip)
        except BaseException as error:
            failure = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        return seen

    seen = asyncio.run(main())
    if failure is None and (seen.sizes[:1] != [SIZE] or seen.sizes[1:] not in ([], [LOW_SIZE])):
        failure = f"frames of sizes {seen.sizes}"
    report = {
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
    print(json.dumps(report))
    sys.stdout.flush()
    return 0 if failure is None else 1
