"""The public session service: from messages to calls on the hub, no business rules."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

import structlog

from gateway.grpc_api.attach import AttachSink, read_commands
from gateway.grpc_api.commands import ID_LENGTH
from gateway.grpc_api.errors import StreamError
from gateway.grpc_api.execute import ANSWER_S, execute
from gateway.grpc_api.interceptors import caller, carrier
from gateway.grpc_api.media import MediaCall, check_start
from gateway.grpc_api.peers import MediaOnlySink, SignalledPeers
from gateway.grpc_api.queues import MediaOutbox
from gateway.grpc_api.streams import Streams, first
from gateway.ingress import IngressServices
from gateway.ports import UploadRecord
from sana_gateway.v1 import media_pb2, session_pb2, session_pb2_grpc
from scheduler.core.errors import BadArgumentError, BadUploadError

if TYPE_CHECKING:
    from sana_gateway.v1.session_pb2_grpc import _ServicerContext as Context

PIECE_BYTES: Final = 1024 * 1024
"""Most bytes of one piece of an upload."""
UPLOAD_ID_KEY: Final = "sana-gateway-upload-id"
"""Initial metadata of Upload: the id by which an interrupted upload goes on."""

_LOG: Final = structlog.get_logger("gateway.grpc_api")


class SessionService(session_pb2_grpc.SessionServiceServicer):
    """Serves `sana_gateway.v1.SessionService`."""

    def __init__(self, services: IngressServices) -> None:
        self._hub = services.hub
        self._uploads = services.uploads
        self._peers = SignalledPeers(services.peers)
        self._streams = Streams()

    def stop_streams(self) -> None:
        """Ends Attach and Media calls, so that their clients turn to another gateway."""
        self._streams.stop()

    async def close(self) -> None:
        """Ends the WebRTC peers."""
        await self._peers.close()

    async def CreateSession(  # noqa: N802 - named by the contract
        self,
        request: session_pb2.CreateSessionRequest,
        context: Context,  # noqa: ARG002
    ) -> session_pb2.CreateSessionResponse:
        """Creates a session."""
        _check_request_id(request.request_id)
        session = await self._hub.create(caller(), request.model, request.request_id)
        if request.journal_content:
            session.keep_journal_content()
        _LOG.info("session created", session_id=session.session_id)
        return session_pb2.CreateSessionResponse(session=session.describe())

    async def GetSession(  # noqa: N802
        self,
        request: session_pb2.GetSessionRequest,
        context: Context,  # noqa: ARG002
    ) -> session_pb2.GetSessionResponse:
        """Returns a session."""
        session = await self._hub.find(caller(), request.session_id)
        return session_pb2.GetSessionResponse(session=session.describe())

    async def CloseSession(  # noqa: N802
        self,
        request: session_pb2.CloseSessionRequest,
        context: Context,  # noqa: ARG002
    ) -> session_pb2.CloseSessionResponse:
        """Ends a session."""
        await self._hub.close(caller(), request.session_id, "closed by the client")
        return session_pb2.CloseSessionResponse()

    async def ForkSession(  # noqa: N802
        self,
        request: session_pb2.ForkSessionRequest,
        context: Context,  # noqa: ARG002
    ) -> session_pb2.ForkSessionResponse:
        """Copies a session."""
        _check_request_id(request.request_id)
        made = await self._hub.fork(
            caller(), request.session_id, request.copies, request.request_id
        )
        return session_pb2.ForkSessionResponse(sessions=[each.describe() for each in made])

    async def Attach(  # type: ignore[override] # noqa: N802 - writes through the context
        self, request_iterator: AsyncIterator[session_pb2.AttachRequest], context: Context
    ) -> None:
        """Connects the stream to its session until either ends."""
        opening = await first(request_iterator)
        if opening.WhichOneof("request") != "start":
            raise BadArgumentError("the first request must be start")
        start = opening.start
        session = await self._hub.find(caller(), start.session_id)
        resume = start.resume_after_revision if start.HasField("resume_after_revision") else None
        sink = AttachSink()
        connection, gap = session.connect(sink, resume_after=resume)
        sink.attached.connection_id, sink.attached.gap = connection.connection_id, gap
        log = _LOG.bind(session_id=session.session_id, connection_id=connection.connection_id)
        log.debug("attached", gap=gap)

        async def write(response: session_pb2.AttachResponse) -> None:
            await context.write(sink.response(response))

        commands = read_commands(
            request_iterator, connection, carrier(context.invocation_metadata())
        )
        try:
            await self._streams.run(sink.outbox, write, commands)
        finally:
            connection.close()
            log.debug("detached")

    async def Execute(  # noqa: N802
        self, request: session_pb2.ExecuteRequest, context: Context
    ) -> session_pb2.ExecuteResponse:
        """Sends one command and returns what it was answered with."""
        session = await self._hub.find(caller(), request.session_id)
        # A call with a deadline is ended by gRPC itself.
        limit = ANSWER_S if context.time_remaining() is None else None
        return await execute(session, request.command, limit_s=limit)

    async def Media(  # type: ignore[override] # noqa: N802 - writes through the context
        self, request_iterator: AsyncIterator[media_pb2.MediaRequest], context: Context
    ) -> None:
        """Carries encoded frames until either side ends."""
        opening = await first(request_iterator)
        if opening.WhichOneof("request") != "start":
            raise BadArgumentError("the first request must be start")
        check_start(opening.start)
        session = await self._hub.find(caller(), opening.start.session_id)
        await session.wait_ready()
        outbox = MediaOutbox()
        sink = MediaOnlySink()
        sink.on_ended, sink.on_camera_keyframe = outbox.close, outbox.ask_keyframe
        connection, _ = session.connect(sink)
        try:
            call = MediaCall(opening.start, connection, outbox)
            call.open()
            await self._streams.run(outbox, context.write, call.read(request_iterator))
        finally:
            connection.close()
            if outbox.frames.dropped:
                _LOG.info(
                    "frames dropped for a slow viewer",
                    session_id=session.session_id,
                    frames=outbox.frames.dropped,
                )

    async def Signal(  # noqa: N802
        self,
        request: session_pb2.SignalRequest,
        context: Context,  # noqa: ARG002
    ) -> session_pb2.SignalResponse:
        """Answers an offer, or passes on what belongs to one."""
        number = request.connection_id
        session = await self._hub.find(caller(), request.session_id)
        match request.WhichOneof("signal"):
            case "offer":
                number, answer = await self._peers.offer(session, number, request.offer)
                return session_pb2.SignalResponse(connection_id=number, sdp_answer=answer)
            case "candidates":
                candidates = request.candidates.candidates
                await self._peers.candidates(session.session_id, number, candidates)
            case "hangup":
                await self._peers.hangup(session.session_id, number)
            case _:
                raise BadArgumentError("the request holds no signal")
        return session_pb2.SignalResponse(connection_id=number)

    async def Upload(  # noqa: N802
        self, request_iterator: AsyncIterator[session_pb2.UploadRequest], context: Context
    ) -> session_pb2.UploadResponse:
        """Stores the pieces of a clip. A call with a start alone only makes room."""
        opening = await first(request_iterator)
        if opening.WhichOneof("request") != "start":
            raise BadArgumentError("the first request must be start")
        start = opening.start
        session_id = (await self._hub.find(caller(), start.session_id)).session_id
        upload = await self._opened(session_id, start)
        metadata = ((UPLOAD_ID_KEY, upload.file.upload_id),)
        await context.send_initial_metadata(metadata)  # type: ignore[misc,func-returns-value]
        pieces = 0
        async for request in request_iterator:
            if not 1 <= len(request.data) <= PIECE_BYTES:
                raise BadArgumentError(f"a piece must have 1 to {PIECE_BYTES} bytes")
            upload = await self._uploads.write(
                session_id, upload.file.upload_id, start.offset + pieces, request.data
            )
            pieces += len(request.data)
        if pieces and not upload.complete:
            fault = BadUploadError("the stream ended before the announced size was reached")
            raise StreamError(fault, upload_id=upload.file.upload_id, received=upload.received)
        return session_pb2.UploadResponse(upload=_status(upload))

    async def GetUpload(  # noqa: N802
        self,
        request: session_pb2.GetUploadRequest,
        context: Context,  # noqa: ARG002
    ) -> session_pb2.GetUploadResponse:
        """Tells how far an upload has come."""
        session = await self._hub.find(caller(), request.session_id)
        upload = self._uploads.find(session.session_id, request.upload_id)
        return session_pb2.GetUploadResponse(upload=_status(upload))

    async def _opened(self, session_id: str, start: session_pb2.UploadStart) -> UploadRecord:
        if start.upload_id:
            upload = self._uploads.find(session_id, start.upload_id)
        else:
            upload = await self._uploads.reserve(
                session_id, start.name, start.mime_type, start.size
            )
        if start.offset != upload.received:
            fault = BadUploadError("the offset is not where the upload has come to")
            raise StreamError(fault, upload_id=upload.file.upload_id, received=upload.received)
        if start.size != upload.file.size:
            raise BadUploadError("the size is not the one announced first")
        return upload


def _check_request_id(request_id: str) -> None:
    if len(request_id) > ID_LENGTH:
        raise BadArgumentError(f"request_id has more than {ID_LENGTH} characters")


def _status(upload: UploadRecord) -> session_pb2.UploadStatus:
    return session_pb2.UploadStatus(
        file=upload.file, received=upload.received, complete=upload.complete
    )
