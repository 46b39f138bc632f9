"""A pool of decode workers that is closed while it starts leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import socket
from typing import Any

import psutil
import pytest

from model_actor.media.errors import WorkerLostError
from model_actor.media.link import WorkerLink
from model_actor.media.workers import DecodeWorkers

pytestmark = pytest.mark.media


class WatchedWorkers(DecodeWorkers):
    """Tells how far the start of its first worker has come."""

    def __init__(self) -> None:
        super().__init__(spare=2)
        self.stages = {"launching": asyncio.Event(), "connecting": asyncio.Event()}

    async def _launch(self) -> tuple[WorkerLink, socket.socket]:
        self.stages["launching"].set()
        launched = await super()._launch()
        self.stages["connecting"].set()
        return launched


@pytest.mark.parametrize("stage", ["launching", "connecting"])
async def test_closing_in_the_middle_of_the_start_leaves_no_process_and_no_loose_error(
    stage: str,
) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
    before = set(psutil.Process().children())
    pool = WatchedWorkers()
    starting = asyncio.create_task(pool.start())
    await pool.stages[stage].wait()
    await pool.close()
    with pytest.raises(WorkerLostError):
        await starting
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []
    assert set(psutil.Process().children()) <= before


async def test_a_closed_pool_starts_nothing() -> None:
    pool = DecodeWorkers(spare=1)
    await pool.close()
    with pytest.raises(WorkerLostError):
        await pool.start()
