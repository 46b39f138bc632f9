"""gRPC over the front door: what crosses it is what was sent, and nothing waits there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from gateway.auth import SESSION
from gateway.doors import Doors
from gateway.front_door.grpc_server import FrontDoorGrpc
from gateway.front_door.routing import worker_of
from sana_gateway.v1 import media_pb2, session_pb2, session_pb2_grpc
from scheduler.core import errors
from scheduler.core.ids import Principal
from tests.fakes.changes import Changes
from tests.fakes.front_door import FakeWorkers, Methods, backends, grpc_worker

pytestmark = pytest.mark.integration

SESSION_SERVICE = "/sana_gateway.v1.SessionService/"
DETAILS = ("grpc-status-details-bin", b"\x08\x09\xff")
TOKEN = (("authorization", "Bearer user"),)
PIECE = bytes(16 * 1024)
WINDOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536))
"""A client that takes 64 KiB before it reads."""


class Tokens:
    """Knows one token."""

    def authenticate(self, token: str | None) -> Principal:
        if token != "user":
            raise errors.UnauthenticatedError("the token is unknown")
        return Principal("tenant", frozenset({SESSION}))


@dataclass
class Worker:
    """What the worker of session `s0` saw, and how it answers."""

    changes: Changes = field(default_factory=Changes)
    metadata: dict[str, Any] = field(default_factory=dict)
    remaining: float | None = None
    got: list[bytes] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    written: int = 0
    lingers: bool = False
    """Whether a stream whose requests have ended waits for `go` before it ends."""
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def get_session(self, requests: AsyncIterator[bytes], context: Any) -> None:
        self.metadata = dict(context.invocation_metadata())
        self.remaining = context.time_remaining()
        self.got = [each async for each in requests]
        session = session_pb2.Session(session_id="s0", model="painter")
        context.set_trailing_metadata((("cost", "12"),))
        await context.write(session_pb2.GetSessionResponse(session=session).SerializeToString())

    async def close_session(self, requests: AsyncIterator[bytes], context: Any) -> None:
        context.set_trailing_metadata((DETAILS, ("why-bin", b"\x00\x01")))
        context.set_code(grpc.StatusCode.FAILED_PRECONDITION)
        context.set_details("it is över")

    async def execute(self, requests: AsyncIterator[bytes], context: Any) -> None:
        self.changes.happened()
        self.got.append(b"execute")
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            self.changes.happened()
            raise

    async def upload(self, requests: AsyncIterator[bytes], context: Any) -> None:
        await context.send_initial_metadata((("sana-gateway-upload-id", "u1"),))
        async for request in requests:
            self.got.append(request)
            self.changes.happened()
        await context.write(session_pb2.UploadResponse().SerializeToString())

    async def attach(self, requests: AsyncIterator[bytes], context: Any) -> None:
        try:
            async for request in requests:
                self.got.append(request)
                await context.write(request)
            self.ended.append("half-closed")
            if self.lingers:
                await self.go.wait()
            await context.write(session_pb2.AttachResponse().SerializeToString())
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        finally:
            self.changes.happened()

    async def media(self, requests: AsyncIterator[bytes], context: Any) -> None:
        frame = media_pb2.MediaResponse(video=media_pb2.VideoFrame(data=PIECE)).SerializeToString()
        for _ in range(4096):
            await context.write(frame)
            self.written += len(frame)
            self.changes.happened()


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
async def server(worker: Worker, tmp_path: Path) -> AsyncIterator[grpc.aio.Server]:
    methods = Methods(
        GetSession=worker.get_session,
        CloseSession=worker.close_session,
        Execute=worker.execute,
        Upload=worker.upload,
        Attach=worker.attach,
        Media=worker.media,
    )
    async with grpc_worker(tmp_path, worker_of("s0", 2), methods) as running:
        yield running


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[FakeWorkers]:
    async with backends(tmp_path, 2) as made:
        yield made


@pytest.fixture
async def door(
    workers: FakeWorkers,
    server: Any,  # noqa: ARG001 - runs
) -> AsyncIterator[FrontDoorGrpc]:
    made = FrontDoorGrpc("127.0.0.1:0", Tokens(), workers.choose, Doors(), max_streams=64)
    await made.start()
    yield made
    await made.stop(None)  # type: ignore[arg-type]


@pytest.fixture
async def stub(door: FrontDoorGrpc) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(door.address, options=WINDOW) as channel:
        yield session_pb2_grpc.SessionServiceStub(channel)


def start(session_id: str = "s0") -> session_pb2.AttachRequest:
    return session_pb2.AttachRequest(start=session_pb2.AttachStart(session_id=session_id))


def watch() -> media_pb2.MediaRequest:
    return media_pb2.MediaRequest(start=media_pb2.MediaStart(session_id="s0", watch=True))


def other() -> str:
    """Returns a session of the other worker, which does not run."""
    return next(f"x{n}" for n in range(99) if worker_of(f"x{n}", 2) != worker_of("s0", 2))


async def failed(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


# -- what crosses -------------------------------------------------------------------------------


async def test_request_metadata_deadline_answer_and_trailers_cross(
    worker: Worker, stub: Any
) -> None:
    request = session_pb2.GetSessionRequest(session_id="s0")
    call = stub.GetSession(request, metadata=(*TOKEN, ("a-bin", b"\xff\x00")), timeout=7.0)
    assert (await call).session.model == "painter"
    assert dict(await call.trailing_metadata()) == {"cost": "12"}
    assert worker.got == [request.SerializeToString()]
    assert worker.metadata["a-bin"] == b"\xff\x00"
    assert worker.metadata["authorization"] == "Bearer user"
    assert worker.remaining is not None
    # gRPC rounds what is left up to the next tick of its wire format.
    assert 0 < worker.remaining < 7.5


async def test_without_a_deadline_the_worker_has_none(worker: Worker, stub: Any) -> None:
    await stub.GetSession(session_pb2.GetSessionRequest(session_id="s0"), metadata=TOKEN)
    assert worker.remaining is None


async def test_a_status_crosses_with_its_details(stub: Any) -> None:
    request = session_pb2.CloseSessionRequest(session_id="s0")
    error = await failed(stub.CloseSession(request, metadata=TOKEN))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert error.details() == "it is över"
    assert dict(error.trailing_metadata() or ()) == dict((DETAILS, ("why-bin", b"\x00\x01")))


async def test_a_deadline_ends_the_call_at_the_worker_too(worker: Worker, stub: Any) -> None:
    request = session_pb2.ExecuteRequest(session_id="s0")
    error = await failed(stub.Execute(request, metadata=TOKEN, timeout=0.3))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await worker.changes.until(lambda: worker.ended == ["cancelled"])


@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_a_client_that_gives_up_ends_the_call_at_the_worker(
    kind: str, worker: Worker, stub: Any
) -> None:
    if kind == "unary":
        call = stub.Execute(session_pb2.ExecuteRequest(session_id="s0"), metadata=TOKEN)
        await worker.changes.until(lambda: worker.got)
    else:
        worker.lingers = True  # gRPC tells a server of the end of the requests first
        call = stub.Attach(metadata=TOKEN)
        await call.write(start())
        await call.read()
    call.cancel()
    await worker.changes.until(lambda: worker.ended[-1:] == ["cancelled"])


async def test_a_half_closed_stream_is_half_closed_there_and_answered(
    worker: Worker, stub: Any
) -> None:
    call = stub.Attach(metadata=TOKEN)
    await call.write(start())
    await call.read()
    await call.done_writing()
    assert await call.read() == session_pb2.AttachResponse()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK
    assert worker.ended == ["half-closed"]


async def test_initial_metadata_comes_before_the_answer(worker: Worker, stub: Any) -> None:
    call = stub.Upload(metadata=TOKEN)
    begin = session_pb2.UploadStart(session_id="s0", name="clip", size=2)
    await call.write(session_pb2.UploadRequest(start=begin))
    assert dict(await call.initial_metadata())["sana-gateway-upload-id"] == "u1"
    await call.write(session_pb2.UploadRequest(data=b"xy"))
    await worker.changes.until(lambda: len(worker.got) == 2)
    await call.done_writing()
    assert await call == session_pb2.UploadResponse()


# -- who is down --------------------------------------------------------------------------------


async def test_a_worker_that_dies_in_mid_call_is_unavailable_without_our_paths(
    server: grpc.aio.Server, stub: Any, tmp_path: Path
) -> None:
    call = stub.Attach(metadata=TOKEN)
    await call.write(start())
    await call.read()
    await server.stop(None)
    error = await failed(call.read())
    # An orderly stop cancels calls; a killed worker's just break off.
    assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    request = session_pb2.GetSessionRequest(session_id="s0")
    error = await failed(stub.GetSession(request, metadata=TOKEN))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert str(tmp_path) not in str(error.details())
    assert retry_after(error) == 1


@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_calls_for_a_worker_that_is_down_are_answered_at_once(
    kind: str, workers: FakeWorkers, stub: Any
) -> None:
    session_id = other()
    workers.all[worker_of(session_id, 2)].backend = None
    if kind == "unary":
        request = session_pb2.GetSessionRequest(session_id=session_id)
        error = await failed(stub.GetSession(request, metadata=TOKEN))
    else:
        call = stub.Attach(metadata=TOKEN)
        await call.write(start(session_id))
        error = await failed(call.read())
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert retry_after(error) == 1


def retry_after(error: Any) -> int:
    info = error_details_pb2.RetryInfo()
    status = rpc_status.from_call(error)
    assert status is not None
    assert status.details[0].Unpack(info)
    return int(info.retry_delay.seconds)


# -- who is slow --------------------------------------------------------------------------------


async def test_a_viewer_that_does_not_read_stops_its_worker_and_nobody_else(
    worker: Worker, stub: Any
) -> None:
    slow = stub.Media(metadata=TOKEN)
    await slow.write(watch())
    assert (await slow.read()).video.data == PIECE
    await quiet(worker)
    # Two windows, the sockets between, and a message here or there: of 64 MiB.
    assert worker.written < 4 * 1024 * 1024
    call = stub.Attach(metadata=TOKEN)
    await call.write(start())
    await call.read()
    call.cancel()
    assert (await slow.read()).video.data == PIECE
    slow.cancel()


async def quiet(worker: Worker) -> None:
    """Waits until the worker has written nothing for a while."""
    with suppress(TimeoutError):
        while True:
            await worker.changes.until(partial(grown, worker, worker.written), 0.5)


def grown(worker: Worker, known: int) -> bool:
    return worker.written > known


# -- who is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer wrong"),)])
async def test_who_is_not_known_reaches_no_worker(
    metadata: Any, workers: FakeWorkers, stub: Any
) -> None:
    request = session_pb2.GetSessionRequest(session_id="s0")
    error = await failed(stub.GetSession(request, metadata=metadata))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    call = stub.Attach(metadata=metadata)
    error = await failed(call.read())
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert workers.routes == []


async def test_garbage_reaches_no_worker(workers: FakeWorkers, door: FrontDoorGrpc) -> None:
    async with grpc.aio.insecure_channel(door.address) as channel:
        get: Any = channel.unary_unary(SESSION_SERVICE + "GetSession")  # type: ignore[call-arg]
        error = await failed(get(b"\xff\xff\xff", metadata=TOKEN))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        unknown: Any = channel.unary_unary(SESSION_SERVICE + "Steal")  # type: ignore[call-arg]
        error = await failed(unknown(b"", metadata=TOKEN))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert workers.routes == []


async def test_health_and_reflection_are_its_own(door: FrontDoorGrpc) -> None:
    async with grpc.aio.insecure_channel(door.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        serving = health_pb2.HealthCheckResponse
        assert (await check(health_pb2.HealthCheckRequest())).status == serving.NOT_SERVING
        await door.tell(healthy=True, ready=True, started=True)
        assert (await check(health_pb2.HealthCheckRequest())).status == serving.SERVING
        await door.begin_stop()
        assert (await check(health_pb2.HealthCheckRequest())).status == serving.NOT_SERVING
        reflect: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = reflect.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = (await call.read()).list_services_response.service
        assert "sana_gateway.v1.SessionService" in {each.name for each in listed}
        call.cancel()
