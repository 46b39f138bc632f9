"""A session is made again from its journal, frame for frame, and what differs is found."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from model_actor.engine import journal as engine_journal
from model_actor.plugin import ModelInfo, SessionOptions, Stage, WindowTask
from model_actor.replay import records
from model_actor.replay.comparing import Place, RunResult, Verdict, compare
from model_actor.replay.reading import gather, load
from model_actor.replay.records import JournalError
from model_actor.replay.rendering import ReplayError
from model_actor.replay.report import Report
from sana_gateway.v1 import command_pb2
from tests.unit.model_actor.replay_bench import FRAMES, JournaledBench, journal_of, replayed
from tests.unit.model_actor.session_bench import Gateway

pytestmark = pytest.mark.unit

ONE, TWO = "an oil painting", "a winter night"


class Blender:
    """A model whose frames depend on all that it is given and on all windows before."""

    info: ClassVar[ModelInfo] = ModelInfo(
        name="blender",
        summary="mixes what it is given into what it remembers",
        stages=(Stage("generate", 5.0), Stage("commit", 0.0, off_latency_path=True)),
        width=64,
        height=64,
        max_batch=2,
    )

    def __init__(self, *, noise: int = 0, batch_counts: bool = False) -> None:
        self._noise = noise
        self._batch_counts = batch_counts

    def configure(self, options: dict[str, str]) -> None: ...

    def load(self) -> None: ...

    def open(self, options: SessionOptions) -> dict[str, int]:
        return {"memory": 0}

    def stage(self, name: str, batch: list[WindowTask]) -> None:
        for task in batch:
            state: Any = task.session
            if name == "commit":
                state["memory"] = (state["memory"] * 31 + int(task.source[0, 0, 0])) % 251
                continue
            if task.index == 0:
                state["memory"] = task.seed % 251
            words = sum(task.prompt.encode()) % 97 + (len(batch) if self._batch_counts else 0)
            mixed = task.source.astype(np.int32) + state["memory"] + words + self._noise
            task.result = (mixed % 256).astype(np.uint8)

    def snapshot(self, session: Any) -> bytes:
        return json.dumps(session).encode()

    def restore(self, options: SessionOptions, snapshot: bytes) -> dict[str, int]:
        state: dict[str, int] = json.loads(snapshot)
        return state

    def close(self, session: object) -> None: ...


async def session(
    folder: Path, *, content: bool = False, model: Blender | None = None, most: int = 0
) -> bytes:
    """Plays a session with a prompt that changes, a pause, a second run and a reset."""
    bench = JournaledBench(model or Blender(), folder, content=content)
    if most:
        bench.journals.rules = dataclasses.replace(bench.journals.rules, session_bytes=most)
    await bench.begin()
    gateway = Gateway(bench)
    bench.session.open(gateway)
    bench.stage_clip(gateway, ONE)
    bench.start(gateway)
    await gateway.until(gateway.has("chunk_complete", 2))
    bench.command(gateway, command_pb2.Command(set_prompt=command_pb2.SetPrompt(prompt=TWO)))
    bench.command(gateway, command_pb2.Command(pause=command_pb2.Pause()))
    bench.command(gateway, command_pb2.Command(resume=command_pb2.Resume()))
    await gateway.until(gateway.has("generation_complete"))
    bench.command(gateway, command_pb2.Command(set_seed=command_pb2.SetSeed(seed=77)))
    bench.start(gateway)
    await gateway.until(gateway.has("chunk_complete", 6))
    bench.command(gateway, command_pb2.Command(reset=command_pb2.Reset()))
    return await bench.end()


@pytest.fixture
async def journal(tmp_path: Path) -> bytes:
    return await session(tmp_path)


def changed(text: bytes, **changes: Any) -> bytes:
    """Changes fields of the second window of the first run."""
    lines = [json.loads(line) for line in text.splitlines()]
    window = [each for each in lines if each["kind"] == "window"][1]
    window.update(changes)
    return "".join(json.dumps(each) + "\n" for each in lines).encode()


async def test_every_run_is_made_again_bit_for_bit(journal: bytes) -> None:
    first, second = await replayed(journal, Blender(), ONE, TWO)
    assert (first.verdict, first.compared, first.seed) == (Verdict.BIT_EQUAL, FRAMES, 0)
    assert (second.verdict, second.seed) == (Verdict.BIT_EQUAL, 77)
    assert first.source_difference is None
    commands = journal_of(journal).commands
    assert [each.name for each in commands if each.run == 1 and each.chunk == 2] == [
        "set_prompt",
        "pause",
        "resume",
    ]
    assert [each.name for each in commands][-3:] == ["set_seed", "start", "reset"]


async def test_another_model_differs_from_the_first_frame_on(journal: bytes) -> None:
    first, _ = await replayed(journal, Blender(noise=1), ONE, TWO)
    assert first.verdict is Verdict.DIFFERS
    assert (first.equal, first.first_difference) == (0, Place(1, 0, 0))


async def test_a_journal_that_was_tampered_with_is_found_at_the_frame(journal: bytes) -> None:
    window = journal_of(journal).runs[0].windows[1]
    digests = list(window.digests)
    digests[5] = "0" * 16
    first, second = await replayed(changed(journal, digests=digests), Blender(), ONE, TWO)
    assert first.first_difference == Place(1, 2, 33 + 5)
    assert (first.compared - first.equal, second.verdict) == (1, Verdict.BIT_EQUAL)


async def test_another_seed_or_prompt_in_the_journal_is_noticed(journal: bytes) -> None:
    other = records.prompt_of("s1", "another", content=True)
    first, _ = await replayed(changed(journal, prompt=other), Blender(), ONE, TWO)
    assert first.first_difference == Place(1, 2, 33)


async def test_another_clip_is_told_from_another_model(journal: bytes) -> None:
    first, _ = await replayed(changed(journal, source="f" * 16), Blender(), ONE, TWO)
    assert first.source_difference == Place(1, 2, 33)
    assert any("another clip" in note for note in first.notes)


async def test_batches_are_made_as_they_were(tmp_path: Path) -> None:
    counting = Blender(batch_counts=True)
    journal = await session(tmp_path, model=counting)
    alone, _ = await replayed(journal, counting, ONE, TWO)
    assert alone.verdict is Verdict.BIT_EQUAL
    batched = changed(journal, batch=2)
    pairs, _ = await replayed(batched, counting, ONE, TWO)
    assert (pairs.first_difference, pairs.compared - pairs.equal) == (Place(1, 2, 33), 24)
    indifferent = changed(await session(tmp_path / "other"), batch=2)
    same, _ = await replayed(indifferent, Blender(), ONE, TWO)
    assert same.verdict is Verdict.BIT_EQUAL


async def test_a_window_that_was_made_again_elsewhere_is_compared_twice(journal: bytes) -> None:
    lines = journal.splitlines(keepends=True)
    windows = [number for number, line in enumerate(lines) if b'"kind":"window"' in line]
    again = json.loads(lines[windows[1]])
    again.update(skip=10, digests=again["digests"][10:])
    moved = json.dumps({"kind": "restored", "run": 1, "windows": 1}) + "\n"
    lines[windows[1] + 1 : windows[1] + 1] = [moved.encode(), (json.dumps(again) + "\n").encode()]
    first, _ = await replayed(b"".join(lines), Blender(), ONE, TWO)
    assert (first.verdict, first.compared) == (Verdict.BIT_EQUAL, FRAMES + 14)
    assert "it went on at another actor once" in first.notes


async def test_a_window_that_the_journal_lacks_is_made_where_its_prompt_is_clear(
    tmp_path: Path,
) -> None:
    text = changed(await session(tmp_path), prompt=records.prompt_of("s1", TWO, content=False))
    lines = text.splitlines(keepends=True)
    windows = [number for number, line in enumerate(lines) if b'"kind": "window"' in line]
    without_last_but_one = lines[: windows[1]] + lines[windows[1] + 1 :]
    result, _ = await replayed(b"".join(without_last_but_one), Blender(), ONE, TWO)
    assert result.verdict is Verdict.BIT_EQUAL
    assert result.compared == 33
    assert any("missing" in note for note in result.notes)


async def test_without_its_prompts_a_journal_says_which_it_needs(journal: bytes) -> None:
    with pytest.raises(ReplayError, match="--prompt") as refused:
        await replayed(journal, Blender(), ONE)
    assert ONE not in str(refused.value)
    assert records.prompt_digest("s1", TWO) in str(refused.value)
    assert ONE.encode() not in journal
    assert TWO.encode() not in journal


async def test_with_content_a_journal_replays_by_itself_and_has_pictures(tmp_path: Path) -> None:
    text = await session(tmp_path, content=True)
    first, second = await replayed(text, Blender())
    assert (first.verdict, second.verdict) == (Verdict.BIT_EQUAL, Verdict.BIT_EQUAL)
    near, _ = await replayed(text, Blender(noise=1))
    assert (near.verdict, near.pictures) == (Verdict.ALIKE, 1)
    assert 45 < near.worst_db < 60
    far, _ = await replayed(text, Blender(noise=40))
    assert far.verdict is Verdict.DIFFERS


async def test_what_a_camera_showed_cannot_be_made_again_and_is_said_so(journal: bytes) -> None:
    text = changed(journal, live=True, clip={})
    run = journal_of(text).runs[0]
    result = await compare(journal_of(text), run, None)
    assert result.verdict is Verdict.NOTHING
    assert any("camera" in note for note in result.notes)


async def test_without_a_clip_it_says_which_it_needs(journal: bytes) -> None:
    read = journal_of(journal)
    with pytest.raises(ReplayError, match=f"--clip FILE; it has {FRAMES} frames"):
        await compare(read, read.runs[0], None)


async def test_a_full_journal_keeps_the_present_run_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_journal, "PIECE_BYTES", 500)
    bench = JournaledBench(Blender(), tmp_path)
    bench.journals.rules = dataclasses.replace(bench.journals.rules, session_bytes=3000)
    await bench.begin()
    gateway = Gateway(bench)
    bench.session.open(gateway)
    bench.stage_clip(gateway, ONE)
    bench.start(gateway)
    await gateway.until(gateway.has("generation_complete"))
    text = await bench.end()
    (first,) = await replayed(text, Blender(), ONE)
    assert first.verdict is Verdict.BIT_EQUAL
    assert first.compared < FRAMES
    assert any("full" in note for note in first.notes)
    assert len(text) < 3000 + 200


async def test_earlier_runs_give_way_to_the_present_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_journal, "PIECE_BYTES", 500)
    text = await session(tmp_path, most=4000)
    *earlier, second = await replayed(text, Blender(), ONE, TWO)
    assert (second.number, second.verdict) == (2, Verdict.BIT_EQUAL)
    assert second.compared >= 33
    assert sum(each.compared for each in earlier) < FRAMES
    assert all("missing" in each.notes[0] for each in earlier)
    assert len(text) < 4000 + 500


def test_the_report_says_which_and_where() -> None:
    equal = RunResult(1, 7, windows=2, compared=57, equal=57)
    differs = RunResult(2, 7, windows=2, compared=57, equal=50, first_difference=Place(2, 1, 20))
    report = Report("s1", "blender", [equal, differs], {"torch": ("2.13", "2.14")})
    assert (report.verdict, report.is_same) == (Verdict.DIFFERS, False)
    text = "\n".join(report.lines())
    assert "run 1 (seed 7): bit-equal, 57 of 57" in text
    assert "differs from run 2, chunk 1, frame 20 on" in text
    assert "torch was 2.13, is 2.14" in text
    told = json.loads(json.dumps(report.as_json()))
    assert told["runs"][1]["first_difference"] == {"run": 2, "chunk": 1, "frame": 20}
    assert Report("s1", "blender", [equal], {}).is_same


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be read"):
        load(tmp_path / "nothing")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(JournalError, match="empty"):
        load(tmp_path / "empty")
    with pytest.raises(JournalError, match="tells of no actor"):
        gather([records.Piece(1, "s1", 1, 0, content=False)])
