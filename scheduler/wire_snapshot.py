"""Control snapshots to and from the internal contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from sana_gateway.v1 import command_pb2
from sana_gateway_internal.v1 import snapshot_pb2
from scheduler import wire
from scheduler.core.commands import (
    MAX_SEED,
    MAX_TRANSITION_CHUNKS,
    NAMES,
    Command,
    FileRef,
    Mode,
    Resume,
    SetVideo,
    Start,
)
from scheduler.core.effects import Asker
from scheduler.core.errors import BadArgumentError
from scheduler.core.geometry import OutwardChunk
from scheduler.core.messages import Phase
from scheduler.core.outbox import REMEMBERED_COMMANDS
from scheduler.core.prompts import MOST_EARLIER, Blend, Course, Share
from scheduler.core.session_table import STARTED
from scheduler.core.snapshot import (
    REMADE_WINDOWS,
    DueAnswer,
    Handled,
    KeptModel,
    RunSnapshot,
    SessionSnapshot,
)
from scheduler.core.staging import MAX_PROMPT_CHARACTERS, Clip

_MODES_IN = {number: mode for mode, number in wire.MODES.items()}
_PHASES_IN = {number: phase for phase, number in wire.PHASES.items()}
_KeyT = TypeVar("_KeyT")
_ValueT = TypeVar("_ValueT")
_COMMANDS_IN = {name: command for command, name in NAMES.items()}


def snapshot_out(
    snapshot: SessionSnapshot, *, session_id: str, epoch: int, host: str
) -> snapshot_pb2.ControlSnapshot:
    """Returns a snapshot as the internal contract shows it.

    Args:
        snapshot: The session.
        session_id: Whose it is.
        epoch: Epoch of the lease under which it is true.
        host: Host on which the model's state was last kept; empty when it never was.
    """
    return snapshot_pb2.ControlSnapshot(
        session_id=session_id,
        epoch=epoch,
        host=host,
        revision=snapshot.revision,
        phase=wire.PHASES[snapshot.phase],
        waiting="" if snapshot.waiting is None else NAMES[snapshot.waiting],
        mode=wire.MODES[snapshot.mode],
        seed=snapshot.seed,
        prompt=snapshot.prompt,
        clip=None if snapshot.clip is None else _clip_out(snapshot.clip),
        probe=None if snapshot.probe is None else _file_out(snapshot.probe),
        run_number=snapshot.run_number,
        run_seed=snapshot.run_seed,
        run=None if snapshot.run is None else _run_out(snapshot.run),
        streaming=snapshot.streaming,
        handled=[
            snapshot_pb2.HandledCommand(
                connection_id=each.asker.connection_id,
                command_id=each.asker.command_id,
                accepted=each.accepted,
            )
            for each in snapshot.handled
        ],
        due=[
            snapshot_pb2.DueAnswer(
                command=NAMES[each.command],
                connection_id=each.asker.connection_id,
                command_id=each.asker.command_id,
            )
            for each in snapshot.due
        ],
    )


def snapshot_in(message: snapshot_pb2.ControlSnapshot) -> SessionSnapshot:
    """Reads a snapshot; whose it is and under which lease stays with the message.

    Raises:
        BadArgumentError: It is none that a session could have made.
    """
    snapshot = SessionSnapshot(
        revision=message.revision,
        phase=_known(_PHASES_IN, message.phase, "phase"),
        waiting=_known(_COMMANDS_IN, message.waiting, "command") if message.waiting else None,
        mode=_known(_MODES_IN, message.mode, "mode"),
        seed=message.seed,
        prompt=message.prompt if message.HasField("prompt") else None,
        clip=_clip_in(message.clip) if message.HasField("clip") else None,
        probe=_file_in(message.probe) if message.HasField("probe") else None,
        run_number=message.run_number,
        run_seed=message.run_seed,
        run=_run_in(message.run) if message.HasField("run") else None,
        streaming=message.streaming,
        handled=tuple(
            Handled(Asker(each.connection_id, each.command_id), each.accepted)
            for each in message.handled
        ),
        due=tuple(
            DueAnswer(
                _known(_COMMANDS_IN, each.command, "command"),
                Asker(each.connection_id, each.command_id),
            )
            for each in message.due
        ),
    )
    _check(snapshot)
    return snapshot


def _file_out(file: FileRef) -> command_pb2.FileRef:
    return command_pb2.FileRef(
        upload_id=file.upload_id, name=file.name, mime_type=file.mime_type, size=file.size
    )


def _file_in(file: command_pb2.FileRef) -> FileRef:
    if not file.upload_id:
        raise _bad("a clip names no upload")
    return FileRef(file.upload_id, file.name, file.mime_type, file.size)


def _clip_out(clip: Clip) -> snapshot_pb2.ClipSnapshot:
    return snapshot_pb2.ClipSnapshot(
        video=_file_out(clip.video),
        width=clip.width,
        height=clip.height,
        num_frames=clip.num_frames,
    )


def _clip_in(clip: snapshot_pb2.ClipSnapshot) -> Clip:
    return Clip(_file_in(clip.video), clip.width, clip.height, clip.num_frames)


def _run_out(run: RunSnapshot) -> snapshot_pb2.RunSnapshot:
    return snapshot_pb2.RunSnapshot(
        number=run.number,
        seed=run.seed,
        frames=run.frames,
        windows=run.windows,
        frame_offset=run.frame_offset,
        chunk_offset=run.chunk_offset,
        committed=run.committed,
        shown=run.shown,
        started=run.started,
        unshown=[
            snapshot_pb2.ChunkSnapshot(
                index=chunk.index,
                first_frame=chunk.first_frame,
                frames=chunk.frames,
                prompt=prompt,
            )
            for chunk, prompt in run.unshown
        ],
        kept=None if run.kept is None else _kept_out(run.kept),
        course=_course_out(run.course),
    )


def _kept_out(kept: KeptModel) -> snapshot_pb2.ModelPoint:
    return snapshot_pb2.ModelPoint(
        windows=kept.windows,
        prompts=[each.prompt for each in kept.prompts],
        mixtures=[
            snapshot_pb2.PromptMixture(at=at, earlier=_shares_out(each.earlier))
            for at, each in enumerate(kept.prompts)
            if each.earlier
        ],
    )


def _kept_in(kept: snapshot_pb2.ModelPoint) -> KeptModel:
    earlier = {each.at: _shares_in(each.earlier) for each in kept.mixtures}
    blends = (Blend(prompt, earlier.get(at, ())) for at, prompt in enumerate(kept.prompts))
    return KeptModel(kept.windows, tuple(blends))


def _shares_out(shares: Iterable[Share]) -> list[snapshot_pb2.PromptShare]:
    return [snapshot_pb2.PromptShare(prompt=each.prompt, share=each.share) for each in shares]


def _shares_in(shares: Iterable[snapshot_pb2.PromptShare]) -> tuple[Share, ...]:
    return tuple(Share(each.prompt, each.share) for each in shares)


def _blend_out(blend: Blend) -> snapshot_pb2.PromptBlend:
    return snapshot_pb2.PromptBlend(prompt=blend.prompt, earlier=_shares_out(blend.earlier))


def _blend_in(blend: snapshot_pb2.PromptBlend) -> Blend:
    return Blend(blend.prompt, _shares_in(blend.earlier))


def _course_out(course: Course) -> snapshot_pb2.PromptCourse:
    return snapshot_pb2.PromptCourse(
        blend=None if course.blend is None else _blend_out(course.blend),
        origin=None if course.origin is None else _blend_out(course.origin),
        windows=course.windows,
        made=course.made,
    )


def _course_in(course: snapshot_pb2.PromptCourse) -> Course:
    return Course(
        blend=_blend_in(course.blend) if course.HasField("blend") else None,
        origin=_blend_in(course.origin) if course.HasField("origin") else None,
        windows=course.windows,
        made=course.made,
    )


def _run_in(run: snapshot_pb2.RunSnapshot) -> RunSnapshot:
    return RunSnapshot(
        number=run.number,
        seed=run.seed,
        frames=run.frames if run.HasField("frames") else None,
        windows=run.windows,
        frame_offset=run.frame_offset,
        chunk_offset=run.chunk_offset,
        committed=run.committed,
        shown=run.shown,
        started=run.started,
        unshown=tuple(
            (OutwardChunk(each.index, each.first_frame, each.frames), each.prompt)
            for each in run.unshown
        ),
        kept=_kept_in(run.kept) if run.HasField("kept") else None,
        course=_course_in(run.course),
    )


def _check(snapshot: SessionSnapshot) -> None:
    """Refuses what no session could have made, for a session made from it could do anything."""
    objections = (*_session_objections(snapshot), *_run_objections(snapshot.run))
    for holds, text in objections:
        if not holds:
            raise _bad(text)


def _session_objections(snapshot: SessionSnapshot) -> Iterable[tuple[bool, str]]:
    """Returns what must hold, each with what to say where it does not."""
    run, clip, phase = snapshot.run, snapshot.clip, snapshot.phase
    live, started = snapshot.mode is Mode.LIVE, phase in STARTED
    waits: tuple[type[Command] | None, ...] = _WAITS.get(phase, (None,))
    ids = {each.asker.command_id for each in snapshot.handled}
    frames = None if live or clip is None else clip.num_frames
    prompted = snapshot.prompt is not None
    length = 1 if snapshot.prompt is None else len(snapshot.prompt)
    return (
        (_is_seed(snapshot.seed) and _is_seed(snapshot.run_seed), "a seed is out of range"),
        (0 < length <= MAX_PROMPT_CHARACTERS, "the prompt is empty or too long"),
        (clip is None or clip.num_frames > 0, "a clip has no frames"),
        (run is None or run.number == snapshot.run_number, "the run is not the present one"),
        (not started or run is not None, "there is no run in this phase"),
        (not started or prompted, "there is no prompt in this phase"),
        (not started or live or frames is not None, "there is no clip in this phase"),
        (
            not started or run is None or run.frames == frames,
            "the run and its clip differ in length",
        ),
        (snapshot.waiting in waits, "no such command waits in this phase"),
        (
            phase is not Phase.AWAITING_SOURCE or live or snapshot.probe is not None,
            "there is no source to wait for",
        ),
        (
            len(ids) == len(snapshot.handled) <= REMEMBERED_COMMANDS and "" not in ids,
            "the commands handled are not distinct, or too many",
        ),
        (
            {each.command for each in snapshot.due} <= _ANSWERED_LATE
            and len({each.command for each in snapshot.due}) == len(snapshot.due),
            "no such answers can be due",
        ),
    )


def _run_objections(run: RunSnapshot | None) -> Iterable[tuple[bool, str]]:
    if run is None:
        return ()
    at = run.unshown[0][0].first_frame if run.unshown else run.shown
    follows = at <= run.shown
    for number, (chunk, _) in enumerate(run.unshown, run.committed):
        follows &= (chunk.index, chunk.first_frame) == (number, at) and chunk.frames > 0
        at += chunk.frames
    kept = run.kept or KeptModel(run.windows, ())
    course = run.course
    blends = [*kept.prompts, *(each for each in (course.blend, course.origin) if each is not None)]
    return (
        (all(map(_is_blend, blends)), "prompts are mixed as they never are"),
        (
            course.made < course.windows <= MAX_TRANSITION_CHUNKS
            if course.origin is not None
            else course.windows == course.made == 0,
            "no transition between prompts is like this",
        ),
        (_is_seed(run.seed), "a seed is out of range"),
        (run.frames is None or at <= run.frames, "there are chunks after the end of the clip"),
        (follows, "the chunks do not follow each other"),
        (len(kept.prompts) <= REMADE_WINDOWS, "too many prompts are remembered"),
        (
            kept.windows <= run.windows <= kept.windows + len(kept.prompts),
            "the prompts remembered are not those of the last windows",
        ),
    )


_WAITS: dict[Phase, tuple[type[Command] | None, ...]] = {
    Phase.AWAITING_SOURCE: (Start,),
    Phase.AWAITING_COMPUTE: (None, Start, Resume),
}
_ANSWERED_LATE = {SetVideo, Start, Resume}


def _is_blend(blend: Blend) -> bool:
    prompts, shares = zip(*((each.prompt, each.share) for each in blend.shares), strict=True)
    # Comparisons, so that what is no number is refused.
    return (
        len(blend.earlier) <= MOST_EARLIER
        and all(0 < len(each) <= MAX_PROMPT_CHARACTERS for each in prompts)
        and all(0 < each <= 1 for each in shares)
    )


def _is_seed(seed: int) -> bool:
    return 0 <= seed <= MAX_SEED


def _known(table: Mapping[_KeyT, _ValueT], key: _KeyT, what: str) -> _ValueT:
    value = table.get(key)
    if value is None:
        raise _bad(f"unknown {what}")
    return value


def _bad(text: str) -> BadArgumentError:
    return BadArgumentError(f"not a snapshot: {text}")
