"""A front door as a whole: what it starts it ends, also when it cannot start."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.child_process import ChildError
from gateway.front_door import process as module
from gateway.front_door import workers
from gateway.front_door.process import FrontDoor
from gateway.settings import GatewaySettings
from scheduler.core.errors import ConfigurationError
from scheduler.process.config import load_settings

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The place of private folders; empty again in the end."""
    monkeypatch.setattr(workers, "MODULE", "tests.fakes.media_worker")
    with tempfile.TemporaryDirectory(prefix="e-") as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield Path(name)
        assert list(Path(name).iterdir()) == []
    assert psutil.Process().children(recursive=True) == []


def settings(**overrides: object) -> GatewaySettings:
    told = {
        "storage_options": {"root": "/nowhere"},
        "http_port": 0,
        "grpc_port": 0,
        "media_workers": 1,
        **overrides,
    }
    return load_settings(GatewaySettings, overrides=told)


async def test_it_listens_is_healthy_with_its_workers_and_ends_all(folders: Path) -> None:
    door = FrontDoor(settings())
    await door.start("unix:/nobody")
    (private,) = folders.iterdir()
    assert private.stat().st_mode & 0o777 == 0o700
    async with aiohttp.ClientSession(door.http_url) as client:
        async with client.get("/livez") as answer:
            assert answer.status == 200
        async with client.get("/readyz") as answer:
            assert (answer.status, await answer.text()) == (503, "no model is served yet\n")
    async with grpc.aio.insecure_channel(door.grpc_address) as channel:
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        async with asyncio.timeout(20):
            while (await watching.read()).status != health_pb2.HealthCheckResponse.SERVING:
                pass
        stopping = asyncio.create_task(door.stop())
        async with asyncio.timeout(20):
            while (await watching.read()).status != health_pb2.HealthCheckResponse.NOT_SERVING:
                pass
        watching.cancel()
        await stopping


@pytest.mark.parametrize("key", ["http_port", "grpc_port"])
async def test_a_port_in_use_is_one_sentence_and_no_worker_is_started(key: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        door = FrontDoor(settings(**{key: port}))
        with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}"):
            await door.start()


async def test_a_worker_that_does_not_come_up_ends_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "MODULE", "tests.fakes.no_such_module")
    door = FrontDoor(settings(media_workers=2))
    with pytest.raises(ChildError, match="did not start"):
        await door.start()


def test_a_storage_that_does_not_fit_is_refused_before_anything_starts() -> None:
    with pytest.raises(ConfigurationError, match="--storage-root"):
        FrontDoor(settings(storage_options={}))


async def test_a_folder_too_deep_for_sockets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_PATH", 3)
    with pytest.raises(ConfigurationError, match="too deep"):
        await FrontDoor(settings()).start()
