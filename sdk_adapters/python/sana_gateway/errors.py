"""The errors of this library: one tree.

    GatewayError                     root
    +-- CommandRejected              a session refused a command
    +-- PeerLostError                a WebRTC peer could not connect, or was cut off
    +-- CallError                    a call failed
        +-- UnavailableError         nobody answers, or the gateway stops
        +-- UnknownSessionError      no such session, or not one of the caller's
        +-- UnknownModelError        the model is not served; see `served_models`
        +-- NoCapacityError          the queue is full; see `retry_after`
        +-- BadArgumentError         a field is missing or wrong
        +-- UnauthenticatedError     the token is missing, wrong or expired
        +-- ForbiddenError           the token does not allow this
        +-- SessionClosedError       the session has ended
        +-- NotReadyError            the session still waits for its place
        +-- UnknownUploadError       no such upload, or not one of this session's
        +-- BadUploadError           the bytes do not match the announced size or offset
        +-- PublisherTakenError      another connection publishes the camera
        +-- BadOfferError            the offer has no video, or no codec the service speaks
        +-- LimitError               a limit of the service was reached

A command or a wait that takes too long raises the built-in `TimeoutError`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from sana_gateway.v1 import error_pb2, message_pb2

_PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)
"""Codes after which the same stream may fare better."""


class GatewayError(Exception):
    """Root of what this library raises."""


class CommandRejected(GatewayError):  # noqa: N818 - an answer of the session, not a fault
    """A session refused a command; nothing changed."""

    def __init__(self, error: message_pb2.CommandError) -> None:
        """Takes over what the session says."""
        super().__init__(f"{error.command}: {error.reason}")
        self.command: str = error.command
        """Name of the command."""
        self.reason: str = error.reason
        """Why and what to do, for people."""
        self.code: message_pb2.RejectReason.ValueType = error.code
        """Why, for programs."""
        self.phase: message_pb2.Phase.ValueType = error.phase
        """Phase the session was in."""
        self.allowed_phases: tuple[message_pb2.Phase.ValueType, ...] = tuple(error.allowed_phases)
        """Phases in which the command is allowed; empty when the phase is not the cause."""
        self.retry_after: float | None = error.retry_after_s or None
        """Seconds after which to try again; None when that would not help."""


class PeerLostError(GatewayError):
    """A WebRTC peer could not connect, or was cut off; the session goes on without it."""


class CallError(GatewayError):
    """A call failed."""

    def __init__(
        self,
        text: str,
        code: grpc.StatusCode,
        detail: error_pb2.ErrorDetail | None = None,
    ) -> None:
        """Takes over what the status says.

        Args:
            text: For people.
            code: Of gRPC.
            detail: Of the service; absent when the answer was not its own.
        """
        super().__init__(text)
        detail = detail or error_pb2.ErrorDetail()
        self.code = code
        """Code of gRPC."""
        self.reason: error_pb2.ErrorReason.ValueType = detail.reason
        """Why, for programs."""
        self.phase: message_pb2.Phase.ValueType = detail.phase
        """Phase the session was in, where one is concerned."""
        self.allowed_phases: tuple[message_pb2.Phase.ValueType, ...] = tuple(detail.allowed_phases)
        """Phases in which the call is allowed; empty when the phase is not the cause."""
        self.retry_after: float | None = (
            detail.retry_after.ToNanoseconds() / 1e9 if detail.HasField("retry_after") else None
        )
        """Seconds after which to try again; None when nothing was said."""
        self.served_models: tuple[str, ...] = tuple(detail.served_models)
        """Names served, on an unknown model."""

    @property
    def passing(self) -> bool:
        """Whether to try the same again: the connection was lost, or the service says so."""
        return self.code in _PASSING or self.retry_after is not None


class UnavailableError(CallError):
    """Nobody answers, or the gateway stops."""


class UnknownSessionError(CallError):
    """No such session, or not one of the caller's."""


class UnknownModelError(CallError):
    """The model is not served here."""


class NoCapacityError(CallError):
    """The queue is full."""


class BadArgumentError(CallError):
    """A field is missing or wrong."""


class UnauthenticatedError(CallError):
    """The token is missing, wrong or expired."""


class ForbiddenError(CallError):
    """The token does not allow this."""


class SessionClosedError(CallError):
    """The session has ended."""


class NotReadyError(CallError):
    """The session still waits for its place."""


class UnknownUploadError(CallError):
    """No such upload, or not one of this session's."""


class BadUploadError(CallError):
    """The bytes sent do not match the announced size or offset."""


class PublisherTakenError(CallError):
    """Another connection publishes this track already."""


class BadOfferError(CallError):
    """The offer has no video, or no codec that the service speaks."""


class LimitError(CallError):
    """A limit of the service was reached."""


_BY_REASON: dict[int, type[CallError]] = {
    error_pb2.ERROR_REASON_UNKNOWN_SESSION: UnknownSessionError,
    error_pb2.ERROR_REASON_UNKNOWN_MODEL: UnknownModelError,
    error_pb2.ERROR_REASON_NO_CAPACITY: NoCapacityError,
    error_pb2.ERROR_REASON_BAD_ARGUMENT: BadArgumentError,
    error_pb2.ERROR_REASON_UNAUTHENTICATED: UnauthenticatedError,
    error_pb2.ERROR_REASON_FORBIDDEN: ForbiddenError,
    error_pb2.ERROR_REASON_SESSION_CLOSED: SessionClosedError,
    error_pb2.ERROR_REASON_NOT_READY: NotReadyError,
    error_pb2.ERROR_REASON_UNKNOWN_UPLOAD: UnknownUploadError,
    error_pb2.ERROR_REASON_BAD_UPLOAD: BadUploadError,
    error_pb2.ERROR_REASON_PUBLISHER_TAKEN: PublisherTakenError,
    error_pb2.ERROR_REASON_BAD_OFFER: BadOfferError,
    error_pb2.ERROR_REASON_LIMIT: LimitError,
}
_REFUSALS: dict[int, message_pb2.RejectReason.ValueType] = {
    error_pb2.ERROR_REASON_COMMAND_REFUSED: message_pb2.REJECT_REASON_UNSPECIFIED,
    **{
        error_pb2.ErrorReason.Value(name.replace("REJECT", "ERROR", 1)): code
        for name, code in message_pb2.RejectReason.items()
        if code != message_pb2.REJECT_REASON_UNSPECIFIED
    },
}
"""Reasons of refused commands; on either side they bear the same names."""
_BY_CODE: dict[grpc.StatusCode, type[CallError]] = {
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: ForbiddenError,
}
"""For answers that carry no detail of ours: of a proxy, or of gRPC itself."""


def from_rpc_error(error: grpc.aio.AioRpcError) -> CallError:
    """Returns the error of this library for one of gRPC.

    Args:
        error: What a call raised.
    """
    detail = _detail(error.trailing_metadata() or ())
    reason = detail.reason if detail else error_pb2.ERROR_REASON_UNSPECIFIED
    made = _BY_REASON.get(reason) or _BY_CODE.get(error.code(), CallError)
    return made(error.details() or error.code().name, error.code(), detail)


def rejected(error: CallError, command: str) -> CommandRejected | None:
    """Returns the refusal of a command that a failed Execute stands for, if it does.

    Args:
        error: What the call raised.
        command: Name of its command.
    """
    code = _REFUSALS.get(error.reason)
    if code is None:
        return None
    return CommandRejected(
        message_pb2.CommandError(
            command=command,
            reason=str(error),
            code=code,
            phase=error.phase,
            allowed_phases=error.allowed_phases,
            retry_after_s=error.retry_after or 0.0,
        )
    )


def _detail(metadata: Iterable[Any]) -> error_pb2.ErrorDetail | None:
    """Finds our detail in the `google.rpc.Status` that travels in the trailing metadata."""
    wanted = f"/{error_pb2.ErrorDetail.DESCRIPTOR.full_name}"
    for key, value in metadata:
        if key != "grpc-status-details-bin" or not isinstance(value, bytes):
            continue
        try:
            status = _STATUS.FromString(value)
            for packed in status.details:
                if packed.type_url.endswith(wanted):
                    return error_pb2.ErrorDetail.FromString(packed.value)
        except DecodeError:
            return None
    return None


def _status_class() -> Any:  # noqa: ANN401 - a class made at run time
    """Makes a class that reads `google.rpc.Status`, without depending on the package for it.

    It lives in a pool of its own: the real one may be loaded beside it.
    """
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="sana_gateway/client_status.proto")
    file.package, file.syntax = "sana_gateway.client", "proto3"
    packed = file.message_type.add(name="Any")
    packed.field.add(name="type_url", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    packed.field.add(name="value", number=2, type=field.TYPE_BYTES, label=field.LABEL_OPTIONAL)
    status = file.message_type.add(name="Status")
    status.field.add(
        name="details",
        number=3,
        type=field.TYPE_MESSAGE,
        type_name=".sana_gateway.client.Any",
        label=field.LABEL_REPEATED,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("sana_gateway.client.Status"))


_STATUS = _status_class()
