"""A session as parts of a snapshot, and back: not one bit of it changes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load
from torch import Tensor

from model_actor.models.sana_streaming import snapshot, staging, tensor_bytes
from model_actor.models.sana_streaming.bundle import Parts
from model_actor.models.sana_streaming.engine import Engine
from model_actor.models.sana_streaming.session import SanaSession
from model_actor.models.sana_streaming.staging import InPlace, Pinned, TensorBytes
from model_actor.models.sana_streaming.streaming_vae import ConvState
from model_actor.models.sana_streaming.transformer import SanaStreamingTransformer
from model_actor.plugin import WindowTask
from model_actor.snapshots.host_tier import HostTier
from model_actor.snapshots.kept import KeptState, Point, whole
from scheduler.core.errors import InvariantError, PluginError
from scheduler.kept_names import key_of
from tests.unit.model_actor.sana_streaming.streams import Stream

pytestmark = pytest.mark.unit

CPU = torch.device("cpu")


@pytest.fixture
def sessions(model: SanaStreamingTransformer, io: dict[str, Tensor]) -> list[SanaSession]:
    """One session before its first window and after each of three."""
    stream = Stream(model, io)
    random = torch.Generator().manual_seed(1)
    past = ConvState(tuple(torch.randn(1, 3, 2, 5, size, generator=random) for size in (1, 7)))
    states = [None, *(stream.step()[1] for _ in range(3))]
    return [
        SanaSession(run=7, windows=at, state=state, encoder=past if at else ConvState())
        for at, state in enumerate(states)
    ]


@pytest.mark.parametrize("windows", range(4))
def test_a_session_comes_back_bit_by_bit(sessions: list[SanaSession], windows: int) -> None:
    session = sessions[windows]
    parts = snapshot.taken(session, InPlace())
    data = whole(parts)
    assert len(data) == parts.size
    back = snapshot.restored(memoryview(data), CPU)
    assert (back.run, back.windows, back.sink) == (7, windows, session.sink)
    ours, theirs = session.tensors(), back.tensors()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype
        assert torch.equal(tensor, theirs[name]), name
    assert whole(snapshot.taken(back, InPlace())) == data


def test_what_is_written_is_a_file_of_safetensors(sessions: list[SanaSession]) -> None:
    read = load(bytes(whole(snapshot.taken(sessions[3], InPlace()))))
    ours = sessions[3].tensors()
    assert read.keys() == ours.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in ours.items())


def test_the_first_window_is_a_part_of_its_own_that_keeps_its_name(
    sessions: list[SanaSession],
) -> None:
    assert snapshot.taken(sessions[0], InPlace()).constant == {}
    first = snapshot.taken(sessions[2], InPlace())
    (name,) = first.constant
    state = sessions[2].state
    assert state is not None
    assert first.constant[name].size == state.sink_keys.nbytes + state.sink_values.nbytes
    later = sessions[3]
    later.sink = sessions[2].sink
    parts = snapshot.taken(later, InPlace())
    assert parts.constant.keys() == {name}
    sink, before = parts.constant[name], first.constant[name]
    assert b"".join(map(bytes, sink.pieces())) == b"".join(map(bytes, before.pieces()))
    other = SanaSession(run=8, windows=3, state=later.state)
    assert snapshot.taken(other, InPlace()).constant.keys().isdisjoint({name})


def test_a_session_goes_through_the_hosts_files(
    sessions: list[SanaSession], tmp_path: Path
) -> None:
    tier, point = HostTier(tmp_path / "host", 0), Point(key_of("s"), 1, 7, 3)
    assert tier.write(point, KeptState(b"c", snapshot.taken(sessions[3], InPlace()), 7, 3))
    state = tier.read(point)
    assert state is not None
    assert isinstance(state.model, memoryview)
    back = snapshot.restored(state.model, CPU)
    for name, tensor in sessions[3].tensors().items():
        assert torch.equal(tensor, back.tensors()[name])
    tier.close()


def test_a_restored_session_holds_no_memory_of_the_snapshot(sessions: list[SanaSession]) -> None:
    data = memoryview(bytearray(whole(snapshot.taken(sessions[3], InPlace()))))
    back = snapshot.restored(data, CPU)
    data[:] = bytes(len(data))
    assert all(
        torch.equal(tensor, back.tensors()[name]) for name, tensor in sessions[3].tensors().items()
    )


def test_what_is_no_snapshot_is_refused(sessions: list[SanaSession]) -> None:
    data = bytes(whole(snapshot.taken(sessions[3], InPlace())))
    length = 8 + int.from_bytes(data[:8], "little")
    spoilt = [
        b"",
        b"nothing of the kind",
        data[:100],
        data[:-1],
        data + b"x",
        data[:length].replace(b'"F32"', b'"F99"') + data[length:],
        data[:length].replace(b"state.tail", b"state.head") + data[length:],
        data[:length].replace(b'version\\":', b'version\\":9') + data[length:],
        (2**63).to_bytes(8, "little") + data[8:],
    ]
    for each in spoilt:
        with pytest.raises(PluginError):
            snapshot.restored(memoryview(each), CPU)


def test_a_tensor_out_of_order_is_written_in_order() -> None:
    turned = torch.arange(12.0).reshape(3, 4).T
    head = tensor_bytes.head({"t": turned}, {})
    part = TensorBytes(head, [turned], InPlace())
    assert torch.equal(load(b"".join(map(bytes, part.pieces())))["t"], turned)


def test_a_run_that_begins_anew_has_a_first_window_of_its_own(parts: Parts) -> None:
    """Also under the same number, as after a session's state was lost."""
    size = (parts.description.height, parts.description.width)
    engine = Engine(parts, size, CPU)
    session = engine.open()

    def window(index: int, prompt: str) -> None:
        source = np.full((24 if index else 33, size[0] * 3 // 2, size[1]), 128, np.uint8)
        task = WindowTask(session, 1, index, 0, source, 0, prompt)
        for name in ("encode", "generate", "decode", "commit"):
            engine.stage(name, [task])

    def sink() -> tuple[str, bytes]:
        ((name, part),) = engine.snapshot(session).constant.items()
        return name, b"".join(map(bytes, part.pieces()))

    window(0, "one")
    first = sink()
    window(1, "one")
    assert sink() == first
    restored = engine.restore(memoryview(whole(engine.snapshot(session))))
    assert restored.sink == first[0]
    window(0, "another")
    second = sink()
    assert second[1] != first[1]
    assert second[0] != first[0]
    with pytest.raises(InvariantError, match="no stage"):
        engine.stage("paint", [])


class Event:
    """Remembers what was asked for before it, on whatever stream."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu

    def record(self, stream: object) -> None:
        self.gpu.told.append(("record", self, stream))

    def synchronize(self) -> None:
        """Whatever was to be copied before this event is there; later copies are not."""
        last = max(at for at, told in enumerate(self.gpu.told) if told[:2] == ("record", self))
        self.gpu.arrive(last)


class Side:
    """A stream."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu

    def wait_event(self, event: Event) -> None:
        self.gpu.told.append(("wait", self, event))

    def synchronize(self) -> None:
        self.gpu.arrive(len(self.gpu.told))


class Gpu:
    """A GPU that copies as late as it may: what nobody waited for is rubbish."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.compute, self._on = Side(self), None

    def stream(self) -> Side:
        return Side(self)

    def current(self) -> Side:
        return self.compute

    def event(self) -> Event:
        return Event(self)

    @contextlib.contextmanager
    def using(self, stream: Side) -> Iterator[None]:
        self._on = stream
        yield
        self._on = None

    def pinned(self, size: int) -> Tensor:
        return Late(self, torch.full((size,), 0xEE, dtype=torch.uint8))  # type: ignore[return-value]

    def arrive(self, until: int) -> None:
        for at, told in enumerate(self.told[:until]):
            if told and told[0] == "copy":
                told[1].copy_(told[2])
                self.told[at] = ("copied",)


class Late:
    """A pinned buffer."""

    def __init__(self, gpu: Gpu, there: Tensor) -> None:
        self.gpu, self.there = gpu, there

    def __getitem__(self, where: slice) -> Late:
        return Late(self.gpu, self.there[where])

    def copy_(self, source: Tensor, *, non_blocking: bool) -> None:
        assert non_blocking
        assert self.gpu._on is not None, "on a stream of its own"
        self.there.fill_(0xEE)
        self.gpu.told.append(("copy", self.there, source))

    def numpy(self) -> Any:
        return self.there.numpy()


@pytest.mark.parametrize("sizes", [(), (3,), (16,), (17,), (40, 1, 100), (16, 16, 16)])
def test_pieces_of_a_gpus_memory_are_waited_for(
    sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "STAGE", 16)
    monkeypatch.setattr(staging, "PIECE", 5)
    gpu = Gpu()
    random = torch.Generator().manual_seed(2)
    tensors = [torch.randint(0, 255, (n,), generator=random, dtype=torch.uint8) for n in sizes]
    copier = Pinned(gpu)
    part = TensorBytes(b"head", tensors, copier)
    expected = b"head" + b"".join(tensor.numpy().tobytes() for tensor in tensors)
    for _ in range(2):
        pieces = [bytes(piece) for piece in part.pieces()]
        assert b"".join(pieces) == expected
        assert max(map(len, pieces)) <= 5
    mark = next(event for kind, event, stream in filter(len_3, gpu.told) if stream is gpu.compute)
    waits = [told[2] for told in filter(len_3, gpu.told) if told[0] == "wait"]
    assert waits
    assert all(event is mark for event in waits), "nothing is read before it is made"


def len_3(told: tuple[Any, ...]) -> bool:
    return len(told) == 3 and told[0] != "copy"


def test_a_reader_that_gives_up_leaves_the_buffers_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(staging, "STAGE", 16)
    gpu = Gpu()
    copier = Pinned(gpu)
    tensors = [torch.arange(100, dtype=torch.uint8)]
    given_up = TensorBytes(b"", tensors, copier).pieces()
    next(given_up)
    given_up.close()  # type: ignore[attr-defined]
    assert "copy" not in [told[0] for told in gpu.told if told], "none is under way"
    read: list[bytes] = []
    part = TensorBytes(b"", tensors, copier)
    other = threading.Thread(target=lambda: read.append(b"".join(map(bytes, part.pieces()))))
    other.start()
    other.join(10)
    assert read == [bytes(range(100))]
