"""Core values to and from the public contract. The only place that knows both."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar, cast

from sana_gateway.v1 import command_pb2, message_pb2
from sana_gateway_internal.v1 import placement_pb2, stream_pb2
from scheduler.core import commands, messages
from scheduler.core.ids import Holder, Principal
from scheduler.core.quotas import NO_QUOTAS, Quotas

MODES = {
    commands.Mode.LIVE: command_pb2.MODE_LIVE,
    commands.Mode.FILE: command_pb2.MODE_FILE,
}
PHASES = {phase: message_pb2.Phase.Value(f"PHASE_{phase.name}") for phase in messages.Phase}
REASONS = {
    reason: message_pb2.RejectReason.Value(f"REJECT_REASON_{reason.name}")
    for reason in commands.RejectReason
}
CONTINUITIES = {
    each: message_pb2.Continuity.Value(f"CONTINUITY_{each.name}") for each in messages.Continuity
}
_MODES_IN = {number: mode for mode, number in MODES.items()}
_REASONS_IN = {number: reason for reason, number in REASONS.items()}

MAX_NAME = 64
"""Longest command name that is repeated back to a client, in characters."""


def _bad(name: str, reason: str) -> commands.Invalid:
    return commands.Invalid(name, reason, commands.RejectReason.BAD_ARGUMENT)


def _set_mode(command: command_pb2.Command) -> commands.Command:
    mode = _MODES_IN.get(command.set_mode.mode)
    if mode is None:
        return _bad("set_mode", 'mode must be "live" or "file"')
    return commands.SetMode(mode)


def _set_video(command: command_pb2.Command) -> commands.Command:
    video = command.set_video.video
    if not video.upload_id:
        return _bad("set_video", "video must be the reference of an uploaded file")
    return commands.SetVideo(
        commands.FileRef(video.upload_id, video.name, video.mime_type, video.size)
    )


_COMMANDS_IN: dict[str, Callable[[command_pb2.Command], commands.Command]] = {
    "set_mode": _set_mode,
    "set_video": _set_video,
    "set_prompt": lambda command: commands.SetPrompt(
        command.set_prompt.prompt, command.set_prompt.transition_chunks
    ),
    "set_seed": lambda command: commands.SetSeed(command.set_seed.seed),
    "start": lambda _: commands.Start(),
    "pause": lambda _: commands.Pause(),
    "resume": lambda _: commands.Resume(),
    "reset": lambda _: commands.Reset(),
}


def command_in(command: command_pb2.Command) -> commands.Command:
    """Turns a command of the contract into a core value; what makes none becomes `Invalid`."""
    name = command.WhichOneof("command")
    if name is None:
        return commands.Invalid(
            "", "the command is empty or unknown", commands.RejectReason.UNKNOWN_COMMAND
        )
    return _COMMANDS_IN[name](command)


def invalid_in(invalid: stream_pb2.InvalidCommand) -> commands.Invalid:
    """Turns what a wire could not make a command of into a core value."""
    code = _REASONS_IN.get(invalid.code, commands.RejectReason.BAD_ARGUMENT)
    return commands.Invalid(invalid.name[:MAX_NAME], invalid.reason, code)


def _prompt_accepted(payload: messages.PromptAccepted) -> message_pb2.Message:
    return message_pb2.Message(prompt_accepted=message_pb2.PromptAccepted(prompt=payload.prompt))


def _video_accepted(payload: messages.VideoAccepted) -> message_pb2.Message:
    return message_pb2.Message(
        video_accepted=message_pb2.VideoAccepted(
            width=payload.width,
            height=payload.height,
            num_frames=payload.num_frames,
            num_latent_frames=payload.num_latent_frames,
        )
    )


def _generation_started(payload: messages.GenerationStarted) -> message_pb2.Message:
    return message_pb2.Message(
        generation_started=message_pb2.GenerationStarted(
            prompt=payload.prompt, chunk_num=payload.chunk_num, frame_num=payload.frame_num
        )
    )


def _chunk_complete(payload: messages.ChunkComplete) -> message_pb2.Message:
    return message_pb2.Message(
        chunk_complete=message_pb2.ChunkComplete(
            chunk_index=payload.chunk_index,
            frames_emitted=payload.frames_emitted,
            active_prompt=payload.active_prompt,
        )
    )


def _generation_complete(payload: messages.GenerationComplete) -> message_pb2.Message:
    return message_pb2.Message(
        generation_complete=message_pb2.GenerationComplete(total_chunks=payload.total_chunks)
    )


def _generation_reset(payload: messages.GenerationReset) -> message_pb2.Message:
    return message_pb2.Message(generation_reset=message_pb2.GenerationReset(reason=payload.reason))


def _command_error(payload: messages.CommandError) -> message_pb2.Message:
    return message_pb2.Message(
        command_error=message_pb2.CommandError(
            command=payload.command,
            reason=payload.reason,
            code=REASONS[payload.code],
            allowed_phases=[PHASES[phase] for phase in payload.allowed_phases],
            phase=PHASES[payload.phase],
            retry_after_s=payload.retry_after_s,
        )
    )


def _session_moved(payload: messages.SessionMoved) -> message_pb2.Message:
    return message_pb2.Message(
        session_moved=message_pb2.SessionMoved(
            continuity=CONTINUITIES[payload.continuity], reason=payload.reason
        )
    )


def state_out(state: messages.State) -> message_pb2.State:
    """Returns a snapshot as the public contract shows it."""
    return message_pb2.State(
        running=state.running,
        started=state.started,
        paused=state.paused,
        current_chunk=state.current_chunk,
        current_prompt=state.current_prompt,
        has_prompt=state.has_prompt,
        has_video=state.has_video,
        num_source_frames=state.num_source_frames,
        seed=state.seed,
        mode=MODES[state.mode],
        phase=PHASES[state.phase],
        queue_position=state.queue_position,
        degraded_frame_rate=state.degraded_frame_rate,
        degraded_steps=state.degraded_steps,
        awaiting_room=state.awaiting_room,
    )


def _state(payload: messages.State) -> message_pb2.Message:
    return message_pb2.Message(state=state_out(payload))


_PayloadT = TypeVar("_PayloadT")


def _row(
    kind: type[_PayloadT], convert: Callable[[_PayloadT], message_pb2.Message]
) -> tuple[type, Callable[[object], message_pb2.Message]]:
    return kind, cast(Callable[[object], message_pb2.Message], convert)


_MESSAGES_OUT = dict(
    (
        _row(messages.PromptAccepted, _prompt_accepted),
        _row(messages.VideoAccepted, _video_accepted),
        _row(messages.GenerationStarted, _generation_started),
        _row(messages.ChunkComplete, _chunk_complete),
        _row(messages.GenerationComplete, _generation_complete),
        _row(messages.GenerationReset, _generation_reset),
        _row(messages.CommandError, _command_error),
        _row(messages.SessionMoved, _session_moved),
        _row(messages.State, _state),
    )
)


def message_out(message: messages.Message) -> message_pb2.Message:
    """Returns a message as the public contract shows it."""
    wire = _MESSAGES_OUT[type(message.payload)](message.payload)
    wire.revision = message.revision
    return wire


def principal_in(principal: placement_pb2.Principal) -> Principal:
    """Reads whose session it is."""
    ends_in_us = principal.ends_in_us
    return Principal(
        principal.tenant,
        frozenset(principal.scopes),
        tuple(
            Holder(each.name, each.max_sessions or None, _quotas_in(each.quotas))
            for each in principal.holders
        ),
        ends_at=time.monotonic() + ends_in_us / 1e6 if ends_in_us else None,
    )


def principal_out(principal: Principal) -> placement_pb2.Principal:
    """Writes whose session it is."""
    written = placement_pb2.Principal(
        tenant=principal.tenant,
        scopes=sorted(principal.scopes),
        holders=[
            placement_pb2.Holder(
                name=each.name,
                max_sessions=each.max_sessions or 0,
                quotas=_quotas_out(each.quotas),
            )
            for each in principal.holders
        ],
    )
    if principal.ends_at is not None:
        # One that should have ended already is still one with an end.
        written.ends_in_us = max(1, round((principal.ends_at - time.monotonic()) * 1e6))
    return written


def _quotas_in(quotas: placement_pb2.Quotas) -> Quotas:
    def seconds(us: int) -> float | None:
        return us / 1e6 if us else None

    return Quotas(
        sessions_per_minute=quotas.sessions_per_minute or None,
        streamed_per_day=seconds(quotas.streamed_per_day_us),
        streamed_per_month=seconds(quotas.streamed_per_month_us),
        uploads_per_session=quotas.uploads_per_session or None,
        uploads_per_day=quotas.uploads_per_day or None,
        stored=quotas.stored or None,
    )


def _quotas_out(quotas: Quotas) -> placement_pb2.Quotas | None:
    if quotas == NO_QUOTAS:
        return None
    return placement_pb2.Quotas(
        sessions_per_minute=quotas.sessions_per_minute or 0,
        streamed_per_day_us=round((quotas.streamed_per_day or 0.0) * 1e6),
        streamed_per_month_us=round((quotas.streamed_per_month or 0.0) * 1e6),
        uploads_per_session=quotas.uploads_per_session or 0,
        uploads_per_day=quotas.uploads_per_day or 0,
        stored=quotas.stored or 0,
    )
