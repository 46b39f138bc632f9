"""A session of the engine runs it: a clip to its end, paused in the middle, and made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_actor.models.image_to_image.model import ImageToImageModel
from model_actor.replay.comparing import Verdict
from sana_gateway.v1 import command_pb2
from tests.unit.model_actor.image_to_image.conftest import SIZE
from tests.unit.model_actor.replay_bench import FRAMES, JournaledBench, replayed
from tests.unit.model_actor.session_bench import Gateway

pytestmark = pytest.mark.unit


def configured(weights: Path) -> ImageToImageModel:
    model = ImageToImageModel()
    model.configure({"weights": str(weights), "size": SIZE, "device": "cpu"})
    return model


async def test_a_clip_is_answered_to_its_end_and_made_again_bit_for_bit(
    turbo: Path, tmp_path: Path
) -> None:
    bench = JournaledBench(configured(turbo), tmp_path / "storage", content=True)
    await bench.begin()
    gateway = Gateway(bench)
    bench.session.open(gateway)
    bench.stage_clip(gateway, "an oil painting")
    bench.start(gateway)
    await gateway.until(gateway.has("chunk_complete", 2))
    bench.command(gateway, command_pb2.Command(set_prompt=command_pb2.SetPrompt(prompt="a night")))
    bench.command(gateway, command_pb2.Command(pause=command_pb2.Pause()))
    bench.command(gateway, command_pb2.Command(resume=command_pb2.Resume()))
    await gateway.until(gateway.has("generation_complete"))
    chunks = [
        message.chunk_complete.frames_emitted
        for message in gateway.messages
        if message.WhichOneof("payload") == "chunk_complete"
    ]
    assert chunks[0] == 4, "the rest of the first window is owed"
    assert sum(chunks) == FRAMES, "and answered by the end"
    (run,) = await replayed(await bench.end(), configured(turbo))
    assert run.verdict is Verdict.BIT_EQUAL, run.notes
    assert run.compared == FRAMES
