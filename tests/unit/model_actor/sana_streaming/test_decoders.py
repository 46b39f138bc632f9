"""The released recipe of decoding in the service: late, and exactly what it makes at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model_actor.conformance import ALL_CHECKS, check_fewer_steps, check_transitions
from model_actor.conformance.runs import Run, run_stages
from model_actor.models.sana_streaming import (
    bundle_files,
    model,
    pixels,
    sampler,
    tiny,
    windowed_decoder,
)
from model_actor.models.sana_streaming.model import SanaStreamingModel
from model_actor.models.sana_streaming.session import SanaSession
from model_actor.models.sana_streaming.windowed_decoder import WindowState
from model_actor.plugin import Frames, Model, SessionOptions
from scheduler.core.errors import PluginError
from tests.unit.model_actor.sana_streaming.conftest import GRID

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def windowed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "windowed"
    with bundle_files.making(folder, force=False) as fresh:
        tiny.make(fresh, grid=GRID, decoder="windowed")
        bundle_files.seal(fresh)
    return folder


@pytest.fixture(scope="module")
def late(windowed_folder: Path) -> SanaStreamingModel:
    made = SanaStreamingModel()
    made.configure(
        {
            "weights": str(windowed_folder),
            "size": "64x64",
            "threads": "1",
            "decoder": "windowed",
            "max_batch": "2",
        }
    )
    made.load()
    return made


# What the decoder has no part in is checked with the other one.
@pytest.mark.parametrize(
    "check", [each for each in ALL_CHECKS if each not in (check_fewer_steps, check_transitions)]
)
def test_it_keeps_to_what_every_model_must(
    late: SanaStreamingModel, check: Callable[[Model], None]
) -> None:
    check(late)


def test_it_declares_what_it_owes(late: SanaStreamingModel) -> None:
    info = late.info
    assert info.geometry.lag == windowed_decoder.LAG
    assert [info.geometry.answered(index, last=False) for index in (0, 1, 2)] == [17, 24, 24]
    assert info.geometry.first_window == 33
    assert info.chunk_ms > SanaStreamingModel.info.chunk_ms


def test_a_clip_is_what_the_recipe_makes_of_all_of_it(late: SanaStreamingModel) -> None:
    latents, frames = played(late, windows=3)
    assert [len(each) for each in frames] == [17, 24, 24 + 16]
    vae = late._loaded()._parts.vae
    with torch.inference_mode():
        whole, _ = windowed_decoder.decode(vae, latents, WindowState(), last=True)
        assert whole is not None
        expected = pixels.to_i420(whole[0]).numpy()
    assert np.array_equal(np.concatenate(frames), expected)


def test_a_clip_of_one_window_is_answered_whole(late: SanaStreamingModel) -> None:
    _, (frames,) = played(late, windows=1)
    assert len(frames) == 33


def test_clips_that_end_and_clips_that_go_on_are_one_batch(late: SanaStreamingModel) -> None:
    alone = [played(late, windows=2)[1][1], played(late, windows=3)[1][1]]
    with closing(Run(late)) as ends, closing(Run(late)) as goes_on:
        run_stages(late, [ends.task(), goes_on.task()])
        ends.index = goes_on.index = 1
        tasks = [ends.task(), goes_on.task()]
        tasks[0].last = True
        run_stages(late, tasks)
    for task, expected in zip(tasks, alone, strict=True):
        assert task.result is not None
        assert task.result.shape == expected.shape
        assert np.abs(task.result.astype(int) - expected).max() <= 1


def test_what_is_owed_goes_along_to_another_worker(late: SanaStreamingModel) -> None:
    _, expected = played(late, windows=3)
    with closing(Run(late)) as run:
        run.advance(2)
        snapshot = late.snapshot(run.session)
        with closing(run.restored(snapshot)) as copy:
            task = copy.task()
            task.last = True
            run_stages(late, [task])
    assert task.result is not None
    assert np.array_equal(task.result, expected[2])


def test_a_session_keeps_no_frames_that_are_out(late: SanaStreamingModel) -> None:
    with closing(Run(late)) as run:
        run.advance(2)
        assert isinstance(run.session, SanaSession)
        state = run.session.decoder
        assert isinstance(state, WindowState)
        assert sum(each.untyped_storage().nbytes() for _, each in state.tensors()) == state.nbytes


@pytest.mark.parametrize(
    ("decoder", "why"),
    [
        ("causal", "decoder=windowed.*--vae ltx2_causal_vae_0516"),
        ("round", "decoder is one of causal, windowed"),
    ],
)
def test_a_decoder_that_is_not_there_is_told(windowed_folder: Path, decoder: str, why: str) -> None:
    with pytest.raises(PluginError, match=why):
        SanaStreamingModel().configure({"weights": str(windowed_folder), "decoder": decoder})


def test_a_snapshot_of_the_other_decoder_is_refused(
    late: SanaStreamingModel, bundle_folder: Path
) -> None:
    other = SanaStreamingModel()
    other.configure({"weights": str(bundle_folder), "size": "64x64", "threads": "1"})
    other.load()
    for ours, theirs in ((late, other), (other, late)):
        with closing(Run(ours)) as run:
            run.advance()
            snapshot = ours.snapshot(run.session)
        with pytest.raises(PluginError, match="decoder"):
            theirs.restore(SessionOptions("s"), snapshot)


def test_what_is_declared_without_torch_is_what_there_is(late: SanaStreamingModel) -> None:
    assert model._LAG == windowed_decoder.LAG
    assert model._STEPS == sampler.STEPS
    assert [each.steps for each in late.info.degraded_steps] == [2, 1]
    costs = [late.info.chunk_ms, *(each.chunk_ms for each in late.info.degraded_steps)]
    assert costs == sorted(costs, reverse=True)


def test_memory_is_declared_for_decoder_size_and_clip(
    windowed_folder: Path, bundle_folder: Path
) -> None:
    def declared(folder: Path, **options: str) -> int:
        made = SanaStreamingModel()
        made.configure({"weights": str(folder), "size": "1280x704", **options})
        return made.info.session_bytes

    assert declared(bundle_folder) == 1_950_000_000 + 128_000_000
    assert declared(windowed_folder) == 1_440_000_000 + 128_000_000
    assert declared(bundle_folder, clip_cache="0") == 1_950_000_000
    assert declared(bundle_folder, clip_cache="0", dtype="float32") == 2 * 1_950_000_000
    assert declared(bundle_folder, clip_cache="0", size="640x704") == 975_000_000


def played(late: SanaStreamingModel, windows: int) -> tuple[Tensor, list[Frames]]:
    """Plays a clip of so many windows; returns its edited latents and its frames."""
    latents, frames = [], []
    with closing(Run(late)) as run:
        for index in range(windows):
            task = run.task()
            task.last = index == windows - 1
            for stage in ("encode", "generate", "decode"):
                late.stage(stage, [task])
            assert isinstance(run.session, SanaSession)
            assert run.session.underway is not None
            assert run.session.underway.latents is not None
            latents.append(run.session.underway.latents)
            late.stage("commit", [task])
            assert task.result is not None
            frames.append(task.result)
            run.index += 1
    return torch.cat(latents, dim=2), frames
