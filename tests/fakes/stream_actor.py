"""An actor without a model, behind the real wire: it plays numbered frames for ever."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from sana_gateway.v1 import command_pb2, message_pb2
from sana_gateway_internal.v1 import snapshot_pb2, stream_pb2, stream_pb2_grpc
from tests.fakes.changes import Changes

RUN = 1
CHUNK = 12
"""Frames of a chunk."""
RATE = 240.0
"""Frames per second."""
AHEAD = 2
"""Chunks that are announced and not yet committed."""

SERVER_OPTIONS = (("grpc.http2.min_ping_interval_without_data_ms", 500),)
"""Gateways ping every second."""

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(eq=False)
class Played:
    """A session at a fake actor. Its snapshot keeps the next frame to make as the run's seed."""

    session_id: str
    epoch: int
    shell: bool
    """Whether it waits for what it is to go on from."""
    kept: snapshot_pb2.ControlSnapshot | None = None
    """What the actor has kept of it."""
    opens: list[stream_pb2.Open] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    commits: list[int] = field(default_factory=list)
    made: int = 0
    first_chunk: int = 0
    """The first that is made here; those before were announced by another actor."""
    revision: int = 0
    outputs: dict[tuple[int, int], bool] = field(default_factory=dict)
    """Whether an output that is wanted has begun."""
    unsent: list[tuple[int, int]] = field(default_factory=list)
    """(chunk, frame) of what was announced before anybody wanted it."""
    handed_over: bool = False
    left: bool = False

    def snapshot(self, host: str) -> snapshot_pb2.ControlSnapshot:
        return snapshot_pb2.ControlSnapshot(
            session_id=self.session_id, epoch=self.epoch, revision=self.revision, host=host,
            run_number=RUN, run_seed=self.made, streaming=True,
        )  # fmt: skip


class StreamActor(stream_pb2_grpc.StreamServicer):
    """Serves one gateway. `kill` ends it as a signal would: in the middle of everything."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.address = f"unix:{folder / name}"
        self.sessions: dict[str, Played] = {}
        self.changes = Changes()
        self.refuses_restored = False
        """Whether sessions that were handed over are refused here."""
        self.silent = False
        """Whether a hand-over is not answered."""
        self._control: asyncio.Queue[stream_pb2.ControlResponse] = asyncio.Queue()
        self._media: asyncio.Queue[stream_pb2.MediaResponse] = asyncio.Queue()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        stream_pb2_grpc.add_StreamServicer_to_server(self, self._server)
        self._server.add_insecure_port(self.address)
        await self._server.start()

    async def kill(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(None)

    def admit(
        self,
        session_id: str,
        epoch: int,
        *,
        restore: bool = False,
        kept: snapshot_pb2.ControlSnapshot | None = None,
    ) -> Played:
        """The scheduler has placed a session here."""
        played = self.sessions[session_id] = Played(session_id, epoch, restore, kept)
        return played

    async def Control(  # noqa: N802 - the generated name
        self, request_iterator: AsyncIterator[stream_pb2.ControlRequest], context: Context
    ) -> AsyncIterator[stream_pb2.ControlResponse]:
        async def read() -> None:
            async for request in request_iterator:
                for each in request.more or (request,):
                    self._handle(each)
                    self.changes.happened()

        reader = asyncio.create_task(read())
        try:
            while True:
                yield await self._control.get()
        finally:
            reader.cancel()

    async def Media(  # noqa: N802 - the generated name
        self, request_iterator: AsyncIterator[stream_pb2.MediaRequest], context: Context
    ) -> AsyncIterator[stream_pb2.MediaResponse]:
        while True:
            yield await self._media.get()

    def _handle(self, request: stream_pb2.ControlRequest) -> None:
        kind = request.WhichOneof("request") or ""
        handler = getattr(self, f"_{kind}", None)
        if handler is not None:
            told = getattr(request, kind)
            session = self.sessions.get(told.session_id)
            if session is None:
                self._tell(told.session_id, refused=stream_pb2.Refused(reason="not here"))
            else:
                handler(session, told)

    def _open(self, session: Played, told: stream_pb2.Open) -> None:
        session.opens.append(told)
        if told.standby:
            self._tell(session.session_id, opened=stream_pb2.Opened(standby=True))
            return
        begins = not session.made
        if session.shell:
            if told.restore.handed_over and self.refuses_restored:
                self._tell(session.session_id, refused=stream_pb2.Refused(reason="cannot"))
                return
            restore = told.restore
            known = restore.snapshot if restore.HasField("snapshot") else session.kept
            if known is None:
                refused = stream_pb2.Refused(reason="no snapshot", needs_snapshot=True)
                self._tell(session.session_id, refused=refused)
                return
            session.revision = max(restore.revision, known.revision)
            exact = restore.handed_over or restore.run != RUN
            session.made = known.run_seed if exact else restore.next_frame
            session.shell, begins = False, known.streaming
            session.first_chunk = session.made // CHUNK
        self._tell(session.session_id, opened=stream_pb2.Opened(epoch=session.epoch))
        self._say(session)
        if begins:
            for _ in range(AHEAD):
                self._make(session)

    def _command(self, session: Played, told: stream_pb2.SessionCommand) -> None:
        if session.handed_over:
            return
        session.commands.append(told.command.command_id)
        ack = stream_pb2.SessionAck(
            connection_id=told.connection_id, command_id=told.command.command_id, accepted=True
        )
        self._say(session)
        self._tell(session.session_id, ack=ack)

    def _commit(self, session: Played, told: stream_pb2.Commit) -> None:
        session.commits.append(told.chunk)
        if not session.handed_over and told.chunk >= session.first_chunk:
            self._make(session)

    def _output(self, session: Played, told: stream_pb2.OutputDemand) -> None:
        key = (told.output.codec, told.output.rung)
        if not told.wanted:
            session.outputs.pop(key, None)
        elif key not in session.outputs or told.keyframe:
            session.outputs[key] = False
        unsent, session.unsent = session.unsent, []
        for chunk, frame in unsent:
            self._send(session, chunk, frame)

    def _hand_over(self, session: Played, _: stream_pb2.HandOver) -> None:
        if not self.silent and not session.handed_over:
            session.handed_over = True
            handed = stream_pb2.HandedOver(snapshot=session.snapshot(self.name))
            self._tell(session.session_id, handed_over=handed)

    def _copy(self, session: Played, told: stream_pb2.Copy) -> None:
        copied = stream_pb2.Copied(snapshot=session.snapshot(self.name), copies=told.copies)
        self._tell(session.session_id, copied=copied)

    def _leave(self, session: Played, _: stream_pb2.Leave) -> None:
        session.left = True

    def _say(self, session: Played) -> None:
        session.revision += 1
        state = message_pb2.State(running=True, started=True, mode=command_pb2.MODE_FILE)
        message = message_pb2.Message(revision=session.revision, state=state)
        self._tell(session.session_id, message=stream_pb2.SessionMessage(message=message))

    def _make(self, session: Played) -> None:
        """Announces the next chunk, or what is left of it, and sends its frames."""
        first, chunk = session.made, session.made // CHUNK
        session.made = (chunk + 1) * CHUNK
        ready = stream_pb2.ChunkReady(
            run=RUN, chunk=chunk, first_frame=first, frames=session.made - first, frame_rate=RATE
        )
        self._tell(session.session_id, chunk=ready)
        for frame in range(first, session.made):
            self._send(session, chunk, frame)
        taken = stream_pb2.SnapshotTaken(snapshot=session.snapshot(self.name))
        self._tell(session.session_id, snapshot=taken)

    def _send(self, session: Played, chunk: int, frame: int) -> None:
        if not session.outputs:
            session.unsent.append((chunk, frame))
        for (codec, rung), begun in list(session.outputs.items()):
            session.outputs[codec, rung] = True
            packet = stream_pb2.VideoPacket(
                session_id=session.session_id, epoch=session.epoch, run=RUN, chunk=chunk,
                frame=frame, keyframe=not begun, data=self.name.encode(),
                output=stream_pb2.Output(codec=codec, rung=rung),  # type: ignore[arg-type]
            )  # fmt: skip
            self._media.put_nowait(stream_pb2.MediaResponse(packets=[packet]))

    def _tell(self, session_id: str, **response: Any) -> None:
        (kind,) = response
        response[kind].session_id = session_id
        self._control.put_nowait(stream_pb2.ControlResponse(**response))


async def _serve(path: Path) -> None:
    """Serves until killed; says on the standard output when it does."""
    await StreamActor(path.name, path.parent).start()
    print("serving", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1].removeprefix("unix:"))))
