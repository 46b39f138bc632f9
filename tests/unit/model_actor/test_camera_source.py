"""The camera of a session, when there is no decoder for it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from model_actor.engine import sources as module
from model_actor.engine.sources import CameraSource
from model_actor.media.camera import CameraPacket, CameraStats
from model_actor.media.codec import Codec
from model_actor.media.workers import DecodeWorkers
from model_actor.models.simulated import SimulatedModel
from scheduler.core.errors import LimitError

pytestmark = pytest.mark.unit


class Decoder:
    """Counts what it is given."""

    available = 7

    def __init__(self) -> None:
        self.packets: list[CameraPacket] = []
        self.stats = CameraStats()
        self.closed = asyncio.Event()

    def push(self, packet: CameraPacket) -> None:
        self.packets.append(packet)

    async def close(self) -> None:
        self.closed.set()


class Workers:
    """Has no decoder for the first who ask."""

    def __init__(self, refusals: int, error: type[Exception] = LimitError) -> None:
        self.refusals = refusals
        self.error = error
        self.asked = 0
        self.opened: asyncio.Queue[Decoder] = asyncio.Queue()

    async def open_camera(self, **_: Any) -> Decoder:
        self.asked += 1
        if self.asked <= self.refusals:
            raise self.error("none is to be had")
        decoder = Decoder()
        self.opened.put_nowait(decoder)
        return decoder


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REOPEN_S", 0.01)


def source(workers: Workers) -> CameraSource:
    return CameraSource(
        cast(DecodeWorkers, workers),
        SimulatedModel.info,
        on_frames=lambda: None,
        on_keyframe_needed=lambda: None,
        on_flow=lambda *, flowing: None,  # noqa: ARG005 - nobody follows the flow here
    )


PACKET = CameraPacket(Codec.VP8, True, 0, b"x", False)  # noqa: FBT003


@pytest.mark.parametrize("error", [LimitError, OSError])
async def test_a_decoder_that_cannot_be_had_is_asked_for_again(error: type[Exception]) -> None:
    workers = Workers(refusals=2, error=error)
    camera = source(workers)
    camera.want(wanted=True)
    camera.packet(PACKET)
    assert camera.available == 0
    async with asyncio.timeout(30):
        decoder = await workers.opened.get()
    assert workers.asked == 3
    await camera.close()
    assert decoder.closed.is_set()


async def test_a_camera_that_is_no_longer_wanted_stops_asking() -> None:
    workers = Workers(refusals=1_000_000)
    camera = source(workers)
    camera.want(wanted=True)
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await camera.close()
    asked = workers.asked
    await asyncio.sleep(0.03)  # longer than the pause between two askings
    assert workers.asked == asked
