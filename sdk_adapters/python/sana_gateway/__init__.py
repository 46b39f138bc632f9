"""Client of sana-gateway: typed sessions over gRPC, media over gRPC or WebRTC.

    async with Client("127.0.0.1:50051") as client:
        async with await client.create_session("painter") as session:
            await session.set_prompt("a watercolour painting")

Requires only grpcio and protobuf; arrays of pixels (`Session.pictures`, `sana_gateway.camera`)
need the extra `video`, WebRTC (`Session.peer`) the extra `webrtc`. The messages themselves are
in `sana_gateway.v1`.
"""

from sana_gateway.client import Client
from sana_gateway.errors import (
    BadArgumentError,
    BadOfferError,
    BadUploadError,
    CallError,
    CommandRejected,
    ForbiddenError,
    GatewayError,
    LimitError,
    NoCapacityError,
    NotReadyError,
    PeerLostError,
    PublisherTakenError,
    SessionClosedError,
    UnauthenticatedError,
    UnavailableError,
    UnknownModelError,
    UnknownSessionError,
    UnknownUploadError,
)
from sana_gateway.media import Watch
from sana_gateway.observed import Messages
from sana_gateway.retry import RetryPolicy
from sana_gateway.session import Session
from sana_gateway.v1.command_pb2 import Command, FileRef, Mode
from sana_gateway.v1.media_pb2 import CameraFrame, Codec, VideoFrame, ViewerStats
from sana_gateway.v1.message_pb2 import Message, Phase, RejectReason, State

__all__ = [
    "BadArgumentError",
    "BadOfferError",
    "BadUploadError",
    "CallError",
    "CameraFrame",
    "Client",
    "Codec",
    "Command",
    "CommandRejected",
    "FileRef",
    "ForbiddenError",
    "GatewayError",
    "LimitError",
    "Message",
    "Messages",
    "Mode",
    "NoCapacityError",
    "NotReadyError",
    "PeerLostError",
    "Phase",
    "PublisherTakenError",
    "RejectReason",
    "RetryPolicy",
    "Session",
    "SessionClosedError",
    "State",
    "UnauthenticatedError",
    "UnavailableError",
    "UnknownModelError",
    "UnknownSessionError",
    "UnknownUploadError",
    "VideoFrame",
    "ViewerStats",
    "Watch",
]
