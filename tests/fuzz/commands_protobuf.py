"""Commands and requests as protobuf: data channels, gRPC, the front door, between processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from google.protobuf.message import DecodeError, Message

from gateway.front_door.routing import METHODS
from sana_gateway.v1 import command_pb2, session_pb2
from sana_gateway_internal.v1 import snapshot_pb2, stream_pb2
from scheduler.core.errors import BadArgumentError
from scheduler.core.snapshot import SessionSnapshot
from scheduler.wire_snapshot import snapshot_in, snapshot_out
from sdk_adapters.reactor import reactor_wire_pb2 as pb
from sdk_adapters.reactor import wire, wire_protobuf
from tests.fuzz import commands_json, obeying
from tests.fuzz.messages import filled
from tests.fuzz.reader import Reader


def fuzz_one(data: bytes) -> None:
    """Reads a message as its profile does; bytes, or one that is made of them."""
    reader = Reader(data)
    first = reader.number()
    kind, take = PROFILES[first % 128 % len(PROFILES)]
    if first & 128:
        take(filled(reader, kind.DESCRIPTOR).SerializeToString())
    else:
        take(reader.rest())


def on_channel(label: wire.Label, payload: bytes) -> None:
    """Reads a message of a data channel; a command is carried out."""
    said = wire_protobuf.decode(label, payload)
    if said is None:
        return
    assert isinstance(said, wire.Inbound)
    kind = pb.DataClientMessage if label is wire.Label.DATA else pb.ControlClientMessage
    again = kind.FromString(payload).SerializeToString()
    assert commands_json.same(wire_protobuf.decode(label, again), said)
    if isinstance(said, wire.Command):
        commands_json.obey(said, "id")
    request_id = getattr(said, "request_id", "")
    for each in (
        wire.Ack(request_id),
        wire.Schema(request_id, {}),
        wire.ClipFailed(request_id, "no"),
        wire.TrackRefused(request_id, "UNKNOWN_TRACK", "no such track"),
        wire.ModelMessage("command_error", {"command": "start", "reason": "no"}, request_id),
    ):
        assert wire_protobuf.encode(each) is not None


def executed(payload: bytes) -> None:
    """Reads a request of Execute."""
    request = _parsed(session_pb2.ExecuteRequest, payload)
    if request is not None:
        _carry_out(request.command)


def attached(payload: bytes) -> None:
    """Reads a request of Attach."""
    request = _parsed(session_pb2.AttachRequest, payload)
    if request is not None and request.HasField("command"):
        _carry_out(request.command)


def _carry_out(command: command_pb2.Command) -> None:
    obeying.obey(command, command.traceparent)


def relayed(payload: bytes) -> None:
    """Reads a command that another process sends."""
    request = _parsed(stream_pb2.SessionCommand, payload)
    if request is not None:
        obeying.understood(request)


def resumed(payload: bytes) -> None:
    """Reads a snapshot of a session; one that is accepted is written and read again."""
    message = _parsed(snapshot_pb2.ControlSnapshot, payload)
    if message is None:
        return
    try:
        snapshot: SessionSnapshot = snapshot_in(message)
    except BadArgumentError:
        return
    written = snapshot_out(
        snapshot, session_id=message.session_id, epoch=message.epoch, host=message.host
    )
    assert snapshot_in(written) == snapshot


def routed(payload: bytes) -> None:
    """Finds the way of a call at the front door, whichever it is."""
    for method in METHODS.values():
        try:
            route = method.route(payload)
        except BadArgumentError:
            continue
        assert route.aim in ("session", "create", "any")


def _parsed(kind: type, payload: bytes):  # type: ignore[no-untyped-def] # noqa: ANN202
    try:
        return kind.FromString(payload)  # type: ignore[attr-defined]
    except DecodeError:
        return None


PROFILES: Final[tuple[tuple[type[Message], Callable[[bytes], None]], ...]] = (
    (pb.DataClientMessage, lambda payload: on_channel(wire.Label.DATA, payload)),
    (pb.ControlClientMessage, lambda payload: on_channel(wire.Label.CONTROL, payload)),
    (session_pb2.ExecuteRequest, executed),
    (session_pb2.AttachRequest, attached),
    (stream_pb2.SessionCommand, relayed),
    (snapshot_pb2.ControlSnapshot, resumed),
    (session_pb2.SignalRequest, routed),
    (session_pb2.AttachRequest, routed),
    (session_pb2.CreateSessionRequest, routed),
)
"""What the first byte chooses from: what a message is made as, and who reads it."""


def seeds() -> list[bytes]:
    """Returns one message of each command and request, and what is nearly one."""
    made: list[bytes] = []
    for name in command_pb2.Command.DESCRIPTOR.oneofs_by_name["command"].fields:
        command = command_pb2.Command(command_id="c1", traceparent="00-" + "ab" * 16)
        getattr(command, name.name).SetInParent()
        command.set_prompt.prompt = "a woodcut" if name.name == "set_prompt" else ""
        if name.name != "set_prompt":
            getattr(command, name.name).SetInParent()
        said = pb.DataClientMessage(request_id="r", command=pb.Command(type=name.name))
        said.command.data.update({"prompt": "a woodcut", "mode": "live", "seed": 4.0})
        said.command.uploads["video"].upload_id = "u1"
        execute = session_pb2.ExecuteRequest(session_id="s", command=command)
        made += [
            bytes([0]) + said.SerializeToString(),
            bytes([2]) + execute.SerializeToString(),
            bytes([3]) + session_pb2.AttachRequest(command=command).SerializeToString(),
            bytes([4]) + stream_pb2.SessionCommand(command=command).SerializeToString(),
        ]
    for field in pb.ControlClientMessage.DESCRIPTOR.oneofs_by_name["payload"].fields:
        control = pb.ControlClientMessage(request_id="r")
        getattr(control, field.name).SetInParent()
        made.append(bytes([1]) + control.SerializeToString())
    made.append(bytes([5]) + snapshot().SerializeToString())
    grown = [bytes([128 | number]) + bytes(range(1, 200, 3)) for number in range(len(PROFILES))]
    return made + grown + [bytes([number]) + b"\xff" * 9 for number in range(len(PROFILES))]


def snapshot() -> snapshot_pb2.ControlSnapshot:
    """Returns the snapshot of a session in the middle of a run."""
    video = command_pb2.FileRef(upload_id="u1", name="a.mp4", mime_type="video/mp4", size=5)
    chunk = snapshot_pb2.ChunkSnapshot(index=0, first_frame=0, frames=33, prompt="p")
    return snapshot_pb2.ControlSnapshot(
        session_id="s1",
        epoch=3,
        phase=4,
        mode=command_pb2.MODE_FILE,
        prompt="p",
        clip=snapshot_pb2.ClipSnapshot(video=video, width=64, height=64, num_frames=81),
        run_number=1,
        run=snapshot_pb2.RunSnapshot(
            number=1,
            frames=81,
            windows=1,
            started=True,
            unshown=[chunk],
            kept=snapshot_pb2.ModelPoint(windows=0, prompts=["p"]),
        ),
        handled=[snapshot_pb2.HandledCommand(connection_id=1, command_id="c", accepted=True)],
    )
