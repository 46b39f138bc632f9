"""What an actor tells of itself, and the window it computes before it tells anything."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest

from model_actor.engine.encoder_pool import EncoderPool
from model_actor.models.painter import PainterModel
from model_actor.models.simulated import SimulatedModel
from model_actor.plugin import Frames, Model, WindowTask
from model_actor.vitals import ENOUGH_S, Vitals
from model_actor.warm_up import warm_up
from sana_gateway_internal.v1 import placement_pb2
from tests.unit.model_actor.moving_bench import Rememberer

pytestmark = pytest.mark.unit


@dataclass
class Encoders:
    busy_s: float = 0.0


@dataclass
class Session:
    chunks: tuple[int, int] = (0, 0)
    encoded: float = 0.0
    kept_size: int = 0

    def take_chunks(self) -> tuple[int, int]:
        taken, self.chunks = self.chunks, (0, 0)
        return taken

    def take_encoded(self) -> float:
        taken, self.encoded = self.encoded, 0.0
        return taken


def tell(
    vitals: Vitals,
    sessions: Sequence[Session],
    *,
    chunk_ms: float = 0.0,
    computed: tuple[int, int] = (0, 0),
    ends_in_s: float | None = None,
) -> placement_pb2.Heartbeat:
    return vitals.heartbeat(sessions, chunk_ms=chunk_ms, computed=computed, ends_in_s=ends_in_s)


def test_chunks_are_summed_over_sessions_and_told_once() -> None:
    vitals = Vitals(cast(EncoderPool, Encoders()))
    sessions = [Session((3, 1)), Session((2, 0))]
    beat = tell(vitals, sessions, chunk_ms=7.0)
    assert (beat.chunks, beat.late_chunks, beat.chunk_ms, beat.ends_in_us) == (5, 1, 7.0, 0)
    assert tell(vitals, sessions, chunk_ms=7.0).chunks == 0
    assert tell(vitals, [], ends_in_s=-1.0).ends_in_us == 1, "it is over"


def test_windows_and_the_calls_that_they_took_are_told_once() -> None:
    vitals = Vitals(cast(EncoderPool, Encoders()))
    beats = [tell(vitals, [], computed=computed) for computed in ((4, 2), (4, 2), (9, 4))]
    assert [(beat.windows, beat.batches) for beat in beats] == [(4, 2), (0, 0), (5, 2)]


def test_encoding_costs_what_it_took_a_second_of_picture_once_enough_was_seen() -> None:
    encoders = Encoders()
    vitals = Vitals(cast(EncoderPool, encoders))
    session = Session()
    told = []
    for _ in range(40):
        encoders.busy_s += 0.1
        session.encoded = 0.5
        told.append(tell(vitals, [session]).encode_ms)
    assert told[: int(ENOUGH_S / 0.5)] == [0.0] * int(ENOUGH_S / 0.5)
    assert told[-1] == pytest.approx(200.0)


def test_the_largest_state_is_remembered() -> None:
    vitals = Vitals(cast(EncoderPool, Encoders()))
    tell(vitals, [Session(kept_size=9)])
    tell(vitals, [Session(kept_size=4)])
    assert vitals.kept_size == 9


def test_encoders_count_the_time_of_their_threads() -> None:
    pool = EncoderPool(1)
    before = pool.busy_s
    done = threading.Event()
    pool.submit(0.0, lambda: sum(range(2_000_000)), lambda _: done.set())
    assert done.wait(30)
    pool.close()
    assert pool.busy_s > before


class Watched(Rememberer):
    """Remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[Frames] = []
        self.closed = 0
        self.refuses = False

    def stage(self, name: str, batch: list[WindowTask]) -> None:
        if self.refuses:
            raise ValueError("whatever")
        self.sources.append(batch[0].source)
        super().stage(name, batch)

    def close(self, session: object) -> None:
        self.closed += 1


def test_the_first_window_is_black_and_goes_through_all_stages() -> None:
    model = Watched()
    assert not warm_up(cast(Model, model))
    assert (len(model.sources), model.closed) == (2, 1)
    height = model.info.height
    assert np.all(model.sources[0][:, :height] == 16)
    assert np.all(model.sources[0][:, height:] == 128)


def test_a_model_that_cannot_compute_it_leaves_no_session_behind() -> None:
    model = Watched()
    model.refuses = True
    with pytest.raises(ValueError, match="whatever"):
        warm_up(cast(Model, model))
    assert model.closed == 1


@pytest.mark.parametrize("video", ["encoded", "canned"])
def test_it_tells_whether_sessions_bring_their_packets(video: str) -> None:
    model = SimulatedModel()
    model.configure({"video": video, "chunk_ms": "1"})
    model.load()
    assert warm_up(model) == (video == "canned")


def test_the_default_model_warms_up() -> None:
    model = PainterModel()
    model.configure({})
    model.load()
    assert not warm_up(model)
