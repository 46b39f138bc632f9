"""What operators call for is in the audit log, with what became of it; so is who may not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.audit import AuditLog
from gateway.auth import OPERATOR, SESSION
from gateway.auth.api_key import ApiKeyAuth
from gateway.auth.key_file import digest_of
from gateway.reloading import Reloading
from gateway.settings import GatewaySettings
from sana_gateway.v1 import pool_pb2, pool_pb2_grpc, usage_pb2, usage_pb2_grpc
from scheduler.core.errors import ConfigurationError, UnauthenticatedError
from scheduler.core.ids import Holder, Principal
from scheduler.process.config import load_settings
from tests.fakes.grpc_gateway import drained, grpc_gateway
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services

pytestmark = pytest.mark.unit

OPERATORS = (("authorization", "Bearer operator"),)
USERS = (("authorization", "Bearer user"),)


class Tokens:
    """Knows a user and an operator."""

    def authenticate(self, token: str | None) -> Principal:
        scopes = {"user": {SESSION}, "operator": {OPERATOR}}.get(token or "")
        if scopes is None:
            raise UnauthenticatedError("the token is unknown")
        return Principal("acme", frozenset(scopes), (Holder(f"key:{token}"),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
async def channel(path: Path) -> AsyncIterator[grpc.aio.Channel]:
    progress = [pool_pb2.DrainActorResponse(remaining=1), pool_pb2.DrainActorResponse()]
    services = fake_services(FakeHub(), drains=progress)
    services = replace(services, auth=Tokens(), audit=AuditLog(str(path)))
    async with grpc_gateway(services) as address, grpc.aio.insecure_channel(address) as channel:
        yield channel


def told(path: Path) -> list[tuple[str | None, str, str, str]]:
    """Returns key, action, target and outcome of every line."""
    lines = map(json.loads, path.read_text().splitlines())
    return [(each["key"], each["action"], each["target"], each["outcome"]) for each in lines]


async def test_a_drain_is_told_when_it_begins(channel: grpc.aio.Channel, path: Path) -> None:
    stub: Any = pool_pb2_grpc.PoolServiceStub(channel)
    request = pool_pb2.DrainActorRequest(actor_id="a1")
    request.grace.FromSeconds(60)
    call = stub.DrainActor(request, metadata=OPERATORS)
    assert (await call.read()).remaining == 1
    assert told(path) == [("operator", "actor.drain", "a1", "done")]
    assert json.loads(path.read_text())["grace_s"] == 60
    await drained(call)
    cancelling = pool_pb2.DrainActorRequest(actor_id="a1", cancel=True)
    await drained(stub.DrainActor(cancelling, metadata=OPERATORS))
    assert told(path)[1:] == [("operator", "actor.drain.cancel", "a1", "done")]


async def test_what_is_refused_is_told_too(channel: grpc.aio.Channel, path: Path) -> None:
    stub: Any = pool_pb2_grpc.PoolServiceStub(channel)
    for request, metadata in (
        (pool_pb2.DrainActorRequest(), OPERATORS),
        (pool_pb2.DrainActorRequest(actor_id="a1"), USERS),
        (pool_pb2.DrainActorRequest(actor_id="a1"), ()),
    ):
        with pytest.raises(grpc.aio.AioRpcError):
            await drained(stub.DrainActor(request, metadata=metadata))
    assert told(path) == [
        ("operator", "actor.drain", "", "refused:BAD_ARGUMENT"),
        ("user", "denied", "DrainActor", "refused:FORBIDDEN"),
    ], "of who shows nothing good, nothing is known"


async def test_reading_what_is_all_tenants_is_told(channel: grpc.aio.Channel, path: Path) -> None:
    pool: Any = pool_pb2_grpc.PoolServiceStub(channel)
    usage: Any = usage_pb2_grpc.UsageServiceStub(channel)
    await pool.DescribePool(pool_pb2.DescribePoolRequest(), metadata=OPERATORS)
    for metadata in (OPERATORS, USERS):
        with suppress(grpc.aio.AioRpcError):
            await usage.ReadUsage(usage_pb2.ReadUsageRequest(tenant="acme"), metadata=metadata)
    assert told(path) == [
        ("operator", "pool.read", "", "done"),
        ("operator", "usage.read", "", "done"),
    ], "who reads its own is no operator"


def test_keys_that_come_and_go_are_told_by_their_ids(tmp_path: Path, path: Path) -> None:
    keys, secret = tmp_path / "keys.yaml", tmp_path / "secret"
    secret.write_text("x" * 40)

    def write(**tenants: str) -> None:
        entries = [
            {"id": name, "sha256": digest_of(f"rk_{name}"), "tenant": tenant}
            for name, tenant in tenants.items()
        ]
        keys.write_text(json.dumps({"keys": entries}))

    write(web="acme", app="acme")
    auth = ApiKeyAuth(str(keys), str(secret))
    auth.audit = AuditLog(str(path))
    write(web="other", ops="staff")
    assert auth.look()
    (line,) = map(json.loads, path.read_text().splitlines())
    assert (line["action"], line["outcome"], line["tenant"]) == ("keys.reload", "done", None)
    assert (line["added"], line["removed"], line["changed"]) == ("ops", "app", "web")
    assert "rk_" not in path.read_text()
    assert digest_of("rk_ops") not in path.read_text()
    keys.write_text("nonsense")
    assert not auth.look()
    assert told(path)[1] == (None, "keys.reload", "", "failed")


async def test_settings_that_are_reloaded_are_told(path: Path) -> None:
    class Gateway:
        def take_up(self, settings: GatewaySettings) -> None: ...

    def settings(**told: object) -> GatewaySettings:
        return load_settings(GatewaySettings, overrides=told)

    said = [settings(log_level="debug"), settings(log_level="debug")]

    def read() -> GatewaySettings:
        if not said:
            raise ConfigurationError("wrong")
        return said.pop()

    reloading = Reloading(settings(), read, Gateway(), AuditLog(str(path)))
    for _ in range(3):
        await reloading.reload()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(each["outcome"], each.get("settings")) for each in lines] == [
        ("done", "log_level"),
        ("done", ""),
        ("failed", None),
    ]
