"""The models that ship with the service are made again bit for bit, prompt switch and all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_actor.models.painter import PainterModel
from model_actor.replay.comparing import Verdict
from sana_gateway.v1 import command_pb2
from tests.unit.model_actor.replay_bench import JournaledBench, replayed
from tests.unit.model_actor.session_bench import Gateway

pytestmark = pytest.mark.unit


def tiny(folder: Path) -> Any:
    """Returns the real model with tiny random weights."""
    pytest.importorskip("torch")
    from model_actor.models.sana_streaming import bundle_files
    from model_actor.models.sana_streaming import tiny as weights
    from model_actor.models.sana_streaming.model import SanaStreamingModel

    bundle = folder / "tiny"
    if not bundle.exists():
        with bundle_files.making(bundle, force=False) as fresh:
            weights.make(fresh, grid=(4, 6))
            bundle_files.seal(fresh)
    model = SanaStreamingModel()
    model.configure({"weights": str(bundle), "size": "128x64", "threads": "1", "device": "cpu"})
    return model


def painter(_: Path) -> Any:
    return PainterModel()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(painter, id="painter"),
        pytest.param(tiny, id="sana-streaming", marks=pytest.mark.slow),
    ],
)
async def test_a_session_is_made_again_bit_for_bit(
    make: Callable[[Path], Any], tmp_path: Path
) -> None:
    bench = JournaledBench(make(tmp_path), tmp_path / "storage", content=True)
    await bench.begin()
    gateway = Gateway(bench)
    bench.session.open(gateway)
    bench.stage_clip(gateway, "an oil painting")
    bench.command(gateway, command_pb2.Command(set_seed=command_pb2.SetSeed(seed=9)))
    bench.start(gateway)
    await gateway.until(gateway.has("chunk_complete", 2))
    bench.command(gateway, command_pb2.Command(set_prompt=command_pb2.SetPrompt(prompt="a night")))
    bench.command(gateway, command_pb2.Command(pause=command_pb2.Pause()))
    bench.command(gateway, command_pb2.Command(resume=command_pb2.Resume()))
    await gateway.until(gateway.has("chunk_complete", 3))
    bench.command(gateway, command_pb2.Command(reset=command_pb2.Reset()))
    (run,) = await replayed(await bench.end(), make(tmp_path))
    assert (run.verdict, run.seed) == (Verdict.BIT_EQUAL, 9), run.notes
    assert run.compared >= 33 + 24
