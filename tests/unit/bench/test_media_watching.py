"""How the benchmark finds chunks among the frames that arrived, and what it runs beside them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bench.media import marker, processes
from tests.bench.media.clients.driver import Picture, Seen
from tests.bench.media.packets import Frame, Stream
from tests.bench.media.rows import clean
from tests.bench.media.rows.latency import delays_ms
from tests.bench.media.systems import ours, stun
from tests.bench.media.systems.service import Ready
from tests.bench.media.watching import Watched, chunks_of, completions_ms, numbered

pytestmark = pytest.mark.unit

MS = 1_000_000
PERIOD_NS = 1_000_000_000 // 24


def arrived(count: int, *, delay_ms: int = 10) -> tuple[list[Frame], list[Picture]]:
    """A stream that begins at 100 s; frame n comes so long after n / 24 s."""
    frames, pictures = [], []
    for index in range(count):
        at = 100_000 * MS + index * PERIOD_NS + delay_ms * MS
        frames.append(Frame(index * 3750, at, at + 2 * MS, 3, 3600, complete=True))
        pictures.append(Picture(index * 3750, index % 96, 36.0))
    return frames, pictures


def test_frames_are_numbered_past_the_end_of_the_loop() -> None:
    frames, pictures = arrived(200)
    assert sorted(numbered(frames, pictures)) == list(range(200))


def test_a_picture_that_is_shown_again_is_no_later_frame() -> None:
    frames, pictures = arrived(10)
    again = [Picture(9 * 3750, 3, 36.0), *pictures[:9]]
    assert sorted(numbered(frames, again)) == list(range(9))


def test_a_frame_that_was_lost_leaves_its_number_free() -> None:
    frames, pictures = arrived(10)
    assert 4 not in numbered(frames, [*pictures[:4], *pictures[5:]])


def test_a_chunk_is_timed_by_its_first_frame() -> None:
    index = numbered(*arrived(72))
    ready = [Ready("s", first, 100_000 * MS + first * PERIOD_NS) for first in (0, 24, 48, 96)]
    chunks = chunks_of(ready, index)
    assert [chunk.first_frame for chunk in chunks] == [0, 24, 48]
    assert [round(chunk.first_packet) for chunk in chunks] == [10, 10, 10]
    assert [round(chunk.last_packet) for chunk in chunks] == [12, 12, 12]


def test_a_frame_is_timed_by_its_place_in_its_chunk() -> None:
    index = numbered(*arrived(48))
    ready = [Ready("s", first, 100_000 * MS + first * PERIOD_NS) for first in (0, 24)]
    assert {round(each) for each in completions_ms(ready, index)} == {12}


def test_frames_that_were_shown_are_matched_with_their_chunks() -> None:
    shown = [[100_000 * MS + index * PERIOD_NS + 60 * MS, index % 96] for index in range(120)]
    ready = [Ready("mine", first, 100_000 * MS + first * PERIOD_NS) for first in (0, 24, 96)]
    ready.append(Ready("other", 48, 0))
    delays = delays_ms({"shown": shown, "session_id": "mine"}, ready)
    assert {first: round(delay) for first, delay in delays.items()} == {0: 60, 24: 60, 96: 60}


def test_a_first_frame_that_was_not_shown_is_replaced_by_the_next_one() -> None:
    shown = [[100_000 * MS + index * PERIOD_NS + 60 * MS, index] for index in range(3, 30)]
    delays = delays_ms({"shown": shown, "session_id": "s"}, [Ready("s", 0, 100_000 * MS)])
    assert delays == {0: pytest.approx(60, abs=0.1)}


@pytest.mark.parametrize("number", [0, 1, 64, 95, 127])
def test_a_number_survives_noise(number: int) -> None:
    picture = np.random.default_rng(number).integers(90, 160, (704, 1280), np.uint8)
    marker.write(picture, number)
    noisy = np.clip(picture + np.random.default_rng(1).normal(0, 12, picture.shape), 0, 255)
    assert marker.read(noisy) == number


def test_a_picture_without_a_number_has_none() -> None:
    assert marker.read(np.full((704, 1280), 128, np.uint8)) is None


def test_processes_are_known_by_their_command_lines() -> None:
    serve = ["python", "-m", "gateway.cli", "serve", "--model", "x"]
    head = ["python", "-m", "gateway.cli", "serve", "head", "--actors", "1"]
    decoder = ["python", "-m", "model_actor.media.decode_worker"]
    assert ours.role_of(serve, []) == ours.GATEWAY
    assert ours.role_of(["python", "-c", "worker"], [serve]) == ours.GATEWAY
    assert ours.role_of(head, [serve]) == ours.ACTOR
    assert ours.role_of(["ray::ModelActor"], [head, serve]) == ours.ACTOR
    assert ours.role_of(decoder, [head, serve]) == ours.DECODE


def watched(*steady: int) -> list[Watched]:
    """Windows of one session: at full rate (1), or at half of it (0)."""
    found = []
    for each in steady:
        frames, _ = arrived(48)
        stream = Stream(tuple(frames if each else frames[::2]), 0, 1)
        seen = Seen("s", stream, (), 0)
        found.append(Watched(processes.Spent(1.0, {}, {}, 0.0), 0.0, (seen,)))
    return found


def test_the_number_of_sessions_held_ends_before_the_first_that_mostly_failed() -> None:
    looks = {1: watched(1), 2: watched(0, 1, 1), 3: watched(0, 1, 0)}
    assert clean.held({**looks, 4: watched(1)}, clean.TESTS[clean.CLEAN]) == 2
    assert clean.held({1: watched(0)}, clean.TESTS[clean.STEADY]) == 0


def test_what_was_spent_is_counted_by_role() -> None:
    before = processes.Usage(10.0, {"a": 1.0}, {("a", "encode"): 0.5}, 4.0)
    after = processes.Usage(12.0, {"a": 2.0, "b": 0.5}, {("a", "encode"): 1.3}, 7.0)
    spent = after.since(before)
    assert spent.cores("a") == 0.5
    assert spent.seconds("a", "b") == 1.5
    assert spent.machine == 1.5
    assert spent.threads("a") == {"encode": 0.4}


def test_a_binding_request_is_answered_with_the_address_it_came_from() -> None:
    request = bytes.fromhex("000100002112a442") + bytes(range(12))
    said = stun.response(request, "127.0.0.1", 0x1234)
    assert said is not None
    assert said[:2] == b"\x01\x01"
    assert said[8:20] == bytes(range(12))
    # X-Port and X-Address of RFC 8489, 14.2.
    assert said[-6:] == bytes.fromhex("3326") + bytes(
        a ^ b for a, b in zip(b"\x7f\x00\x00\x01", b"\x21\x12\xa4\x42", strict=True)
    )
    assert stun.response(b"\x80" + request[1:], "127.0.0.1", 1) is None
