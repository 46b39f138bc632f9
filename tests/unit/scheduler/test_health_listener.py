"""Probes and scrapes of what runs on a machine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from scheduler.core.errors import ConfigurationError
from scheduler.health_listener import ACTOR, SCHEDULER, HealthListener, why_not_ready
from scheduler.process import vital_signs
from scheduler.process.vital_signs import Condition, VitalSigns, ask, read

pytestmark = pytest.mark.unit


def condition(role: str, why: str = "", process: str = "p") -> Condition:
    return Condition(role, "n", why, process)


@pytest.mark.parametrize(
    ("conditions", "needs", "why"),
    [
        ([], [SCHEDULER], "the scheduler does not serve yet"),
        ([condition(SCHEDULER)], [SCHEDULER], ""),
        (
            [condition(SCHEDULER)],
            [SCHEDULER, ACTOR],
            "no model actor has computed its warm-up window yet",
        ),
        ([condition(SCHEDULER), condition(ACTOR, "it starts")], [SCHEDULER, ACTOR], "it starts"),
        ([condition(ACTOR, "it is being emptied"), condition(ACTOR)], [ACTOR], ""),
        ([], [], "nothing runs here yet"),
        ([condition(ACTOR, "it starts")], [], "it starts"),
        ([condition(ACTOR)], [], ""),
    ],
)
def test_a_machine_is_ready_when_a_part_of_each_role_serves(
    conditions: list[Condition], needs: list[str], why: str
) -> None:
    assert why_not_ready(conditions, needs) == why


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(vital_signs.FOLDER, str(tmp_path))
    return tmp_path


@pytest.fixture
def listener(folder: Path) -> Iterator[HealthListener]:
    assert folder.is_dir()
    made = HealthListener("127.0.0.1", 0, role="head", needs=[SCHEDULER, ACTOR])
    yield made
    made.stop()


def registry(name: str) -> CollectorRegistry:
    made = CollectorRegistry()
    Counter(name, "Calls.", registry=made).inc(3)
    return made


async def get(url: str, accept: str = "") -> tuple[int, str]:
    headers = {"Accept": accept} if accept else {}
    async with aiohttp.ClientSession() as client, client.get(url, headers=headers) as answer:
        return answer.status, await answer.text()


async def test_startup_liveness_and_readiness_are_apart(listener: HealthListener) -> None:
    assert await get(f"{listener.url}/livez") == (200, "ok\n")
    assert (await get(f"{listener.url}/startupz"))[0] == 503
    assert (await get(f"{listener.url}/readyz"))[0] == 503
    lives = True
    listener.serves(lambda: lives)
    assert (await get(f"{listener.url}/startupz"))[0] == 200
    assert await get(f"{listener.url}/readyz") == (503, "the scheduler does not serve yet\n")
    scheduler, actor = VitalSigns("scheduler", "scheduler"), VitalSigns("actor", "a1")
    await scheduler.start()
    await actor.start()
    scheduler.why_not_ready = ""
    # Loaded and warmed up: the one thing that was missing.
    assert await get(f"{listener.url}/readyz") == (503, "it starts\n")
    actor.why_not_ready = ""
    assert await get(f"{listener.url}/readyz") == (200, "ok\n")
    actor.why_not_ready = "it is being emptied"
    assert await get(f"{listener.url}/readyz") == (503, "it is being emptied\n")
    actor.why_not_ready = ""
    listener.draining = True
    assert await get(f"{listener.url}/readyz") == (503, "it is being drained\n")
    lives = False
    assert (await get(f"{listener.url}/livez"))[0] == 503
    await scheduler.close()
    await actor.close()


async def test_metrics_of_all_processes_are_one_exposition(
    listener: HealthListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(["other:1", "other:2", "other:2"])
    parts = [
        VitalSigns("scheduler", "scheduler", registry=registry("calls_of_scheduler")),
        VitalSigns("actor", "a1", registry=registry("calls_of_actor")),
        # Shares the process of the one before: told once.
        VitalSigns("actor", "a2", registry=registry("calls_of_actor")),
    ]
    conditions = [
        Condition(each.condition.role, each.condition.name, "", next(names)) for each in parts
    ]
    for part, known in zip(parts, conditions, strict=True):
        monkeypatch.setattr(type(part), "condition", property(lambda self: self.told))
        part.__dict__["told"] = known
        await part.start()
    status, text = await get(f"{listener.url}/metrics", "application/openmetrics-text")
    assert status == 200
    assert 'calls_of_scheduler_total{worker="scheduler"} 3.0' in text
    assert text.count("calls_of_actor_total{") == 1
    assert 'calls_of_actor_total{worker="a1"} 3.0' in text
    assert "sana_gateway_process_info{" in text
    assert 'worker="head"' in text
    for part in parts:
        await part.close()


async def test_a_part_that_was_killed_is_forgotten_and_one_that_hangs_is_not_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vital_signs, "ASK_S", 0.05)
    server = await asyncio.start_unix_server(lambda *_: None, folder / "actor-gone-1")
    server.close()
    await server.wait_closed()
    gone = folder / "actor-gone-1"
    if not gone.exists():
        # Later versions of Python remove it themselves.
        gone.touch()
    assert await ask(gone, "condition") == b""

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    hanging = await asyncio.start_unix_server(hang, folder / "actor-hangs-1")
    assert await ask(folder / "actor-hangs-1", "condition") == b""
    hanging.close()


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"role": "actor"}', b"\xff"])
def test_an_answer_that_is_none_counts_as_silence(answer: bytes) -> None:
    assert read(answer) is None


async def test_without_a_folder_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(vital_signs.FOLDER, raising=False)
    signs = VitalSigns("actor", "a1")
    await signs.start()
    await signs.close()


async def test_a_folder_that_cannot_be_used_is_no_hindrance(tmp_path: Path) -> None:
    signs = VitalSigns("actor", "a1", folder=tmp_path / "missing")
    await signs.start()
    await signs.close()


def test_a_port_that_is_taken_is_said_so(listener: HealthListener) -> None:
    port = int(listener.url.rpartition(":")[2])
    with pytest.raises(ConfigurationError, match="health cannot listen"):
        HealthListener("127.0.0.1", port, role="head", needs=[])


def test_a_folder_of_its_own_goes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(vital_signs.FOLDER, raising=False)
    listener = HealthListener("127.0.0.1", 0, role="head", needs=[])
    folder = Path(vital_signs.os.environ[vital_signs.FOLDER])
    assert folder.stat().st_mode & 0o077 == 0
    listener.stop()
    listener.stop()
    assert not folder.exists()
    assert vital_signs.FOLDER not in vital_signs.os.environ
