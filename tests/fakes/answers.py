"""How a fake session answers commands: as a real one would, as far as wires can tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway import ports
from sana_gateway.v1 import command_pb2, message_pb2
from sana_gateway_internal.v1 import stream_pb2

if TYPE_CHECKING:
    from tests.fakes.session import FakeConnection, FakeSession


def respond(session: FakeSession, connection: FakeConnection, command: ports.CommandLike) -> None:
    """Answers a command: accepted unless `refuse` says otherwise; repeats do nothing."""
    command_id = command.command_id
    if isinstance(command, stream_pb2.InvalidCommand):
        error = message_pb2.CommandError(
            command=command.name, reason=command.reason, code=command.code
        )
        return _rejected(session, connection, command_id, error)
    name = command.WhichOneof("command") or ""
    refusal = session.refuse.get(name)
    if refusal is not None:
        return _rejected(session, connection, command_id, refusal)
    if command_id not in session.handled:
        session.handled[command_id] = True
        session.effects += 1
        _EFFECTS.get(name, _no_effect)(session, connection, command)
    session.publish(state=session.state)
    connection.sink.ack(command_id, accepted=True)
    return None


def _rejected(
    session: FakeSession,
    connection: FakeConnection,
    command_id: str,
    error: message_pb2.CommandError,
) -> None:
    connection.sink.message(message_pb2.Message(command_id=command_id, command_error=error))
    session.publish(state=session.state)
    connection.sink.ack(command_id, accepted=False)


def _no_effect(*_: object) -> None:
    """Nothing to do but the state that follows."""


def _set_mode(session: FakeSession, _: FakeConnection, command: command_pb2.Command) -> None:
    session.state.mode = command.set_mode.mode


def _set_video(
    session: FakeSession, connection: FakeConnection, command: command_pb2.Command
) -> None:
    session.state.has_video, session.state.num_source_frames = True, 48
    accepted = message_pb2.VideoAccepted(width=640, height=360, num_frames=48, num_latent_frames=6)
    session.publish(asker=connection, command_id=command.command_id, video_accepted=accepted)


def _set_prompt(
    session: FakeSession, connection: FakeConnection, command: command_pb2.Command
) -> None:
    session.state.has_prompt, session.state.current_prompt = True, command.set_prompt.prompt
    accepted = message_pb2.PromptAccepted(prompt=command.set_prompt.prompt)
    session.publish(asker=connection, command_id=command.command_id, prompt_accepted=accepted)


def _set_seed(session: FakeSession, _: FakeConnection, command: command_pb2.Command) -> None:
    session.state.seed = command.set_seed.seed


def _start(session: FakeSession, connection: FakeConnection, command: command_pb2.Command) -> None:
    session.state.started = session.state.running = True
    session.state.phase = message_pb2.PHASE_RUNNING
    started = message_pb2.GenerationStarted(prompt=session.state.current_prompt)
    session.publish(asker=connection, command_id=command.command_id, generation_started=started)


def _pause(session: FakeSession, *_: object) -> None:
    session.state.paused, session.state.phase = True, message_pb2.PHASE_PAUSING


def _resume(session: FakeSession, *_: object) -> None:
    session.state.paused, session.state.phase = False, message_pb2.PHASE_RUNNING


def _reset(session: FakeSession, connection: FakeConnection, command: command_pb2.Command) -> None:
    session.state = message_pb2.State(
        mode=session.state.mode, seed=session.state.seed, phase=message_pb2.PHASE_IDLE
    )
    done = message_pb2.GenerationReset(reason="reset by the client")
    session.publish(asker=connection, command_id=command.command_id, generation_reset=done)


_EFFECTS: dict[str, Callable[[FakeSession, FakeConnection, command_pb2.Command], None]] = {
    "set_mode": _set_mode,
    "set_video": _set_video,
    "set_prompt": _set_prompt,
    "set_seed": _set_seed,
    "start": _start,
    "pause": _pause,
    "resume": _resume,
    "reset": _reset,
}
