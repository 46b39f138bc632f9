"""A model actor that is stopped while it starts releases all that it has made by then."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import psutil
import pytest

from model_actor.host import ModelHost
from model_actor.models.simulated import SimulatedModel
from model_actor.settings import ActorSettings

pytestmark = pytest.mark.media


async def test_stopping_while_the_model_loads_leaves_neither_process_nor_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    loading, may_end = asyncio.Event(), threading.Event()

    def load(_: SimulatedModel) -> None:
        loop.call_soon_threadsafe(loading.set)
        may_end.wait()

    monkeypatch.setattr(SimulatedModel, "load", load)
    before = set(psutil.Process().children())
    host = ModelHost(
        ActorSettings(
            actor_id="a1",
            placement_address=f"unix:{tmp_path}/nobody",
            lease_secret="s" * 32,
            model="simulated",
            listen=f"unix:{tmp_path}/actor",
            storage={"plugin": "filesystem", "root": str(tmp_path / "storage")},
        )
    )
    starting = asyncio.create_task(host.start())
    await loading.wait()
    stopping = asyncio.create_task(host.stop())
    await asyncio.wait({starting})
    may_end.set()
    await stopping
    assert starting.cancelled()
    assert set(psutil.Process().children()) <= before
    assert not (tmp_path / "actor").exists()
    threads = {thread.name for thread in threading.enumerate()}
    assert not {name for name in threads if name.startswith(("decode-workers", "encode"))}
