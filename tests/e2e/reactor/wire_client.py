"""A Reactor client of our own on aiohttp and aiortc: every step is in the hand of a test.

It does on the wire what one of four published clients does (`KINDS`), and shows everything
that came back. Its steps are those of the specification: `create`, `register`, `offer`,
`answered`, `connected`; `connect` takes them all.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from av import VideoFrame
from google.protobuf import json_format, struct_pb2

from sdk_adapters.reactor import reactor_wire_pb2 as pb
from tests.e2e.driving import Seen

VERSIONS: Final = {"Reactor-API-Version": "1", "Reactor-API-Accept-Version": "1"}
MODEL: Final = "sana-streaming"
POLLS: Final = (0.0, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
"""Pauses before the looks at an answer, in seconds."""


@dataclass(frozen=True)
class Kind:
    """What tells the published clients apart."""

    client_info: Mapping[str, str]
    binary: bool = False
    """Protobuf on the channels; else JSON."""
    channels: tuple[str, ...] = ("control", "data")
    numbered: bool = True
    """Registers a connection; else there is one, without a number."""
    trickles: bool = False
    """The offer has no candidates; they follow."""


KINDS: Final = {
    "js-2.9": Kind({"sdk_type": "js", "sdk_version": "2.9.0"}, channels=("data",), numbered=False),
    "js-2.12": Kind({"sdk_type": "js", "sdk_version": "2.12.3"}, trickles=True),
    "py-0.8": Kind({"sdk_type": "python", "sdk_version": "0.8.0"}),
    "py-native": Kind(
        {"sdk_type": "python", "sdk_version": "1.13.0"},
        binary=True,
        channels=("data", "control"),
        trickles=True,
    ),
}


@dataclass(frozen=True)
class Heard:
    """A message of the server, whichever wire brought it."""

    label: str
    name: str
    """Its type; `ack` for a protobuf response without payload, `response` on control."""
    data: Any
    request_id: str = ""
    scope: str = ""
    """`application` or `runtime`; on protobuf, the channel tells."""
    raw: str | bytes = b""


class _Events(Seen[Heard]):
    """What was heard; other things wake those who wait too."""

    def wake(self) -> None:
        """Something happened."""
        self._more.set()


class Bar(VideoStreamTrack):
    """A camera: a bar that wanders over grey."""

    def __init__(self, width: int = 320, height: int = 192) -> None:
        super().__init__()
        self._number = 0
        self._size = (width, height)

    async def recv(self) -> VideoFrame:
        pts, time_base = await self.next_timestamp()
        width, height = self._size
        picture = np.full((height * 3 // 2, width), 128, np.uint8)
        picture[:height, (self._number * 8) % (width - 40) :][:, :40] = 220
        self._number += 1
        frame = VideoFrame.from_ndarray(picture, format="yuv420p")
        frame.pts, frame.time_base = pts, time_base
        return frame


@dataclass
class Answer:
    """What HTTP said."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


class WireClient:
    """One client."""

    def __init__(
        self, http: aiohttp.ClientSession, kind: str = "js-2.12", *, headers: Any = None
    ) -> None:
        """Prepares it.

        Args:
            http: With the service's address as its base.
            kind: Which of `KINDS` it is.
            headers: Sent with every request; the versions by default.
        """
        self.http = http
        self.kind = KINDS[kind]
        self.client_info: Any = self.kind.client_info
        self.headers = dict(VERSIONS if headers is None else headers)
        self.session_id = ""
        self.connection_id = 0
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.channels: dict[str, Any] = {}
        self.heard = _Events()
        self.pictures = Seen[tuple[int, int]]()
        """Sizes of the decoded pictures."""
        self.camera: Any = None
        self.sdp = ""
        self.mapping: list[dict[str, str]] = []
        self._numbers = itertools.count(1)
        self._tasks: list[asyncio.Task[None]] = []

    # HTTP.

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Sends a request; paths below the session begin with a dot."""
        url = f"/sessions/{self.session_id}{path[1:]}" if path.startswith(".") else path
        sent = {**self.headers, **{key.replace("_", "-"): it for key, it in headers.items()}}
        data: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        if body is None:
            data = {}
        async with self.http.request(method, url, headers=sent, **data) as response:
            text = await response.text()
            is_json = response.content_type == "application/json"
            return Answer(response.status, json.loads(text) if is_json else text, response.headers)

    @property
    def transport(self) -> str:
        """Path of the signalling: that of its connection, once it is registered."""
        path = "./transport/webrtc"
        return f"{path}/connections/{self.connection_id}" if self.kind.numbered else path

    async def create(self, *, local: bool = False) -> dict[str, Any]:
        """Makes a session and waits until it has its place; returns it."""
        if local:
            started = await self.ask("POST", "/start_session", {})
            assert started.status == 200, started
            self.session_id = started.body["session_id"]
            return dict(started.body)
        body = {
            "model": {"name": MODEL},
            "client_info": self.client_info,
            "supported_transports": [{"protocol": "webrtc", "version": "1.0"}],
        }
        created = await self.ask("POST", "/sessions", body)
        assert created.status == 201, created
        return await self.join(created.body["session_id"])

    async def join(self, session_id: str) -> dict[str, Any]:
        """Takes part in a session; returns it once it has its place."""
        self.session_id = session_id
        while True:
            shown = await self.ask("GET", ".")
            assert shown.status == 200, shown
            if "capabilities" in shown.body:
                return dict(shown.body)

    async def upload(self, file: Path) -> dict[str, Any]:
        """Uploads a file; returns the reference to it that commands take."""
        data = file.read_bytes()
        about = {"name": file.name, "size": len(data), "mime_type": "video/mp4"}
        slot = await self.ask("POST", "./uploads", about)
        async with self.http.put(slot.body["presigned_url"], data=data) as put:
            assert put.ok
        reference = {"upload_id": slot.body["presigned_id"], **about}
        if not self.kind.binary:
            self.runtime("fileUploaded", **reference)
        return reference

    async def register(self) -> int:
        """Makes a connection and returns its number."""
        made = await self.ask("POST", "./transport/webrtc/connections")
        assert made.status == 201, made
        self.connection_id = made.body["connection_id"]
        return self.connection_id

    # The peer.

    async def prepare(self, tracks: Iterable[str] = ("camera", "main_video")) -> None:
        """Makes an offer with these tracks, in this order, and the channels of its kind."""
        for label in self.kind.channels:
            channel = self.pc.createDataChannel(label)
            channel.on("message", lambda payload, label=label: self._take(label, payload))
            channel.on("open", self.heard.wake)
            channel.on("close", self.heard.wake)
            self.channels[label] = channel
        transceivers = {}
        for name in tracks:
            direction = "sendonly" if name == "camera" else "recvonly"
            transceivers[name] = self.pc.addTransceiver("video", direction=direction)
        self.pc.on("track", self._watch)
        self.pc.on("connectionstatechange", self.heard.wake)
        await self.pc.setLocalDescription(await self.pc.createOffer())
        self.camera = transceivers.get("camera")
        self.mapping = [
            {"mid": str(each.mid), "name": name, "kind": "video", "direction": each.direction}
            for name, each in transceivers.items()
        ]
        sdp = self.pc.localDescription.sdp
        self.sdp = without_candidates(sdp) if self.kind.trickles else sdp

    async def offer(self, method: str = "POST", **changes: Any) -> Answer:
        """Sends the offer."""
        body = {
            "sdp_offer": self.sdp,
            "client_info": self.client_info,
            "track_mapping": self.mapping,
        }
        return await self.ask(method, f"{self.transport}/sdp_params", body | changes)

    async def trickle(self, candidates: list[dict[str, Any]], **more: Any) -> Answer:
        """Sends candidates."""
        body = {"candidates": candidates, "client_info": self.client_info, **more}
        return await self.ask("POST", f"{self.transport}/ice_candidates", body)

    async def answered(self) -> str:
        """Polls for the answer, as often as the clients do, and returns it."""
        for pause in POLLS:
            await asyncio.sleep(pause)
            polled = await self.ask("GET", f"{self.transport}/sdp_params")
            assert polled.status in (200, 202), polled
            if polled.status == 200:
                return str(polled.body["sdp_answer"])
        raise AssertionError("no answer came")

    async def connected(self, answer: str) -> None:
        """Applies an answer and waits until the channels are open."""
        await self.pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await self.heard.until(
            lambda: all(each.readyState == "open" for each in self.channels.values())
        )

    async def connect(self, *, tracks: Iterable[str] = ("camera", "main_video")) -> None:
        """Goes from a session to open channels."""
        if self.kind.numbered:
            await self.register()
        await self.prepare(tracks)
        assert (await self.offer()).status == 202
        if self.kind.trickles:
            told = await self.trickle(candidates_of(self.pc.localDescription.sdp), is_final=False)
            assert told.status == 202, told
            assert (await self.trickle([], is_final=True)).status == 202
        await self.connected(await self.answered())

    async def close(self) -> None:
        """Hangs up; the session goes on."""
        await self.pc.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def publish(self, camera: Any = None) -> None:
        """Sends a picture on the camera track, as js-2.9 does: without a word."""
        self.camera.sender.replaceTrack(camera or Bar())

    def _watch(self, track: Any) -> None:
        self._tasks.append(asyncio.ensure_future(self._receive(track)))

    async def _receive(self, track: Any) -> None:
        while True:
            picture = await track.recv()
            self.pictures.add((picture.width, picture.height))

    # The channels.

    def send(self, label: str, payload: str | bytes | dict[str, Any]) -> None:
        """Says anything."""
        self.channels[label].send(json.dumps(payload) if isinstance(payload, dict) else payload)

    def command(self, name: str, uploads: Any = None, /, **arguments: Any) -> str:
        """Sends a command; returns its id, which JSON does not have."""
        request_id = f"data_{next(self._numbers)}"
        if self.kind.binary:
            made = pb.DataClientMessage(request_id=request_id, kind=pb.KIND_REQUEST)
            made.command.type = name
            made.command.data.CopyFrom(struct_of(arguments))
            for key, reference in (uploads or {}).items():
                made.command.uploads[key].CopyFrom(pb.UploadReference(**reference))
            self.send("data", made.SerializeToString())
            return request_id
        inner = {"type": name, "data": arguments} | ({"uploads": uploads} if uploads else {})
        self.send("data", {"scope": "application", "data": inner})
        return ""

    def runtime(self, name: str, /, **data: Any) -> None:
        """Says something to the platform, over JSON."""
        self.send("data", {"scope": "runtime", "data": {"type": name, "data": data}})

    def control(self, name: str, track: str = "main_video") -> str:
        """Says a verb about a track; returns the id of the one that is a request."""
        request_id = f"ctrl_{next(self._numbers)}" if name == "publish_track" else ""
        if self.kind.binary:
            kind = pb.KIND_REQUEST if request_id else pb.KIND_NOTIFICATION
            made = pb.ControlClientMessage(request_id=request_id, kind=kind)
            getattr(made, name).name = track
            self.send("control", made.SerializeToString())
        elif request_id:
            request = {"type": "request", "method": name, "request_id": request_id}
            self.send("control", request | {"data": {"name": track}})
        else:
            self.send("control", {"type": "notification", "event": name, "data": {"name": track}})
        return request_id

    def ping(self) -> None:
        """Gives a sign of life, where clients of its kind give it."""
        if self.kind.binary:
            made = pb.ControlClientMessage(kind=pb.KIND_NOTIFICATION, ping=pb.Ping())
            self.send("control", made.SerializeToString())
        else:
            self.runtime("ping")

    def of(self, name: str) -> list[Heard]:
        """Returns what was heard by this name."""
        return [each for each in self.heard.items if each.name == name]

    async def until_heard(self, name: str, since: int = 0, **expected: Any) -> Heard:
        """Waits for a message with these values, at index `since` or later."""

        def found() -> Heard | None:
            for each in self.heard.items[since:]:
                if each.name == name and all(
                    each.data.get(key) == value for key, value in expected.items()
                ):
                    return each
            return None

        return await self.heard.until(found)  # type: ignore[return-value]

    async def reply(self, name: str, uploads: Any = None, /, **arguments: Any) -> list[Heard]:
        """Sends a command; returns what came until the state that follows it.

        A bare answer, which protobuf alone has, is waited for and left out.
        """
        since = len(self.heard.items)
        request_id = self.command(name, uploads, **arguments)

        def is_answered() -> bool:
            return any(each.request_id == request_id for each in self.heard.items[since:])

        await self.until_heard("state", since)
        await self.heard.until(is_answered)
        return [each for each in self.heard.items[since:] if each.name != "ack"]

    def _take(self, label: str, payload: str | bytes) -> None:
        self.heard.add(_protobuf(label, payload) if self.kind.binary else _json(label, payload))


def _json(label: str, payload: str | bytes) -> Heard:
    # Browsers parse text frames alone.
    assert isinstance(payload, str), payload
    said = json.loads(payload)
    if label == "control":
        outcome = said.get("error", said.get("data"))
        return Heard(label, said["type"], outcome, said["request_id"], raw=payload)
    inner = said["data"]
    return Heard(label, inner["type"], inner["data"], "", said["scope"], raw=payload)


def _protobuf(label: str, payload: str | bytes) -> Heard:
    assert isinstance(payload, bytes), payload
    said: Any = {"data": pb.DataServerMessage, "control": pb.ControlServerMessage}[label]()
    said.ParseFromString(payload)
    kind = said.WhichOneof("payload")
    response = said.kind == pb.KIND_RESPONSE
    assert response == bool(said.request_id), "an id and RESPONSE go together"
    assert response or said.kind == pb.KIND_NOTIFICATION, said.kind
    if kind == "message":
        data = json_format.MessageToDict(said.message.data)
        return Heard(label, said.message.type, data, said.request_id, raw=payload)
    data = json_format.MessageToDict(getattr(said, kind)) if kind else None
    return Heard(label, kind or "ack", data, said.request_id, raw=payload)


def struct_of(data: Mapping[str, Any]) -> struct_pb2.Struct:
    """Returns a Struct; its numbers are doubles."""
    struct = struct_pb2.Struct()
    struct.update(data)
    return struct


_CANDIDATE: Final = re.compile(r"a=(?:candidate:.*|end-of-candidates)\r\n")


def without_candidates(sdp: str) -> str:
    """Returns an offer as of a client that has not gathered yet."""
    return _CANDIDATE.sub("", sdp)


def candidates_of(sdp: str) -> list[dict[str, Any]]:
    """Returns the candidates of an offer as they are trickled."""
    found = []
    for index, section in enumerate(sdp.split("\r\nm=")[1:]):
        mid = re.search(r"a=mid:(\S+)", section)
        assert mid is not None
        found += [
            {"candidate": line, "sdp_mid": mid[1], "sdp_mline_index": index}
            for line in re.findall(r"a=(candidate:.*)\r", section + "\r")
        ]
    return found


@asynccontextmanager
async def client(url: str, kind: str = "js-2.12", **options: Any) -> AsyncIterator[WireClient]:
    """A client that is not connected yet; its session ends with it, where it has made one."""
    async with aiohttp.ClientSession(url) as http:
        made = WireClient(http, kind, **options)
        try:
            yield made
        finally:
            await made.close()
            if made.session_id:
                with suppress(aiohttp.ClientError):
                    await made.ask("DELETE", ".")


@asynccontextmanager
async def connected(
    url: str, kind: str = "js-2.12", session_id: str = "", **options: Any
) -> AsyncIterator[WireClient]:
    """A client that is ready, in a session of its own or in one that exists."""
    async with client(url, kind, **options) as made:
        if session_id:
            await made.join(session_id)
        else:
            await made.create()
        try:
            await made.connect()
            yield made
        finally:
            if session_id:
                made.session_id = ""
