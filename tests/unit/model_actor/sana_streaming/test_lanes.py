"""Stages on lanes: what waits for what, and which memory is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model_actor.models.sana_streaming.lanes import LANES, Overlapped, Streamed
from model_actor.models.sana_streaming.session import SanaSession, Underway
from model_actor.models.sana_streaming.streaming_vae import ConvState
from model_actor.plugin import WindowTask
from scheduler.core.errors import InvariantError

pytestmark = pytest.mark.unit

DEFAULT = "default"


class Mark:
    """An event: the piece of work that is done when it is."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.after = gpu, frozenset[str]()

    def record(self, stream: Stream) -> None:
        self.after = stream.known


class Stream:
    """What is known to be done when the next work of a stream begins."""

    def __init__(self, gpu: Gpu, name: str) -> None:
        self.gpu, self.name, self.known = gpu, name, frozenset[str]()

    def wait_event(self, mark: Mark) -> None:
        self.known |= mark.after


class Gpu:
    """Streams in order in themselves, and in no order among one another but by events."""

    def __init__(self) -> None:
        self.default = Stream(self, DEFAULT)
        self.on = self.default
        self.streams = 0
        self.kept: list[tuple[Tensor, Stream]] = []
        self.began: dict[str, tuple[Stream, frozenset[str]]] = {}
        """Of each piece of work, the stream and what was done before it."""

    def does(self, work: str) -> None:
        self.began[work] = (self.on, self.on.known)
        self.on.known |= {work}

    def stream(self) -> Stream:
        self.streams += 1
        return Stream(self, f"stream {self.streams}")

    def current(self) -> Stream:
        return self.on

    def event(self) -> Mark:
        return Mark(self)

    @contextlib.contextmanager
    def using(self, stream: Stream) -> Iterator[None]:
        before, self.on = self.on, stream
        try:
            yield
        finally:
            self.on = before

    def keep(self, tensor: Tensor, stream: Stream) -> None:
        self.kept.append((tensor, stream))

    def pinned(self, size: int) -> Tensor:
        raise NotImplementedError


class Model:
    """Stages that leave names of what they did."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.fails = ""
        self.stages = {name: self._stage(name) for name in LANES}

    def _stage(self, name: str) -> Any:
        def run(batch: Sequence[WindowTask]) -> None:
            (task,) = batch
            session = task.session
            assert isinstance(session, SanaSession)
            self.gpu.does(f"{name} {task.prompt}{task.index}")
            if self.fails == name:
                raise RuntimeError(name)
            if name == "encode":
                session.underway = Underway(task.run, task.index, torch.ones(1), ConvState())
            elif session.underway is not None and name == "generate":
                session.underway.latents = torch.ones(2)
            elif name == "commit":
                session.underway = None
                session.encoder = ConvState((torch.ones(3),))

        return run


def task(session: SanaSession, name: str, index: int = 0) -> WindowTask:
    return WindowTask(session, 1, index, 0, np.zeros((1, 3, 2), np.uint8), 0, name)


@pytest.fixture
def gpu() -> Gpu:
    return Gpu()


@pytest.fixture
def overlapped(gpu: Gpu) -> Overlapped:
    return Overlapped(Streamed(gpu), Model(gpu).stages)


def run(overlapped: Overlapped, tasks: list[WindowTask]) -> None:
    for name in LANES:
        overlapped.stage(name, tasks)


def test_a_window_waits_for_its_own_stages_and_a_lane_for_its_own_work(
    gpu: Gpu, overlapped: Overlapped
) -> None:
    a, b = SanaSession(), SanaSession()
    for index in (0, 1):
        run(overlapped, [task(a, "a", index), task(b, "b", index)])
    after = {work: known for work, (_, known) in gpu.began.items()}
    for name in "ab":
        assert f"encode {name}0" in after[f"generate {name}0"]
        assert f"generate {name}0" in after[f"decode {name}0"]
        assert f"decode {name}0" in after[f"commit {name}0"], "it is done when its frames are"
        assert f"commit {name}0" in after[f"generate {name}1"]
    assert "generate a0" in after["generate b0"], "one lane"
    # What may be done at the same time: neither waits for the other.
    for one, other in [
        ("generate a0", "encode b0"),
        ("decode a0", "generate b0"),
        ("commit a0", "decode b0"),
    ]:
        assert one not in after[other]
        assert other not in after[one]
    assert len({stream for stream, _ in gpu.began.values()}) == 3
    assert gpu.default not in {stream for stream, _ in gpu.began.values()}


def test_lanes_wait_for_what_was_asked_for_outside_and_that_for_them_when_joined(
    gpu: Gpu,
) -> None:
    lanes = Streamed(gpu)
    gpu.does("restore")
    lanes.run("encoder", lambda: gpu.does("encode"))
    lanes.run("decoder", lambda: gpu.does("decode"))
    gpu.does("before")
    lanes.join()
    gpu.does("snapshot")
    assert gpu.began["encode"][1] == {"restore"}
    assert gpu.began["decode"][1] == {"restore"}
    assert gpu.began["before"][1] == {"restore"}
    assert gpu.began["snapshot"][1] == {"restore", "encode", "decode", "before"}


def test_memory_is_kept_for_the_lane_that_reads_it(gpu: Gpu, overlapped: Overlapped) -> None:
    session = SanaSession(encoder=ConvState((torch.zeros(1),)))
    restored = session.encoder.past[0]
    window = task(session, "a")
    for name in ("encode", "generate", "decode"):
        overlapped.stage(name, [window])
    assert session.underway is not None
    source, latents = session.underway.source, session.underway.latents
    overlapped.stage("commit", [window])
    lanes = {work.split()[0]: stream for work, (stream, _) in gpu.began.items()}
    read = {(id(tensor), stream) for tensor, stream in gpu.kept}
    for tensor, stages in ((source, LANES), (latents, ("decode", "commit")), (restored, LANES)):
        for name in set(stages) - ({"encode"} if tensor is source else set()):
            assert (id(tensor), lanes[name]) in read


def test_a_stage_that_fails_keeps_what_it_read_and_harms_nobody(gpu: Gpu) -> None:
    model = Model(gpu)
    overlapped = Overlapped(Streamed(gpu), model.stages)
    a, b = SanaSession(), SanaSession()
    overlapped.stage("encode", [task(a, "a"), task(b, "b")])
    assert a.underway is not None
    model.fails = "generate"
    with pytest.raises(RuntimeError, match="generate"):
        overlapped.stage("generate", [task(a, "a"), task(b, "b")])
    assert gpu.on is gpu.default
    assert any(tensor is a.underway.source for tensor, _ in gpu.kept)
    model.fails = ""
    run(overlapped, [task(b, "b again")])
    assert "generate b again0" in gpu.began["decode b again0"][1]


def test_what_is_no_session_is_refused(overlapped: Overlapped) -> None:
    with pytest.raises(InvariantError):
        overlapped.stage(
            "encode", [WindowTask(object(), 1, 0, 0, np.zeros((1, 3, 2), np.uint8), 0, "")]
        )


def test_a_session_that_is_gone_is_forgotten(gpu: Gpu, overlapped: Overlapped) -> None:
    session = SanaSession()
    run(overlapped, [task(session, "a")])
    overlapped.forget(session)
    overlapped.forget(session)
    overlapped.stage("encode", [task(session, "new")])
    assert "commit a0" not in gpu.began["encode new0"][1]
