"""The Reactor routes and its JSON wire, as little of them as a client needs."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiortc import RTCDataChannel

POLL_S: Final = 0.02
"""Between two polls: short, to measure the server and not the client."""
PING_S: Final = 5.0
"""Servers drop clients that are silent for 20 s."""
WAIT_S: Final = 30.0
"""Longest wait for anything."""
_INFO: Final = {"sdk_version": "0.8.0", "sdk_type": "python"}
Message = dict[str, Any]


class WireError(Exception):
    """The server said something else than a client can go on with."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a session is to be had."""

    url: str
    model: str = "sana-streaming"
    local: bool = False
    """One session a process, as the incumbent's runtime has it."""


class Routes:
    """The HTTP side of one session."""

    def __init__(self, http: aiohttp.ClientSession, place: Place) -> None:
        self._http = http
        self._place = place
        self.session_id = ""
        self._connection = 0

    async def create(self) -> None:
        """Creates a session and waits until it has a place.

        Raises:
            WireError: It was refused, or nothing came of it.
        """
        if self._place.local:
            self.session_id = (await self._call("POST", "/start_session", {}))["session_id"]
            return
        body = {
            "model": {"name": self._place.model},
            "client_info": _INFO,
            "supported_transports": [{"protocol": "webrtc", "version": "1.0"}],
        }
        shown = await self._call("POST", "/sessions", body)
        self.session_id = shown["session_id"]
        async with asyncio.timeout(WAIT_S):
            while "capabilities" not in shown:
                await asyncio.sleep(POLL_S)
                shown = await self._call("GET", f"/sessions/{self.session_id}")

    async def negotiate(self, sdp: str, tracks: list[dict[str, str]]) -> str:
        """Exchanges an offer for an answer.

        Raises:
            WireError: The offer was refused.
        """
        base = f"/sessions/{self.session_id}/transport/webrtc/connections"
        self._connection = (await self._call("POST", base, {}))["connection_id"]
        path = f"{base}/{self._connection}/sdp_params"
        offer = {"sdp_offer": sdp, "client_info": _INFO, "track_mapping": tracks}
        await self._call("POST", path, offer)
        async with asyncio.timeout(WAIT_S):
            while True:
                answer = await self._call("GET", path)
                if "sdp_answer" in answer:
                    return str(answer["sdp_answer"])
                await asyncio.sleep(POLL_S)

    async def upload(self, path: Path) -> dict[str, Any]:
        """Uploads a file; returns the reference that a command takes."""
        data = await asyncio.to_thread(path.read_bytes)
        file: Message = {"name": path.name, "mime_type": "video/mp4", "size": len(data)}
        slot = await self._call("POST", f"/sessions/{self.session_id}/uploads", file)
        headers = {"Content-Type": "video/mp4"}
        async with self._http.put(slot["presigned_url"], data=data, headers=headers) as response:
            if not response.ok:
                raise WireError(f"the upload was answered with {response.status}")
        return {"upload_id": slot["presigned_id"], **file}

    async def end(self) -> None:
        """Ends the session; one that has ended is no error."""
        if self._place.local:
            await self._http.post(f"{self._place.url}/stop_session")
        elif self.session_id:
            await self._http.delete(f"{self._place.url}/sessions/{self.session_id}")

    async def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        async with self._http.request(method, self._place.url + path, json=body) as response:
            if not response.ok:
                said = (await response.text())[:200]
                raise WireError(f"{method} {path} was answered with {response.status}: {said}")
            text = await response.text()
            return dict(json.loads(text)) if text else {}


class Conversation:
    """The data channels of one session."""

    def __init__(self, data: RTCDataChannel, control: RTCDataChannel) -> None:
        self._data, self._control = data, control
        self._waiting: list[tuple[Callable[[Message], bool], asyncio.Future[Message]]] = []
        self._numbers = itertools.count(1)
        self.latest: dict[str, Message] = {}
        """The last message of each type."""
        self.open = asyncio.Event()
        for channel in (data, control):
            channel.on("open", self._opened)
            channel.on("message", self._received)

    def send(self, name: str, arguments: Message, uploads: Message | None = None) -> None:
        """Sends a command."""
        inner: Message = {"type": name, "data": arguments}
        if uploads:
            inner["uploads"] = uploads
        self._data.send(json.dumps({"scope": "application", "data": inner}))

    def answer(self, wanted: Callable[[Message], bool]) -> asyncio.Future[Message]:
        """Returns the next message that is wanted; a refusal is one of its own."""
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, future))
        return future

    async def ask(
        self, name: str, arguments: Message, wanted: str, uploads: Message | None = None
    ) -> Message:
        """Sends a command and waits for a message of a type.

        Raises:
            WireError: The command was refused.
        """
        coming = self.answer(lambda said: said["type"] in (wanted, "command_error"))
        self.send(name, arguments, uploads)
        async with asyncio.timeout(WAIT_S):
            said = await coming
        if said["type"] == "command_error":
            raise WireError(f"{name} was refused: {said['data'].get('reason')}")
        return said

    async def live(self) -> None:
        """Asks for the picture, then says every few seconds that the client is there."""
        wish = {"type": "notification", "event": "resume_track", "data": {"name": "main_video"}}
        self._control.send(json.dumps(wish))
        while True:
            ping = {"scope": "runtime", "data": {"type": "ping", "data": {}}}
            self._data.send(json.dumps(ping))
            await asyncio.sleep(PING_S)

    async def publish(self, track: str) -> None:
        """Asks for the place of a track's publisher."""
        request = {"type": "request", "method": "publish_track", "data": {"name": track}}
        coming = self.answer(lambda said: said["type"] == "response")
        self._control.send(json.dumps({**request, "request_id": f"c{next(self._numbers)}"}))
        async with asyncio.timeout(WAIT_S):
            if "error" in await coming:
                raise WireError(f"the server takes no {track}")

    def _opened(self) -> None:
        if self._data.readyState == self._control.readyState == "open":
            self.open.set()

    def _received(self, text: str | bytes) -> None:
        said = json.loads(text)
        inner = said["data"] if said.get("scope") == "application" else said
        if not isinstance(inner, dict) or "type" not in inner:
            return
        self.latest[inner["type"]] = inner
        for entry in list(self._waiting):
            wanted, future = entry
            if future.done() or wanted(inner):
                self._waiting.remove(entry)
                if not future.done():
                    future.set_result(inner)
