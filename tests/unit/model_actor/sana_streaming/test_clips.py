"""A clip is encoded once: played again it is the same to the bit, without the encoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from model_actor.conformance.runs import Run, run_stages
from model_actor.models.sana_streaming.clip_latents import ClipLatents
from model_actor.models.sana_streaming.model import SanaStreamingModel
from model_actor.models.sana_streaming.session import SanaSession
from model_actor.models.sana_streaming.streaming_vae import ConvState, StreamingVae
from model_actor.plugin import Frames, WindowTask
from scheduler.core.errors import InvariantError

pytestmark = pytest.mark.unit

CLIP, OTHER = "upload-1", "upload-2"


@pytest.fixture(scope="module")
def model(bundle_folder: Path) -> SanaStreamingModel:
    return loaded(bundle_folder)


def loaded(bundle_folder: Path, **options: str) -> SanaStreamingModel:
    model = SanaStreamingModel()
    model.configure({"weights": str(bundle_folder), "size": "64x64", "threads": "1", **options})
    model.load()
    return model


@pytest.fixture
def run(model: SanaStreamingModel) -> Iterator[Run]:
    with closing(Run(model)) as made:
        yield made


def task(run: Run, clip: str = CLIP) -> WindowTask:
    made = run.task()
    made.clip = clip
    return made


def play(run: Run, windows: int, clip: str = CLIP) -> list[Frames]:
    """Plays windows of a clip; the name is what counts, the source is always the same."""
    shown = []
    for _ in range(windows):
        (done,) = run_stages(run.model, [task(run, clip)])
        assert done.result is not None
        shown.append(done.result)
        run.index += 1
    return shown


@contextmanager
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Writes down how many sessions each call of the encoder was for."""
    calls: list[int] = []
    encode = StreamingVae.encode

    def counted(vae: StreamingVae, pixels: Tensor, state: ConvState) -> tuple[Tensor, ConvState]:
        calls.append(pixels.shape[0])
        return encode(vae, pixels, state)

    with monkeypatch.context() as patched:
        patched.setattr(StreamingVae, "encode", counted)
        yield calls


def equal(ours: list[Frames], theirs: list[Frames]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_replay_is_equal_to_the_bit_and_encodes_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = play(run, 3)
    run.begin_again()
    with counting(monkeypatch) as calls:
        assert equal(play(run, 3), first)
    assert calls == []


def test_a_clip_of_which_only_the_beginning_was_played_is_encoded_from_there(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(run, 2)
    run.begin_again()
    with counting(monkeypatch) as calls:
        again = play(run, 4)
    assert calls == [1, 1], "windows 2 and 3"
    with closing(Run(run.model)) as fresh:
        assert equal(again, play(fresh, 4))


def test_another_clip_of_the_session_is_encoded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    play(run, 2)
    run.begin_again()
    with counting(monkeypatch) as calls:
        play(run, 2, OTHER)
    assert calls == [1, 1]
    run.begin_again()
    with counting(monkeypatch) as calls:
        play(run, 2)
    assert calls == [1, 1], "only the clip that was played last is known"


def test_a_clip_of_the_same_name_in_another_session_is_encoded(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(run, 1)
    with (
        closing(Run(run.model, "of another tenant")) as other,
        counting(monkeypatch) as calls,
    ):
        play(other, 1)
    assert calls == [1]


def test_a_camera_is_encoded_every_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    play(run, 1, clip="")
    run.begin_again()
    with counting(monkeypatch) as calls:
        play(run, 1, clip="")
    assert calls == [1]
    assert session(run).clip is None


def test_a_run_that_begins_anew_in_the_middle_of_a_clip_is_encoded(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(run, 2)
    run.begin_anew()
    with counting(monkeypatch) as calls:
        play(run, 2)
    assert calls == [1, 1]
    run.begin_again()
    with counting(monkeypatch) as calls:
        play(run, 1)
    assert calls == [1], "what was encoded in the middle is no beginning"


def test_too_long_a_clip_is_not_kept_and_played_as_ever(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents_bytes = 8 * 2 * 2 * 4  # channels, rows, columns, of 32 bits: a latent frame
    model = loaded(bundle_folder)
    engine = model._loaded()
    monkeypatch.setattr(engine, "_clip_bytes", (5 + 3) * latents_bytes)
    with closing(Run(model)) as run:
        first = play(run, 2)
        clip = session(run).clip
        assert clip is not None
        assert clip.nbytes == (5 + 3) * latents_bytes
        first += play(run, 2)
        assert session(run).clip is None
        run.begin_again()
        with counting(monkeypatch) as calls:
            assert equal(play(run, 4), first)
        assert calls == [1, 1, 1, 1]


def test_nothing_is_kept_where_it_is_turned_off(bundle_folder: Path) -> None:
    with closing(Run(loaded(bundle_folder, clip_cache="0"))) as run:
        play(run, 1)
        assert session(run).clip is None


def test_what_is_kept_counts_as_memory_of_the_session(run: Run) -> None:
    play(run, 1, clip="")
    without = session(run).nbytes
    run.begin_again()
    play(run, 1)
    clip = session(run).clip
    assert clip is not None
    assert session(run).nbytes == without + clip.nbytes > without


def test_a_replay_goes_on_elsewhere_without_the_encoder(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = play(run, 3)
    run.begin_again()
    play(run, 1)
    snapshot = run.model.snapshot(run.session)
    with closing(run.restored(snapshot)) as copy, counting(monkeypatch) as calls:
        assert equal(play(copy, 2), first[1:])
        assert calls == []
        play(copy, 1)
        assert calls == [1], "the encoder stands where it stood"
    with closing(Run(run.model)) as fresh:
        expected = play(fresh, 4)
    assert equal(play(run, 3), expected[1:])


def test_windows_that_are_known_and_windows_that_are_not_are_one_batch(
    model: SanaStreamingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Run(model)) as one, closing(Run(model, "other")) as two:
        expected = play(one, 1)
        one.begin_again()
        with counting(monkeypatch) as calls:
            done = run_stages(model, [task(one), task(two)])
        assert calls == [1]
        for each in done:
            assert each.result is not None
            assert np.abs(each.result.astype(int) - expected[0]).max() <= 1


def test_a_window_that_fails_leaves_what_is_known_as_it_was(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(run, 1)
    before = session(run).clip
    spoilt = task(run)
    run.model.stage("encode", [spoilt])
    assert session(run).clip is before
    with counting(monkeypatch) as calls:
        play(run, 1)
    assert calls == [1]


def test_a_run_does_not_change_its_clip(run: Run) -> None:
    play(run, 1)
    with pytest.raises(InvariantError, match="another clip"):
        run.model.stage("encode", [task(run, OTHER)])


def test_a_closed_session_lets_go_of_its_clip(model: SanaStreamingModel) -> None:
    made = Run(model)
    play(made, 1)
    made.close()
    assert session(made).nbytes == 0


def test_latents_do_not_keep_the_memory_of_their_batch(model: SanaStreamingModel) -> None:
    with closing(Run(model)) as one, closing(Run(model, "other")) as two:
        run_stages(model, [task(one), task(two)])
        clip = session(one).clip
        assert isinstance(clip, ClipLatents)
        assert clip.windows[0].untyped_storage().nbytes() == clip.nbytes


def session(run: Run) -> SanaSession:
    assert isinstance(run.session, SanaSession)
    return run.session
