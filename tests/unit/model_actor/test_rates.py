"""In which quality a session runs: as admitted, as booked, as told."""

from __future__ import annotations

import pytest

from sana_gateway.v1 import media_pb2
from sana_gateway_internal.v1 import stream_pb2
from scheduler.core.quality import FULL, Quality
from tests.unit.model_actor.moving_bench import CLIP, Viewer
from tests.unit.model_actor.test_restoring import Launch, launch, upload

__all__ = ["launch"]

pytestmark = pytest.mark.unit

LOWER = Quality(2 / 3)
COARSE = Quality(1.0, 2)


async def test_a_session_runs_at_the_rate_it_was_admitted_with(launch: Launch) -> None:
    actor, viewer = launch(), Viewer()
    await upload(actor)
    actor.ledger.quality = LOWER
    await actor.admit(1, quality=LOWER)
    viewer.open(actor)
    await viewer.start_clip()
    await viewer.until(viewer.has("generation_complete"))
    assert set(rates(viewer)) == {16.0}
    assert viewer.messages[-1].state.degraded_frame_rate == 16.0
    assert [frame for _, frame, _ in viewer.pictures] == list(range(CLIP)), "no frame is dropped"


@pytest.mark.parametrize(("admitted", "booked"), [(1.0, 2 / 3), (2 / 3, 1.0)])
async def test_a_session_runs_at_the_rate_that_was_booked_for_it(
    launch: Launch, admitted: float, booked: float
) -> None:
    actor, viewer = launch(), Viewer()
    await upload(actor)
    actor.ledger.quality = Quality(booked)
    await actor.admit(1, quality=Quality(admitted))
    viewer.open(actor)
    await viewer.start_clip()
    await viewer.until(viewer.has("generation_complete"))
    assert set(rates(viewer)) == {24 * booked}
    assert viewer.messages[-1].state.degraded_frame_rate == (16.0 if booked < 1 else 0.0)
    assert actor.session.quality == Quality(booked)


async def test_a_session_gets_its_full_rate_back_in_the_middle_of_a_run(launch: Launch) -> None:
    actor, viewer = launch(), Viewer()
    await upload(actor)
    actor.ledger.quality = LOWER
    await actor.admit(1, quality=LOWER)
    viewer.until_frame = 20
    viewer.open(actor)
    await viewer.start_clip()
    await viewer.until(viewer.shows(20))
    actor.session.pace(FULL)
    viewer.until_frame = None
    viewer.show()
    await viewer.until(viewer.has("generation_complete"))
    told = rates(viewer)
    assert (told[0], told[-1]) == (16.0, 24.0)
    assert told == sorted(told)
    assert viewer.messages[-1].state.degraded_frame_rate == 0.0
    assert [frame for _, frame, _ in viewer.pictures] == list(range(CLIP))


def rates(viewer: Viewer) -> list[float]:
    return [each.chunk.frame_rate for each in viewer.told if each.HasField("chunk")]


async def test_a_session_that_waits_to_go_on_is_told_its_rate_too(launch: Launch) -> None:
    actor, viewer = launch(), Viewer()
    await actor.admit(2, restore=True, quality=LOWER)
    actor.shell.open(viewer, stream_pb2.Open(session_id="s1", standby=True))
    actor.shell.camera_packet("g1", stream_pb2.CameraPacket(codec=media_pb2.CODEC_VP8))
    camera = await actor.workers.cameras.get()
    actor.shell.pace(FULL)
    assert actor.shell.quality == FULL
    assert camera.rates == [24.0]


async def test_a_session_runs_with_the_steps_that_were_booked_for_it(launch: Launch) -> None:
    actor, viewer = launch(), Viewer()
    await upload(actor)
    actor.ledger.quality = COARSE
    await actor.admit(1)
    viewer.open(actor)
    await viewer.start_clip()
    await viewer.until(viewer.has("generation_complete"))
    assert set(actor.model.steps) == {2}
    state = viewer.messages[-1].state
    assert (state.degraded_steps, state.degraded_frame_rate) == (2, 0.0)
    assert set(rates(viewer)) == {24.0}
    assert [frame for _, frame, _ in viewer.pictures] == list(range(CLIP))


async def test_a_session_gets_its_steps_back_in_the_middle_of_a_run(launch: Launch) -> None:
    actor, viewer = launch(), Viewer()
    await upload(actor)
    actor.ledger.quality = COARSE
    await actor.admit(1, quality=COARSE)
    viewer.until_frame = 20
    viewer.open(actor)
    await viewer.start_clip()
    await viewer.until(viewer.shows(20))
    actor.session.pace(FULL)
    viewer.until_frame = None
    viewer.show()
    await viewer.until(viewer.has("generation_complete"))
    assert (actor.model.steps[0], actor.model.steps[-1]) == (2, 0)
    assert actor.model.steps == sorted(actor.model.steps, reverse=True)
    assert viewer.messages[-1].state.degraded_steps == 0
