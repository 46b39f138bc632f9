"""Nothing that a worker sends is trusted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_actor.media.codec import Codec
from model_actor.media.errors import WorkerLostError
from model_actor.media.limits import Refusal
from model_actor.media.wire import (
    MAX_FROM_WORKER,
    CameraPacket,
    ClipFacts,
    Decoded,
    Kind,
    Messages,
    OpenCamera,
    OpenClip,
    ReadWindow,
    Refused,
    message,
    pack_sequence,
    unpack_sequence,
)

pytestmark = pytest.mark.unit

FACTS = ClipFacts(1280, 720, 288, 12_000_000, "h264")


@pytest.mark.parametrize(
    "value",
    [
        FACTS,
        Refused(Refusal.TOO_FEW_FRAMES, 32),
        OpenClip(1280, 704, 99, 33),
        OpenCamera(1280, 704, 98, 24.0, 1 << 40, 7),
        ReadWindow(33, 24, 66),
        Decoded(1, 2, 3, 4, (5, -6, 1 << 60)),
        CameraPacket(Codec.VP8, True, -5, b"data", discontinuity=True),  # noqa: FBT003
    ],
)
def test_messages_come_back_as_they_went(value: Any) -> None:
    assert type(value).unpack(value.pack()) == value


def test_sequence_numbers_come_back() -> None:
    assert unpack_sequence(pack_sequence(1 << 50)) == 1 << 50


@given(st.lists(st.binary(max_size=50), max_size=10), st.integers(1, 30))
def test_messages_are_found_however_they_arrive(payloads: list[bytes], step: int) -> None:
    data = b"".join(message(Kind.WINDOW, payload) for payload in payloads)
    messages, found = Messages(), []
    for at in range(0, len(data), step):
        found += list(messages.feed(data[at : at + step]))
    assert found == [(Kind.WINDOW, payload) for payload in payloads]


@pytest.mark.parametrize(
    "data",
    [
        message(Kind.READ),
        b"\x63\x00\x00\x00\x00",
        b"\x02" + (MAX_FROM_WORKER + 1).to_bytes(4, "little"),
    ],
)
def test_a_worker_that_breaks_the_protocol_is_lost(data: bytes) -> None:
    with pytest.raises(WorkerLostError):
        list(Messages().feed(data))


def facts(**changed: object) -> bytes:
    return json.dumps({**json.loads(FACTS.pack()), **changed}).encode()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b"\xff",
        facts(width=-1),
        facts(width=True),
        facts(num_frames=1 << 60),
        facts(num_frames="9"),
        facts(duration_us=1.5),
        facts(codec="<script>"),
        facts(codec="x" * 33),
        facts(codec=None),
    ],
)
def test_facts_are_checked(payload: bytes) -> None:
    with pytest.raises(WorkerLostError):
        ClipFacts.unpack(payload)


@given(st.binary(max_size=100))
def test_other_answers_are_checked(payload: bytes) -> None:
    for kind in (ClipFacts, Refused, Decoded):
        try:
            kind.unpack(payload)
        except WorkerLostError:
            continue
