"""What the service refuses: with a clear error, and with the session as it was."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection

from sana_gateway import (
    BadOfferError,
    BadUploadError,
    CallError,
    Client,
    CommandRejected,
    Phase,
    RejectReason,
    Session,
    UnknownModelError,
    UnknownSessionError,
)
from sana_gateway.errors import from_rpc_error
from sana_gateway.v1 import error_pb2, media_pb2, session_pb2
from tests.e2e.driving import Told, stage, stage_another, watching
from tests.media import clips
from tests.media.clips import Recipe
from tests.stack import Stack

pytestmark = pytest.mark.e2e

ATTACH = "/sana_gateway.v1.SessionService/Attach"
NOWHERE = "s" + "0" * 32


def truncated(path: Path) -> None:
    whole = clips.make(path.with_suffix(".whole"), Recipe()).read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])


BAD_CLIPS: dict[str, Callable[[Path], object]] = {
    "32 frames": lambda path: clips.make(path, Recipe(frames=32)),
    "truncated": truncated,
    "not a video": lambda path: path.write_text("no video " * 1000),
    "decompression bomb": lambda path: clips.still(path, 8192, 8192, "yuvj420p", 40),
}


@pytest.fixture
async def session(client: Client) -> AsyncIterator[Session]:
    async with await client.create_session("simulated") as made:
        yield made


@pytest.fixture
async def http(simulated: Stack) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(simulated.http_url) as made:
        yield made


async def post(http: aiohttp.ClientSession, path: str, body: object) -> tuple[int, dict[str, Any]]:
    async with http.post(path, json=body) as response:
        return response.status, await response.json()


async def reactor_session(http: aiohttp.ClientSession) -> str:
    status, shown = await post(http, "/sessions", {"model": {"name": "simulated"}})
    assert status == 201
    return str(shown["session_id"])


async def sdp_without_video() -> str:
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        peer.createDataChannel("control")
        await peer.setLocalDescription(await peer.createOffer())
        return peer.localDescription.sdp
    finally:
        await peer.close()


@pytest.mark.parametrize("kind", BAD_CLIPS)
async def test_a_clip_that_cannot_be_used_leaves_the_session_as_it_was(
    client: Client, session: Session, clip: Path, tmp_path: Path, kind: str
) -> None:
    told = Told(session)
    await stage(session, clip)
    before = session.state
    path = tmp_path / "bad.mp4"
    BAD_CLIPS[kind](path)
    refused = await stage_another(session, told, path)
    assert refused.code == RejectReason.Value("REJECT_REASON_BAD_VIDEO")
    assert refused.command == "set_video"
    assert len(refused.reason) > 10
    assert session.state == before
    accepted = await stage_another(session, told, clip)
    assert accepted.num_frames == 40
    async with watching(client, session) as screen:
        await session.start()
        await screen.until(lambda: screen.items)


@pytest.mark.parametrize("sent", [500, 1500])
async def test_an_upload_of_the_wrong_length_is_refused_over_grpc(
    client: Client, session: Session, clip: Path, sent: int
) -> None:
    before = session.state
    call: Any = client.stub.Upload()  # type: ignore[call-arg]
    start = session_pb2.UploadStart(
        session_id=session.session_id, name="clip.mp4", mime_type="video/mp4", size=1000
    )
    await call.write(session_pb2.UploadRequest(start=start))
    await call.write(session_pb2.UploadRequest(data=bytes(sent)))
    await call.done_writing()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = from_rpc_error(caught.value)
    assert isinstance(error, BadUploadError)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason == error_pb2.ERROR_REASON_BAD_UPLOAD
    assert session.state == before
    await stage(session, clip)


@pytest.mark.parametrize("sent", [500, 1500])
async def test_an_upload_of_the_wrong_length_is_refused_over_http(
    http: aiohttp.ClientSession, sent: int
) -> None:
    path = f"/sessions/{await reactor_session(http)}/uploads"
    slot = {"name": "clip.mp4", "mime_type": "video/mp4", "size": 1000}
    status, made = await post(http, path, slot)
    assert status == 201
    async with http.put(made["presigned_url"], data=bytes(sent)) as response:
        assert response.status == 400
        assert (await response.json())["reason"] == "BAD_UPLOAD"
    async with http.put(made["presigned_url"], data=bytes(1000)) as response:
        assert response.status == 200


@pytest.mark.parametrize("name", ["pause", "resume"])
async def test_a_command_that_is_not_allowed_now_says_when_it_is(
    session: Session, clip: Path, name: str
) -> None:
    await stage(session, clip)
    before = session.state
    with pytest.raises(CommandRejected) as caught:
        await getattr(session, name)()
    assert caught.value.code == RejectReason.Value("REJECT_REASON_WRONG_PHASE")
    assert caught.value.phase == Phase.Value("PHASE_IDLE")
    assert caught.value.allowed_phases
    assert Phase.Value("PHASE_IDLE") not in caught.value.allowed_phases
    assert session.state == before


@pytest.mark.parametrize(
    ("reason", "has_clip"), [("REJECT_REASON_NO_PROMPT", True), ("REJECT_REASON_NO_SOURCE", False)]
)
async def test_start_needs_a_prompt_and_a_clip(
    session: Session, clip: Path, reason: str, has_clip: bool
) -> None:
    await session.set_mode("file")
    if has_clip:
        await session.set_video(await session.upload(clip))
    else:
        await session.set_prompt("a pencil drawing")
    with pytest.raises(CommandRejected) as caught:
        await session.start()
    assert caught.value.code == RejectReason.Value(reason)
    assert session.state is not None
    assert not session.state.started


@pytest.mark.parametrize("first", [True, False])
async def test_what_is_no_message_is_refused_on_attach(
    client: Client, session: Session, clip: Path, first: bool
) -> None:
    start = session_pb2.AttachStart(session_id=session.session_id)
    call: Any = client.channel.stream_stream(ATTACH)()
    if not first:
        await call.write(session_pb2.AttachRequest(start=start).SerializeToString())
    await call.write(b"\xff\xff\xff")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await stage(session, clip)


@pytest.mark.parametrize("body", ["{", "[1, 2", '"name"', "[]", "\x00"])
async def test_what_is_no_json_object_is_refused_over_http(
    http: aiohttp.ClientSession, body: str
) -> None:
    async with http.post("/sessions", data=body) as response:
        assert response.status == 400
        assert (await response.json())["reason"] == "BAD_ARGUMENT"


async def test_an_offer_without_video_is_refused_by_signal(session: Session, clip: Path) -> None:
    with pytest.raises(BadOfferError) as caught:
        await session.offer(await sdp_without_video(), {"0": "main_video"})
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(BadOfferError):
        await session.offer("no sdp at all", {"0": "main_video"})
    await stage(session, clip)


async def test_an_offer_without_video_is_refused_by_the_reactor_route(
    http: aiohttp.ClientSession,
) -> None:
    path = f"/sessions/{await reactor_session(http)}/transport/webrtc/connections"
    _, made = await post(http, path, {})
    offer = {
        "sdp_offer": await sdp_without_video(),
        "track_mapping": [{"mid": "0", "name": "main_video"}],
    }
    answer = f"{path}/{made['connection_id']}/sdp_params"
    status, said = await post(http, answer, offer)
    while status == 202:
        async with http.get(answer) as response:
            status, said = response.status, await response.json()
    assert (status, said["reason"]) == (422, "BAD_OFFER")


async def drain(call: Any, request: object) -> None:
    await call.write(request)
    async for _ in call:
        pass


CALLS: dict[str, Callable[[Client], Any]] = {
    "GetSession": lambda client: client.stub.GetSession(
        session_pb2.GetSessionRequest(session_id=NOWHERE)
    ),
    "CloseSession": lambda client: client.stub.CloseSession(
        session_pb2.CloseSessionRequest(session_id=NOWHERE)
    ),
    "Signal": lambda client: client.stub.Signal(
        session_pb2.SignalRequest(session_id=NOWHERE, hangup=session_pb2.Hangup())
    ),
    "GetUpload": lambda client: client.stub.GetUpload(
        session_pb2.GetUploadRequest(session_id=NOWHERE, upload_id="u")
    ),
    "Attach": lambda client: drain(
        client.stub.Attach(),  # type: ignore[call-arg]
        session_pb2.AttachRequest(start=session_pb2.AttachStart(session_id=NOWHERE)),
    ),
    "Media": lambda client: drain(
        client.stub.Media(),  # type: ignore[call-arg]
        media_pb2.MediaRequest(start=media_pb2.MediaStart(session_id=NOWHERE, watch=True)),
    ),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_session_that_nobody_knows_is_not_found_over_grpc(
    client: Client, name: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await CALLS[name](client)
    error = from_rpc_error(caught.value)
    assert isinstance(error, UnknownSessionError)
    assert error.code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/info"),
        ("DELETE", ""),
        ("POST", "/uploads"),
        ("POST", "/transport/webrtc/connections"),
    ],
)
async def test_a_session_that_nobody_knows_is_not_found_over_http(
    http: aiohttp.ClientSession, method: str, path: str
) -> None:
    async with http.request(method, f"/sessions/{NOWHERE}{path}", json={}) as response:
        assert response.status == 404
        assert (await response.json())["reason"] == "UNKNOWN_SESSION"


async def test_a_model_that_is_not_served_is_answered_with_those_that_are(
    client: Client, http: aiohttp.ClientSession
) -> None:
    with pytest.raises(UnknownModelError) as caught:
        await client.create_session("no-such-model")
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
    status, said = await post(http, "/sessions", {"model": {"name": "no-such-model"}})
    assert status == 404
    for served in (caught.value.served_models, said["served_models"]):
        assert {"simulated", "sana-streaming", "reactor/sana-streaming"} <= set(served)


async def test_a_session_that_has_ended_takes_no_command_and_says_why(
    client: Client, session: Session
) -> None:
    await client.close_session(session.session_id)
    with pytest.raises(CallError):
        await session.set_prompt("too late")
    assert session.end_reason == "closed by the client"
    assert (await session.describe()).close_reason == "closed by the client"
