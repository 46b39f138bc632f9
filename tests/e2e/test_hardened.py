"""A service as one would expose it: TLS at the front door, keys, a moderator, an audit log."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from typer.testing import CliRunner

from gateway import actors, keys_command
from sana_gateway import Client, CommandRejected, ForbiddenError, RetryPolicy, UnavailableError
from sana_gateway.v1 import message_pb2
from scheduler.process.certificates import make
from scheduler.process.tls import AUTHORITY, CERTIFICATE, KEY
from tests.e2e.driving import SIMULATED, polled
from tests.stack import Stack, serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

ALLOWED_PROMPT = "a lighthouse of cardboard"
REFUSED_PROMPT = "an umbrella of liquorice"
HOSTS = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Hardened:
    """The service, and what it was started with."""

    stack: Stack
    folder: Path
    keys: dict[str, str]

    @property
    def authority(self) -> Path:
        """Whom clients have to believe."""
        return self.folder / "tls" / AUTHORITY

    @property
    def audited(self) -> list[dict[str, Any]]:
        """The lines of the audit log."""
        lines = (self.folder / "audit.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def client(self, key: str) -> Client:
        """Returns a client that shows a key over TLS."""
        believed = grpc.ssl_channel_credentials(self.authority.read_bytes())
        return Client(self.stack.grpc_address, api_key=self.keys[key], credentials=believed)


@pytest.fixture(scope="module")
def hardened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hardened]:
    folder = tmp_path_factory.mktemp("hardened")
    tls, audit, keys = folder / "tls", str(folder / "audit.jsonl"), {}
    make(tls, days=1, now=dt.datetime.now(dt.UTC), hosts=HOSTS)
    (folder / "words").write_text("liquorice\n")
    for name, tenant, scope in (("web", "acme", "session"), ("ops", "staff", "operator")):
        words = ("new", "--id", name, "--tenant", tenant, "--scope", scope, "--audit-log", audit)
        done = CliRunner().invoke(keys_command.keys, [*words, "--file", str(folder / "keys.yaml")])
        assert done.exit_code == 0, done.exception
        keys[name] = done.stdout.strip()
    options = (
        *("--auth", "api-key", "--api-keys", str(folder / "keys.yaml")),
        *("--tls-cert", str(tls / CERTIFICATE), "--tls-key", str(tls / KEY)),
        *("--moderation", "blocklist", "--moderation-option", f"file={folder / 'words'}"),
        *("--audit-log", audit, "--media-workers", "1", "--log-level", "debug"),
    )
    with serving(*SIMULATED, *options, env={"XDG_STATE_HOME": str(folder)}) as running:
        yield Hardened(running, folder, keys)
        log = running.log.read_text()
    assert not [word for word in (*keys.values(), "liquorice", "lighthouse") if word in log]
    assert "liquorice" not in (folder / "audit.jsonl").read_text()


@pytest.fixture
async def https(hardened: Hardened) -> AsyncIterator[aiohttp.ClientSession]:
    believed = ssl.create_default_context(cafile=hardened.authority)
    connector = aiohttp.TCPConnector(ssl=believed)
    async with aiohttp.ClientSession(hardened.stack.http_url, connector=connector) as session:
        yield session


async def test_a_refused_prompt_is_refused_on_every_wire_and_the_session_goes_on(
    hardened: Hardened, https: aiohttp.ClientSession
) -> None:
    async with (
        hardened.client("web") as client,
        await client.create_session("simulated") as session,
    ):
        await session.set_prompt(ALLOWED_PROMPT)
        with pytest.raises(CommandRejected) as refused:
            await session.set_prompt(REFUSED_PROMPT)
        assert refused.value.code == message_pb2.REJECT_REASON_NOT_ALLOWED
        assert refused.value.command == "set_prompt"
        shown = {"Reactor-API-Key": hardened.keys["web"]}
        async with https.post("/tokens", headers=shown) as answer:
            token = (await answer.json())["jwt"]
        for prompt, status in ((REFUSED_PROMPT, 403), (ALLOWED_PROMPT, 200)):
            async with https.post(
                f"/sessions/{session.session_id}/commands",
                json={"type": "set_prompt", "data": {"prompt": prompt}},
                headers={"Authorization": f"Bearer {token}"},
            ) as answer:
                assert answer.status == status, await answer.text()


async def test_a_list_that_grows_holds_at_once(hardened: Hardened) -> None:
    words = hardened.folder / "words"
    async with (
        hardened.client("web") as client,
        await client.create_session("simulated") as session,
    ):

        async def is_refused() -> bool:
            try:
                await session.set_prompt("a kettle of felt")
            except CommandRejected:
                return True
            return False

        assert not await is_refused()
        words.write_text("liquorice\nkettle\n")
        await polled(is_refused)


async def test_nothing_is_answered_in_the_clear(hardened: Hardened) -> None:
    url = hardened.stack.http_url
    assert url.startswith("https://")
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(url.replace("https://", "http://") + "/livez")
    patience = RetryPolicy(window=0.2)
    async with Client(hardened.stack.grpc_address, policy=patience) as client:
        with pytest.raises(UnavailableError):
            await client.describe_pool()


async def test_what_operators_do_is_told_and_so_is_who_may_not(hardened: Hardened) -> None:
    address = ("--address", hardened.stack.grpc_address, "--ca", str(hardened.authority))
    listed = await asyncio.to_thread(
        CliRunner().invoke,
        actors.actors,
        ["ls", "--json", *address],
        env={"SANA_TOKEN": hardened.keys["ops"]},
    )
    assert listed.exit_code == 0, listed.exception
    async with hardened.client("web") as client:
        with pytest.raises(ForbiddenError):
            await client.describe_pool()
    told = [(each["key"], each["action"], each["outcome"]) for each in hardened.audited]
    assert told[:2] == [(None, "key.new", "done")] * 2, "by the command that makes keys"
    assert ("ops", "pool.read", "done") in told
    assert ("web", "denied", "refused:FORBIDDEN") in told
    assert {each["role"] for each in hardened.audited} == {"keys", "gateway", "front_door"}
