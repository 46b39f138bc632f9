"""An output is recorded for as long as some gateway records it."""

from __future__ import annotations

import pytest

from model_actor.engine.session_outputs import SessionOutputs
from model_actor.models.simulated import SimulatedModel
from sana_gateway.v1 import media_pb2
from sana_gateway_internal.v1 import stream_pb2
from tests.unit.model_actor.output_bench import Inline, Session
from tests.unit.model_actor.virtual import virtual

pytestmark = pytest.mark.unit


@virtual
async def test_an_output_is_recorded_while_some_gateway_records_it() -> None:
    outputs = SessionOutputs(
        "s1",
        1,
        SimulatedModel().info,
        Session(),
        bitrate=2_500_000,
        encoders=Inline(),
        link=lambda _: None,
        span=lambda *_: None,
        is_void=lambda _: False,
        on_encoded=lambda: None,
    )

    def demand(gateway_id: str, *, recorded: bool, wanted: bool = True) -> list[bool]:
        output = stream_pb2.Output(codec=media_pb2.CODEC_H264)
        told = stream_pb2.OutputDemand(output=output, wanted=wanted, recorded=recorded)
        outputs.demand(gateway_id, told)
        return [slot.output.recorded for slot in outputs._slots.values()]

    assert demand("watches", recorded=False) == [False]
    assert demand("records", recorded=True) == [True]
    assert demand("watches", recorded=False) == [True]
    assert demand("records", recorded=False) == [False]
    assert demand("records", recorded=True) == [True]
    assert demand("records", recorded=False, wanted=False) == [False]
    assert demand("records", recorded=True) == [True]
    outputs.leave("records")
    assert [slot.output.recorded for slot in outputs._slots.values()] == [False]
    outputs.close()
