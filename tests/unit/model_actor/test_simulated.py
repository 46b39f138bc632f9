"""`simulated`: options, timing, injected failures, and what its pictures say."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import structlog

from model_actor.conformance import check_all
from model_actor.conformance.runs import Run, run_stages
from model_actor.media.codec import Codec
from model_actor.models.simulated import SimulatedModel
from model_actor.models.simulated.model import CRASH_STATUS, InjectedError
from model_actor.models.simulated.options import OPTIONS, Settings, parse
from model_actor.plugin import FewerSteps, Model, PacketSource, SessionOptions
from scheduler.core.errors import InvariantError, PluginError
from scheduler.core.geometry import Geometry
from sdk_adapters.harness.marker import Marker, read_marker, session_tag

pytestmark = pytest.mark.unit


def loaded(**options: str) -> SimulatedModel:
    model = SimulatedModel()
    model.configure({"chunk_ms": "0", **options})
    model.load()
    return model


class SmallSimulated(SimulatedModel):
    """The same at a quarter of the size and with short windows, to be quick."""

    info = replace(
        SimulatedModel.info,
        width=320,
        height=176,
        geometry=Geometry(first_window=5, window=4, chunk=4),
    )


@pytest.mark.parametrize(
    "options",
    [{}, {"max_batch": "2", "stages": "encode,generate,decode,commit"}, {"video": "canned"}],
)
def test_keeps_to_the_interface(options: dict[str, str]) -> None:
    model = SmallSimulated()
    model.configure({"chunk_ms": "0", **options})
    model.load()
    checked: Model = model
    check_all(checked)


@pytest.fixture(scope="module")
def canned() -> SimulatedModel:
    model = SmallSimulated()
    model.configure({"chunk_ms": "0", "video": "canned"})
    model.load()
    return model


@pytest.mark.parametrize("video", ["encoded", "canned"])
def test_small_pictures_carry_the_marker_too(video: str) -> None:
    model = loaded(size="160x88", video=video)
    assert (model.info.width, model.info.height) == (160, 88)
    run = Run(model)
    task = run.task()
    run_stages(model, [task])
    assert task.result is not None
    assert task.result.shape == (33, 132, 160)
    if video == "encoded":
        marker = read_marker(task.result[7, :88])
        assert marker is not None
        assert marker.frame == 7


def test_it_says_how_its_video_is_made() -> None:
    for options, video in (({}, "encoded"), ({"video": "canned"}, "canned")):
        model = SimulatedModel()
        model.configure(options)
        assert model.info.summary.endswith(f" Video: {video}.")
        assert model.info.summary.startswith(SimulatedModel.info.summary)


def test_loading_logs_how_the_video_is_made() -> None:
    with structlog.testing.capture_logs() as logged:
        loaded()
    assert [(each["event"], each["video"]) for each in logged] == [("simulated.loaded", "encoded")]


def test_only_canned_sessions_bring_packets_restored_ones_too(canned: SimulatedModel) -> None:
    options = SessionOptions("s")
    session = canned.open(options)
    assert isinstance(session, PacketSource)
    restored = canned.restore(options, canned.snapshot(session))
    assert isinstance(restored, PacketSource)
    for codec in Codec:
        assert session.packet(codec, 3, 5000) == restored.packet(codec, 243, 5000)
    encoded = loaded()
    other = encoded.open(options)
    assert not isinstance(other, PacketSource)
    assert not isinstance(encoded.restore(options, encoded.snapshot(other)), PacketSource)


def test_a_canned_window_takes_the_declared_time_and_no_memory() -> None:
    model = SmallSimulated()
    model.configure({"chunk_ms": "150", "video": "canned"})
    model.load()
    task = Run(model).task()
    began = time.perf_counter()
    run_stages(model, [task])
    assert time.perf_counter() - began >= 0.15
    assert task.result is not None
    assert task.result.shape == task.source.shape
    assert task.result.strides[0] == 0


def test_making_the_loop_counts_as_loading() -> None:
    model = SmallSimulated()
    model.configure({"video": "canned", "load_s": "1.5"})
    began = time.perf_counter()
    model.load()
    assert time.perf_counter() - began >= 1.5


def test_the_interface_imports_without_a_codec_library() -> None:
    code = "import sys, model_actor.plugin; print('av' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_documentation_lists_every_option_as_it_is() -> None:
    text = (Path(__file__).parents[3] / "docs/simulated.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", text, re.MULTILINE))
    assert rows == OPTIONS


def test_every_option_is_explained_and_has_a_parser() -> None:
    assert set(OPTIONS) == set(Settings.__dataclass_fields__)
    assert SimulatedModel.OPTIONS is OPTIONS


@pytest.mark.parametrize(
    "options",
    [
        {"nonsense": "1"},
        {"chunk_ms": "-1"},
        {"chunk_ms": "nan"},
        {"chunk_ms": "fast"},
        {"busy": "perhaps"},
        {"video": "painted"},
        {"size": "160"},
        {"size": "161x96"},
        {"size": "16x8"},
        {"stages": "decode,generate"},
        {"stages": "encode"},
        {"stages": "generate,paint"},
        {"stages": "generate,generate"},
        {"fail_every": "0"},
        {"fail_at": "1,x"},
        {"delay_at": "3"},
        {"max_batch": "0"},
        {"hang_at": "-2"},
        {"degraded_rates": "1"},
        {"degraded_rates": "1/2,2/3"},
        {"degraded_rates": "1/0"},
        {"degraded_steps": "2"},
        {"degraded_steps": "0:10"},
        {"degraded_steps": "2:0"},
        {"degraded_steps": "2:10,2:20"},
        {"first_ms": "-1"},
        {"snapshot_bytes": "-1"},
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(PluginError, match=next(iter(options))):
        SimulatedModel().configure(options)


def test_options_become_what_the_instance_declares() -> None:
    model = SimulatedModel()
    model.configure(
        {"chunk_ms": "100", "weights_gb": "1.5", "session_gb": "0.25", "max_batch": "4",
         "resident_slots": "3", "resident_gb": "2", "degraded_rates": "2/3,1/2",
         "degraded_steps": "2:60,1:40",
         "stages": "encode,generate,commit"}
    )  # fmt: skip
    info = model.info
    assert info.chunk_ms == pytest.approx(100)
    assert (info.weights_bytes, info.session_bytes) == (1_500_000_000, 250_000_000)
    assert (info.max_batch, info.resident_slots) == (4, 3)
    assert (info.resident_bytes, info.degraded_rates) == (2_000_000_000, (2 / 3, 1 / 2))
    assert info.degraded_steps == (FewerSteps(2, 60.0), FewerSteps(1, 40.0))
    assert [stage.off_latency_path for stage in info.stages] == [False, False, True]
    assert SimulatedModel.info.chunk_ms == 280, "other instances are as before"


def test_stages_may_have_times_of_their_own() -> None:
    stages = parse({"stages": "encode:10,generate:200,decode:30,commit:5"}).declared_stages()
    assert [stage.cost_ms for stage in stages] == [10, 200, 30, 5]


def test_frames_carry_frame_run_and_session() -> None:
    model = loaded()
    run = Run(model, "session-9", number=4)
    frames = [frame for window in run.advance(2) for frame in window]
    expected = [Marker(number, 4, session_tag("session-9")) for number in range(57)]
    assert [read_marker(frame[:704]) for frame in frames] == expected


def test_the_source_shows_dimly_and_the_prompt_colours_the_ground() -> None:
    model = loaded()
    run, other = Run(model), Run(model)
    other.prompt = "something else"
    task = run.task()
    run_stages(model, [task])
    assert task.result is not None
    below = (slice(None), slice(560, 704))
    shown, source = task.result[below].astype(int), task.source[below].astype(int)
    assert np.corrcoef(shown.ravel(), source.ravel())[0, 1] > 0.95
    assert shown.std() < source.std() / 3
    assert not np.array_equal(task.result[:, 704:], other.advance()[0][:, 704:])


@pytest.mark.parametrize("busy", ["true", "false"])
def test_a_window_takes_at_least_the_declared_time(busy: str) -> None:
    model = loaded(chunk_ms="150", busy=busy)
    run = Run(model)
    task = run.task()
    began = time.perf_counter()
    run_stages(model, [task])
    assert time.perf_counter() - began >= 0.15


def test_fewer_steps_must_save_time() -> None:
    with pytest.raises(PluginError, match="less time"):
        SimulatedModel().configure({"chunk_ms": "100", "degraded_steps": "2:100"})


def test_fewer_steps_take_their_time_and_show() -> None:
    model = loaded(chunk_ms="60000", degraded_steps="2:60")
    run = Run(model)
    task = run.task()
    task.steps = 2
    began = time.perf_counter()
    run_stages(model, [task])
    assert 0.06 <= time.perf_counter() - began < 30
    assert task.result is not None
    below = (slice(None), slice(560, 704))
    assert task.result[below].std() < task.source[below].std() / 6


def test_windows_with_different_steps_are_no_batch() -> None:
    model = loaded(chunk_ms="2", degraded_steps="2:1", max_batch="2")
    tasks = [Run(model, str(number)).task() for number in range(2)]
    tasks[1].steps = 2
    with pytest.raises(InvariantError, match="steps"):
        run_stages(model, tasks)


def test_each_further_session_of_a_batch_adds_its_share() -> None:
    model = loaded(chunk_ms="100", max_batch="3", batch_share="0.5")
    tasks = [Run(model, str(number)).task() for number in range(3)]
    began = time.perf_counter()
    run_stages(model, tasks)
    assert time.perf_counter() - began >= 0.2


def test_the_first_window_of_a_run_may_take_longer() -> None:
    model = loaded(first_ms="150")
    run = Run(model)
    task = run.task()
    began = time.perf_counter()
    run_stages(model, [task])
    assert time.perf_counter() - began >= 0.15


def test_a_window_that_does_not_follow_is_refused() -> None:
    run = Run(loaded())
    run.advance(2)
    for index, number in ((1, 1), (3, 1), (2, 2)):
        run.index, run.number = index, number
        with pytest.raises(InvariantError, match="after 2 windows of run 1"):
            run.advance()
    run.index, run.number = 2, 1
    run.advance()


def test_a_model_that_begins_anew_within_a_run_numbers_frames_on() -> None:
    run = Run(loaded(), "session-9", number=4)
    run.advance(2)
    run.begin_anew()
    (frames,) = run.advance()
    tag = session_tag("session-9")
    assert [read_marker(frame[:704]) for frame in frames] == [
        Marker(number, 4, tag) for number in range(57, 57 + 33)
    ]


def test_snapshots_are_small_or_as_large_as_wanted() -> None:
    for options, size in (({}, 22), ({"snapshot_bytes": "5000"}, 5000)):
        model = loaded(**options)
        run = Run(model)
        run.advance()
        snapshot = model.snapshot(run.session)
        assert len(snapshot) == size
        run.restored(snapshot).advance()


def test_delay_at_adds_to_one_window() -> None:
    model = loaded(delay_at="1:120,5:1")
    run = Run(model)
    run.advance()
    began = time.perf_counter()
    run.advance()
    assert time.perf_counter() - began >= 0.12


def test_fail_at_fails_whenever_the_window_is_tried() -> None:
    run = Run(loaded(fail_at="1,3"))
    run.advance()
    for _ in range(2):
        with pytest.raises(InjectedError):
            run.advance()
    run.begin_again()
    run.advance()
    with pytest.raises(InjectedError):
        run.advance()


def test_fail_every_fails_once_and_then_goes_on() -> None:
    run = Run(loaded(fail_every="3"))
    run.advance(2)
    with pytest.raises(InjectedError):
        run.advance()
    run.advance(2)
    with pytest.raises(InjectedError):
        run.advance()


def test_no_failure_is_injected_while_an_actor_warms_up() -> None:
    model = loaded(fail_at="0", fail_every="2")
    Run(model, "warm-up").advance(3)
    model = loaded(fail_every="2")
    Run(model, "warm-up").advance()
    Run(model).advance()
    with pytest.raises(InjectedError):
        Run(model).advance()


def test_a_batch_with_a_failing_window_gives_no_results() -> None:
    model = loaded(max_batch="2", fail_at="1")
    good, bad = Run(model, "good"), Run(model, "bad")
    bad.advance()
    tasks = [good.task(), bad.task()]
    before = [model.snapshot(run.session) for run in (good, bad)]
    with pytest.raises(InjectedError):
        run_stages(model, tasks)
    assert [task.result for task in tasks] == [None, None]
    assert [model.snapshot(run.session) for run in (good, bad)] == before


_CHILD = """
import sys
import structlog
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
from model_actor.conformance.runs import Run
from model_actor.models.simulated import SimulatedModel
model = SimulatedModel()
model.configure({"chunk_ms": "0", %r: "1"})
model.load()
run = Run(model)
run.advance()
print("first", flush=True)
run.advance()
print("second", flush=True)
"""


def test_crash_at_ends_the_process() -> None:
    child = subprocess.run(
        [sys.executable, "-c", _CHILD % "crash_at"], capture_output=True, text=True, check=False
    )
    assert (child.returncode, child.stdout) == (CRASH_STATUS, "first\n")


def test_hang_at_never_returns() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD % "hang_at"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "first\n"
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(timeout=0.5)
    finally:
        child.kill()
        rest, _ = child.communicate()
    assert rest == ""


def test_gil_ms_stops_other_threads() -> None:
    model = loaded(chunk_ms="300", gil_ms="300")
    run = Run(model)
    task = run.task()
    gaps, started, stop = [0.0], threading.Event(), threading.Event()

    def watch() -> None:
        last = time.perf_counter()
        while not stop.is_set():
            now = time.perf_counter()
            gaps.append(now - last)
            last = now
            started.set()
        gaps.append(time.perf_counter() - last)

    watcher = threading.Thread(target=watch)
    watcher.start()
    started.wait()
    try:
        run_stages(model, [task])
    finally:
        stop.set()
        watcher.join()
    assert max(gaps) >= 0.3


def test_a_foreign_session_snapshot_or_stage_is_refused() -> None:
    model = loaded()
    with pytest.raises(InvariantError):
        model.snapshot(object())
    with pytest.raises(InvariantError):
        model.stage("decode", [])
    run = Run(model)
    for bad in (b"", b"PNT1", model.snapshot(run.session)[:-1]):
        with pytest.raises(PluginError):
            model.restore(None, bad)  # type: ignore[arg-type]
