"""The service, and the tenant that has something to lose."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import aiohttp
import grpc

from sana_gateway import Client, Session
from sana_gateway.v1 import session_pb2
from tests.e2e.driving import WAIT_S, Screen, Told, polled, stage, watching
from tests.e2e.isolation.callers import Caller, Keyring, bearing
from tests.e2e.isolation.rows import Target, nobodys
from tests.stack import Stack
from tests.unit.sdk_adapters.whip_offers import OBS, PLAYER

MODEL: Final = "simulated"
PROMPT: Final = "quetzalcoatl in marzipan"
NAME: Final = "grandmother-xylophone.mp4"
STREAM: Final = "~parlour-kazoo"
_SDP: Final = {"Content-Type": "application/sdp"}


@dataclass
class World:
    """A service, its clients, and what is whose."""

    stack: Stack
    keyring: Keyring
    http: aiohttp.ClientSession
    channel: grpc.aio.Channel
    owner: Caller
    client: Client
    """The owner's."""
    session: Session
    told: Told
    """What the owner hears of the session."""
    screen: Screen
    """What the owner sees of it."""
    victim: Target
    nobody: Target
    strangers: dict[str, Caller]

    @property
    def secrets(self) -> list[str]:
        """What nobody else may ever be told."""
        return [*self.victim.ids, PROMPT, NAME, NAME[:-4], STREAM[1:], "acme-sparrow"]

    async def standing(self) -> tuple[object, ...]:
        """Returns all that could have changed: what the owner sees of its session."""
        shown = await self.client.get_session(self.victim.session)
        stream = await self.client.get_session(self.victim.streamed)
        async with self.http.get(
            f"/sessions/{self.victim.session}/state", headers=self.owner.http
        ) as answer:
            state = await answer.json()
        fork = await self.client.get_session(self.victim.fork)
        heard = [each.revision for each in self.told.items]
        # A picture that holds is sent again from time to time.
        frames = self.screen.numbers()
        upload = await self.client.stub.GetUpload(
            session_pb2.GetUploadRequest(
                session_id=self.victim.session, upload_id=self.victim.upload
            ),
            metadata=self.client.metadata(),
        )
        return (
            *(each.SerializeToString() for each in (shown, stream, fork, upload)),
            json.dumps(state),
            heard,
            frames,
            list(self.told.ended),
        )


async def ask(
    http: aiohttp.ClientSession,
    caller: Caller,
    method: str,
    path: str,
    body: Any = None,
    **headers: str,
) -> tuple[int, Any, Any]:
    """Sends a request that must be good; returns status, headers and body."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    said = {**named, **caller.http}
    async with http.request(method, path, data=data, headers=said) as answer:
        text = await answer.text()
        assert answer.status < 400, (path, answer.status, text)
        is_json = answer.content_type == "application/json"
        return answer.status, answer.headers, json.loads(text) if is_json else text


async def furnished(
    http: aiohttp.ClientSession, owner: Caller, session: str, stream: str
) -> Target:
    """Returns a session of the owner's with something of every kind."""
    _, _, slot = await ask(
        http,
        owner,
        "POST",
        f"/sessions/{session}/uploads",
        {"name": NAME, "mime_type": "video/mp4", "size": 9},
    )
    _, _, link = await ask(http, owner, "POST", f"/sessions/{session}/transport/webrtc/connections")
    _, player, _ = await ask(
        http, owner, "POST", f"/whep/{session}", PLAYER.encode(), Content_Type=_SDP["Content-Type"]
    )
    _, publisher, _ = await ask(
        http,
        owner,
        "POST",
        f"/whip/{MODEL}/{stream}",
        OBS.encode(),
        Content_Type=_SDP["Content-Type"],
    )
    return Target(
        session=session,
        upload=slot["presigned_id"],
        fork=session,
        stream=stream,
        streamed=publisher["Sana-Session-Id"],
        publisher=publisher["Location"].rpartition("/")[2],
        player=player["Location"].rpartition("/")[2],
        connection=link["connection_id"],
        capability=slot["presigned_url"].rpartition("/")[2],
    )


async def recorded(http: aiohttp.ClientSession, owner: Caller, target: Target) -> Target:
    """Returns it with the address of a file of its recording, which it waits for."""
    path = f"/clips?session_id={target.session}&start=0&end=1"

    async def look() -> str:
        async with http.get(path, headers=owner.http) as answer:
            return await answer.text() if answer.status == 200 else ""

    playlist = await polled(look)
    file = next(line for line in playlist.splitlines() if "init.mp4" in line)
    said = parse_qs(urlsplit(file.split('"')[1]).query)
    return replace(target, until=said["until"][0], signature=said["signature"][0])


@asynccontextmanager
async def inhabited(stack: Stack, keyring: Keyring, clip: Path) -> AsyncIterator[World]:
    """Moves the first tenant in: it edits a clip to its end and stays to watch."""
    owner = bearing("owner", keyring.token("victim"))
    token = owner.http["Authorization"].removeprefix("Bearer ")
    async with AsyncExitStack() as opened:
        http = await opened.enter_async_context(aiohttp.ClientSession(stack.http_url))
        channel = grpc.aio.insecure_channel(stack.grpc_address)
        opened.push_async_callback(channel.close, None)
        client = await opened.enter_async_context(Client(stack.grpc_address, token=token))
        session = await client.create_session(MODEL)
        told = Told(session)
        named = clip.with_name(NAME)
        named.write_bytes(clip.read_bytes())
        await stage(session, named, PROMPT)
        screen = await opened.enter_async_context(watching(client, session))
        await session.start()
        await told.until_told("generation_complete")
        victim = await furnished(http, owner, session.session_id, STREAM)
        (fork,) = await client.fork(session.session_id, 1)
        await fork.ready(WAIT_S)
        victim = await recorded(http, owner, replace(victim, fork=fork.session_id))
        nobody = nobodys(victim)
        await screen.quiet(0.3)
        await told.quiet(0.3)
        yield World(
            stack=stack,
            keyring=keyring,
            http=http,
            channel=channel,
            owner=owner,
            client=client,
            session=session,
            told=told,
            screen=screen,
            victim=victim,
            nobody=nobody,
            strangers=keyring.strangers([victim.session, nobody.session, victim.streamed]),
        )
