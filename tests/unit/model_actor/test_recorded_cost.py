"""What a recording costs is in what an actor tells the ledgers of its encoding."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from model_actor.engine.session_outputs import SessionOutputs
from model_actor.plugin import ModelInfo, Stage
from model_actor.vitals import ENOUGH_S, Vitals
from sana_gateway.v1 import media_pb2
from sana_gateway_internal.v1 import stream_pb2
from tests.unit.model_actor.output_bench import RATE, SIZE, Inline, Session
from tests.unit.model_actor.virtual import virtual

pytestmark = pytest.mark.unit

FRAME_S = 0.004
"""CPU time of each frame, in whatever codec."""
FRAMES = round((ENOUGH_S + 1) * RATE)
ONE_OUTPUT_MS = RATE * FRAME_S * 1e3
INFO = ModelInfo(
    name="grey", summary="grey", stages=(Stage("generate", 1.0),), width=SIZE, height=SIZE
)
H264, VP8 = media_pb2.CODEC_H264, media_pb2.CODEC_VP8


class Metered(Inline):
    """Encodes with the real encoders, and counts the same time for every frame."""

    @property
    def busy_s(self) -> float:
        return self.encoded * FRAME_S


class Measured:
    """A session, as far as its outputs are measured."""

    kept_size = 0

    def __init__(self, outputs: SessionOutputs) -> None:
        self.take_encoded: Callable[[], float] = outputs.take_encoded

    def take_chunks(self) -> tuple[int, int]:
        return 0, 0


@virtual
@pytest.mark.parametrize(
    ("viewers", "outputs"),
    [
        pytest.param([], 1, id="nobody watches"),
        pytest.param([H264], 1, id="H.264 is shared"),
        pytest.param([VP8], 2, id="one extra encode"),
    ],
)
async def test_a_recording_costs_an_output_unless_it_shares_one(
    viewers: list[Any], outputs: int
) -> None:
    encoders, session = Metered(), Session()
    vitals = Vitals(encoders)
    session.add(FRAMES)
    session.plays(at=1.0)
    made = SessionOutputs(
        "s1",
        1,
        INFO,
        session,
        bitrate=240_000,
        encoders=encoders,
        link=lambda _: None,
        span=lambda *_: None,
        is_void=lambda _: False,
        on_encoded=lambda: None,
    )
    for codec in viewers:
        made.demand("watches", demanded(codec))
    made.demand("records", demanded(H264, recorded=True))
    made.wake()
    await asyncio.sleep(1.0 + (FRAMES - 1) / RATE)
    made.close()
    assert encoders.encoded == FRAMES * outputs
    beat = vitals.heartbeat([Measured(made)], chunk_ms=0.0, computed=(0, 0), ends_in_s=None)
    assert beat.encode_ms == pytest.approx(ONE_OUTPUT_MS * outputs)


def demanded(codec: Any, *, recorded: bool = False) -> stream_pb2.OutputDemand:
    output = stream_pb2.Output(codec=codec)
    return stream_pb2.OutputDemand(output=output, wanted=True, recorded=recorded)
