"""The built-in models go on in another process as they would have here."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model_actor.conformance.runs import Run
from model_actor.models.painter import PainterModel
from model_actor.models.simulated import SimulatedModel
from model_actor.plugin import Frames, Model

pytestmark = pytest.mark.unit

_ELSEWHERE = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1])))
import test_models_elsewhere as here
here.go_on(sys.argv[2], Path(sys.argv[3]))
"""


def loaded(name: str) -> Model:
    model: Model = PainterModel() if name == "painter" else SimulatedModel()
    model.configure({} if name == "painter" else {"chunk_ms": "0"})
    model.load()
    return model


def jump(run: Run) -> None:
    """Leaves out frames, as a camera does that goes on elsewhere."""
    run.offset += 7


def nothing(_: Run) -> None:
    """Goes on with the very next frame."""


MEANWHILE: tuple[Callable[[Run], None], ...] = (nothing, jump, Run.begin_anew)


def digests(model: Model, snapshot: bytes) -> list[str]:
    """Restores a session after its second window, and returns what the next ones come to."""
    run = Run(model)
    run.index = 2
    frames: list[Frames] = []
    for meanwhile in MEANWHILE:
        copy = run.restored(snapshot)
        meanwhile(copy)
        frames += copy.advance(2)
    return [hashlib.sha256(each.tobytes()).hexdigest() for each in frames]


def go_on(name: str, snapshot: Path) -> None:
    """In the other process."""
    for digest in digests(loaded(name), snapshot.read_bytes()):
        print("window", digest)


@pytest.mark.parametrize("name", ["painter", "simulated"])
def test_a_session_goes_on_in_another_process_to_the_bit(name: str, tmp_path: Path) -> None:
    run = Run(loaded(name))
    run.advance(2)
    snapshot = tmp_path / "snapshot"
    snapshot.write_bytes(run.model.snapshot(run.session))
    done = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, str(Path(__file__).parent), name, str(snapshot)],
        capture_output=True,
        text=True,
        check=True,
    )
    got = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("window ")]
    here = [hashlib.sha256(each.tobytes()).hexdigest() for each in run.advance(2)]
    assert got[:2] == here, "the original goes on"
    assert got == digests(run.model, snapshot.read_bytes()), "so do copies with a gap"
    assert len(set(got)) == len(got)


def test_snapshots_of_the_painter_are_a_quarter_of_a_megabyte() -> None:
    run = Run(loaded("painter"))
    run.advance()
    assert len(run.model.snapshot(run.session)) < 250_000


def test_the_painter_begins_anew_with_window_0_even_where_it_would_follow() -> None:
    model = loaded("painter")
    run = Run(model)
    run.advance()
    offset = model.info.geometry.window_start(1)
    follows, anew = run.task(), run.task()
    anew.index = 0
    before = model.snapshot(run.session)
    model.stage("generate", [follows])
    copy = run.restored(before)
    anew.session = copy.session
    model.stage("generate", [anew])
    assert follows.first_frame == anew.first_frame == offset
    assert follows.result is not None
    assert anew.result is not None
    assert not np.array_equal(follows.result, anew.result)
