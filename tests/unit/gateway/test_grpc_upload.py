"""Upload on the wire: pieces, resume, wrong lengths."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from gateway.grpc_api.session_service import PIECE_BYTES, UPLOAD_ID_KEY
from sana_gateway.v1 import session_pb2, session_pb2_grpc
from tests.fakes.grpc_gateway import grpc_gateway
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services
from tests.fakes.uploads import FakeUploads

pytestmark = pytest.mark.unit

if TYPE_CHECKING:
    Stub = session_pb2_grpc.SessionServiceAsyncStub

CLIP = bytes(range(256)) * 16


@pytest.fixture
def uploads() -> FakeUploads:
    return FakeUploads(max_bytes=4 * PIECE_BYTES)


@pytest.fixture
async def stub(uploads: FakeUploads) -> AsyncIterator[Stub]:
    async with (
        grpc_gateway(fake_services(FakeHub(), uploads=uploads)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        made: Stub = session_pb2_grpc.SessionServiceStub(channel)
        await made.CreateSession(session_pb2.CreateSessionRequest(model="painter"))
        yield made


def begin(**start: Any) -> session_pb2.UploadRequest:
    fields = {"session_id": "session-1", "name": "clip.mp4", "size": len(CLIP), **start}
    return session_pb2.UploadRequest(start=session_pb2.UploadStart(**fields))


def piece(data: bytes) -> session_pb2.UploadRequest:
    return session_pb2.UploadRequest(data=data)


async def upload(stub: Stub, *requests: session_pb2.UploadRequest) -> session_pb2.UploadStatus:
    response = await stub.Upload(iter(requests))
    return response.upload


async def refused(stub: Stub, *requests: session_pb2.UploadRequest) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Upload(iter(requests))
    return caught.value


def info(error: Any) -> error_details_pb2.ErrorInfo:
    found = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)
    assert status is not None
    assert status.details[0].Unpack(found)
    return found


async def test_pieces_make_a_clip(uploads: FakeUploads, stub: Stub) -> None:
    status = await upload(stub, begin(mime_type="video/mp4"), piece(CLIP[:100]), piece(CLIP[100:]))
    assert (status.received, status.complete) == (len(CLIP), True)
    assert (status.file.name, status.file.mime_type) == ("clip.mp4", "video/mp4")
    assert uploads.uploads["session-1", status.file.upload_id].data == CLIP


async def test_the_id_is_known_before_the_first_piece(uploads: FakeUploads, stub: Stub) -> None:
    call: Any = stub.Upload()  # type: ignore[call-arg]
    await call.write(begin())
    metadata = dict(await call.initial_metadata())
    assert ("session-1", metadata[UPLOAD_ID_KEY]) in uploads.uploads
    call.cancel()


async def test_an_interrupted_upload_goes_on_where_it_broke_off(
    uploads: FakeUploads, stub: Stub
) -> None:
    reserved = await upload(stub, begin())
    upload_id = reserved.file.upload_id
    assert (reserved.received, reserved.complete) == (0, False)
    error = await refused(stub, begin(upload_id=upload_id), piece(CLIP[:100]))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert info(error).reason == "BAD_UPLOAD"
    assert dict(info(error).metadata) == {"upload_id": upload_id, "received": "100"}
    asked = session_pb2.GetUploadRequest(session_id="session-1", upload_id=upload_id)
    found = (await stub.GetUpload(asked)).upload
    assert (found.received, found.complete) == (100, False)
    status = await upload(stub, begin(upload_id=upload_id, offset=100), piece(CLIP[100:]))
    assert status.complete
    assert uploads.uploads["session-1", upload_id].data == CLIP


@pytest.mark.parametrize(
    ("requests", "reason"),
    [
        ([begin(), piece(CLIP), piece(b"x")], "BAD_UPLOAD"),
        ([begin(offset=1), piece(CLIP)], "BAD_UPLOAD"),
        ([begin(size=0)], "BAD_ARGUMENT"),
        ([begin(name="")], "BAD_ARGUMENT"),
        ([begin(), piece(b"")], "BAD_ARGUMENT"),
        ([begin(size=2 * PIECE_BYTES), piece(b"x" * (PIECE_BYTES + 1))], "BAD_ARGUMENT"),
        ([begin(), begin()], "BAD_ARGUMENT"),
        ([piece(CLIP)], "BAD_ARGUMENT"),
        ([], "BAD_ARGUMENT"),
    ],
    ids=["too long", "ahead", "no size", "no name", "empty", "huge piece", "twice", "bare", "none"],
)
async def test_an_upload_that_makes_no_sense_is_an_invalid_argument(
    stub: Stub, requests: list[session_pb2.UploadRequest], reason: str
) -> None:
    error = await refused(stub, *requests)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert info(error).reason == reason


async def test_going_on_with_another_size_is_refused(stub: Stub) -> None:
    reserved = await upload(stub, begin())
    error = await refused(stub, begin(upload_id=reserved.file.upload_id, size=1))
    assert info(error).reason == "BAD_UPLOAD"


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        (begin(upload_id="nobody"), grpc.StatusCode.NOT_FOUND, "UNKNOWN_UPLOAD"),
        (begin(session_id="nobody"), grpc.StatusCode.NOT_FOUND, "UNKNOWN_SESSION"),
        (begin(size=5 * PIECE_BYTES), grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT"),
    ],
)
async def test_an_upload_to_nowhere_or_over_the_limit_is_refused(
    stub: Stub, request_: session_pb2.UploadRequest, code: grpc.StatusCode, reason: str
) -> None:
    error = await refused(stub, request_)
    assert (error.code(), info(error).reason) == (code, reason)


async def test_an_unknown_upload_is_not_found(stub: Stub) -> None:
    asked = session_pb2.GetUploadRequest(session_id="session-1", upload_id="x")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetUpload(asked)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
