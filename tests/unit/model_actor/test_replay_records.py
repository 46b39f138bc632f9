"""A journal that was damaged, or written to do harm, is refused with a line and a reason."""

from __future__ import annotations

import base64
import json
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_actor.replay import records
from model_actor.replay.environment import differences, environment
from model_actor.replay.pictures import psnr, reduced, reference_picture
from model_actor.replay.reading import gather
from model_actor.replay.records import JournalError, Reference

pytestmark = pytest.mark.unit

PIECE = records.Piece(records.VERSION, "s1", 1, 0, content=False)
ACTOR = records.Actor("painter", {}, 64, 64, 24.0, 33, 24, {"python": "3.11"})
WINDOW = records.Window(
    run=1,
    index=0,
    first=0,
    source_frames=33,
    answers_from=0,
    frames=2,
    skip=0,
    seed=7,
    prompt=records.prompt_of("s1", "p", content=True),
    earlier=({**records.prompt_of("s1", "q", content=False), "share": 0.5},),
    steps=0,
    batch=1,
    last=False,
    live=False,
    clip={"frames": 33, "width": 64, "height": 64, "bytes": 9},
    source="0123456789abcdef",
    chunks=((0, 0, 2),),
    digests=("0" * 16, "f" * 16),
)
GOOD = [PIECE, ACTOR, records.Command("start", 1, 0, {}), WINDOW, records.Over(1, "reset")]


def lines(*told: records.Record) -> list[bytes]:
    return [each.line().encode() for each in told]


def with_(record: records.Record, **changes: Any) -> bytes:
    told = json.loads(record.line())
    told.update(changes)
    return (json.dumps(told) + "\n").encode()


def test_what_was_written_is_read() -> None:
    assert list(records.read(lines(*GOOD))) == GOOD
    journal = gather(records.read(lines(*GOOD)))
    assert [run.number for run in journal.runs] == [1]
    assert journal.prompts == {records.prompt_digest("s1", "p"): "p"}
    assert WINDOW.chunk_of(1) == 0
    assert WINDOW.chunk_of(2) == -1


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{}\n", "its kind is unknown"),
        (b"[]\n", "no object"),
        (b"{\n", "no JSON"),
        (b"\xff\xfe\n", "no JSON"),
        (b'{"kind":"over","run":1,"why":"reset"}', "cut short"),
        (b'{"kind":"over","run":1}\n', "other fields"),
        (b'{"kind":"over","run":1,"why":"because"}\n', "why makes no sense"),
        (b'{"kind":"over","run":NaN,"why":"reset"}\n', "no JSON"),
        (b'{"kind":"over","run":true,"why":"reset"}\n', "run makes no sense"),
        (b"[" * 100_000 + b"\n", "no JSON"),
        (b" " * (records.MOST_LINE_BYTES + 1) + b"\n", "too long"),
        (with_(WINDOW, source_frames=10**9), "source_frames makes no sense"),
        (with_(WINDOW, frames=3), "more or fewer digests"),
        (with_(WINDOW, digests=[], skip=3), "leaves out more frames"),
        (with_(WINDOW, digests=["0" * 15 + "g", "0" * 16]), "digests makes no sense"),
        (with_(WINDOW, clip={}), "names no clip"),
        (with_(WINDOW, clip={"frames": 1}), "clip makes no sense"),
        (with_(WINDOW, prompt={"digest": "x"}), "prompt makes no sense"),
        (with_(WINDOW, earlier=[{"share": 2.0}]), "earlier makes no sense"),
        (with_(WINDOW, seed=-1), "seed makes no sense"),
        (with_(WINDOW, chunks=[[0, 0]]), "chunks makes no sense"),
        (with_(WINDOW, batch=0), "batch makes no sense"),
        (with_(ACTOR, width=100_000), "width makes no sense"),
        (with_(ACTOR, options={"a": 1}), "options makes no sense"),
        (with_(ACTOR, frame_rate=0), "frame_rate makes no sense"),
        (with_(PIECE, version=2), "another version"),
    ],
)
def test_a_line_that_is_none_is_named_and_not_quoted(line: bytes, why: str) -> None:
    with pytest.raises(JournalError, match=f"line 3: .*{why}") as refused:
        list(records.read([*lines(PIECE, ACTOR), line]))
    assert len(str(refused.value)) < 200


def test_a_journal_begins_as_one_and_is_of_one_session_and_one_size() -> None:
    with pytest.raises(JournalError, match="line 1"):
        list(records.read(lines(ACTOR)))
    with pytest.raises(JournalError, match="empty"):
        list(records.read([]))
    other = records.Piece(records.VERSION, "s2", 1, 0, content=False)
    with pytest.raises(JournalError, match="several sessions"):
        gather([PIECE, ACTOR, other])
    with pytest.raises(JournalError, match="different pictures"):
        gather([PIECE, ACTOR, records.Actor("painter", {}, 128, 64, 24.0, 33, 24, {})])


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 4), st.integers(0, 400), st.integers(0, 40))
def test_no_damage_does_more_than_be_refused(
    junk: bytes, number: int, at: int, removed: int
) -> None:
    told = lines(*GOOD)
    told[number] = told[number][:at] + junk + told[number][at + removed :]
    refused = ""
    try:
        gather(records.read(b"".join(told).splitlines(keepends=True)))
    except JournalError as error:
        refused = str(error)
    assert refused == "" or refused.startswith("not a journal")


def test_a_reference_picture_is_what_it_says_or_refused() -> None:
    picture = np.arange(64 * 96, dtype=np.uint32).reshape(96, 64).astype(np.uint8)
    data = base64.b64encode(zlib.compress(picture.tobytes())).decode()
    same = reference_picture(Reference(1, 0, 1, data), 64, 64)
    assert psnr(same, picture) == float("inf")
    assert reduced(picture, 2).shape == (48, 32)
    assert psnr(picture, picture ^ 1) == pytest.approx(48.13, abs=0.01)
    bomb = base64.b64encode(zlib.compress(bytes(50_000_000))).decode()
    tracemalloc.start()
    with pytest.raises(JournalError, match="another size"):
        reference_picture(Reference(1, 0, 1, bomb), 64, 64)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 5_000_000
    for wrong in (data[:100], "no base64!", base64.b64encode(b"no zlib").decode()):
        with pytest.raises(JournalError, match="reference picture"):
            reference_picture(Reference(1, 0, 1, wrong), 64, 64)


def test_planes_are_reduced_each_by_itself() -> None:
    picture = np.concatenate(
        [np.full((64, 64), 10), np.full((16, 64), 20), np.full((16, 64), 30)]
    ).astype(np.uint8)
    half = reduced(picture, 2).ravel()
    assert [half[0], half[32 * 32], half[32 * 32 + 16 * 16]] == [10, 20, 30]
    assert set(half[: 32 * 32]) == {10}
    assert set(half[32 * 32 : 32 * 32 + 16 * 16]) == {20}


def test_what_is_different_here_is_told_by_name() -> None:
    was = {"python": "3.11", "torch": "2.13", "numpy": "2"}
    here = {"python": "3.12", "numpy": "2"}
    assert differences(was, here) == {"python": ("3.11", "3.12"), "torch": ("2.13", "")}
    assert environment("painter")["plugin"].startswith("sana-gateway ")
