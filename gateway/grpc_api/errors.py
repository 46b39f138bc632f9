"""From errors to gRPC statuses: by kind, and for refused commands by reason.

A status carries `google.rpc.Status` details: an `ErrorInfo` for any client, our own
`ErrorDetail` for typed ones, and a `RetryInfo` where trying again makes sense.
"""

from __future__ import annotations

from typing import Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from gateway.placement import SchedulerAwayError
from sana_gateway.v1 import error_pb2
from scheduler import wire
from scheduler.core import errors
from scheduler.core.commands import RejectReason

DOMAIN: Final = "sana-gateway"
"""Domain of every `ErrorInfo`."""

CODES: Final[dict[type[errors.RequestError], grpc.StatusCode]] = {
    errors.UnknownSessionError: grpc.StatusCode.NOT_FOUND,
    errors.UnknownModelError: grpc.StatusCode.NOT_FOUND,
    errors.NoCapacityError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.BadArgumentError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    errors.ForbiddenError: grpc.StatusCode.PERMISSION_DENIED,
    errors.SessionClosedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotReadyError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UnknownUploadError: grpc.StatusCode.NOT_FOUND,
    errors.BadUploadError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.PublisherTakenError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.BadOfferError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.LimitError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.CommandRefusedError: grpc.StatusCode.FAILED_PRECONDITION,
}
"""The code of every error that a caller can cause."""

REFUSALS: Final[dict[RejectReason, grpc.StatusCode]] = {
    RejectReason.UNKNOWN_COMMAND: grpc.StatusCode.INVALID_ARGUMENT,
    RejectReason.BAD_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    RejectReason.WRONG_PHASE: grpc.StatusCode.FAILED_PRECONDITION,
    RejectReason.NO_PROMPT: grpc.StatusCode.FAILED_PRECONDITION,
    RejectReason.NO_SOURCE: grpc.StatusCode.FAILED_PRECONDITION,
    RejectReason.BAD_VIDEO: grpc.StatusCode.INVALID_ARGUMENT,
    RejectReason.NO_CAPACITY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    RejectReason.SUPERSEDED: grpc.StatusCode.FAILED_PRECONDITION,
    RejectReason.NOT_ALLOWED: grpc.StatusCode.PERMISSION_DENIED,
    RejectReason.MODEL_FAILED: grpc.StatusCode.INTERNAL,
}
"""The code of a refused command, where its reason is known."""


class StoppingError(errors.SanaGatewayError):
    """This gateway stops; the client finds its session again through another one."""


class UnansweredError(errors.SanaGatewayError):
    """A call without a deadline of its own was not answered in our time."""


class StreamError(errors.SanaGatewayError):
    """A refusal with facts beside it, for `ErrorInfo.metadata`.

    The facts are ours (ids, counts), never user content.
    """

    def __init__(self, cause: errors.RequestError, **facts: str | int) -> None:
        """Stores the refusal and the facts."""
        super().__init__(str(cause))
        self.cause = cause
        self.facts = {name: str(fact) for name, fact in facts.items()}


_OWN: Final[dict[type[Exception], grpc.StatusCode]] = {
    SchedulerAwayError: grpc.StatusCode.UNAVAILABLE,
    StoppingError: grpc.StatusCode.UNAVAILABLE,
    UnansweredError: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""Errors that are not the caller's mistake, and that it has to know of: no details."""


def to_status(error: Exception) -> grpc.Status | None:
    """Returns the status of an error, or None when the error is not the caller's.

    Args:
        error: What a handler raised.
    """
    if isinstance(error, StreamError):
        return _refusal(error.cause, error.facts)
    if isinstance(error, errors.RequestError):
        return _refusal(error, {})
    own = _OWN.get(type(error))
    if own is None:
        return None
    return rpc_status.to_status(status_pb2.Status(code=own.value[0], message=str(error)))


def _refusal(error: errors.RequestError, facts: dict[str, str]) -> grpc.Status:
    code = next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=facts)
    detail = error_pb2.ErrorDetail(
        reason=error_pb2.ErrorReason.Value(f"ERROR_REASON_{error.reason}")
    )
    if isinstance(error, errors.UnknownModelError):
        detail.served_models.extend(error.served)
        info.metadata["served_models"] = ",".join(error.served)
    quota = error.quota if isinstance(error, errors.LimitError) else ""
    if quota:
        info.metadata["quota"] = quota
    if isinstance(error, errors.CommandRefusedError):
        code = code if error.code is None else REFUSALS[error.code]
        _describe(error, info, detail)
    status = status_pb2.Status(code=code.value[0], message=str(error))
    details: list[Message] = [info, detail]
    if quota:
        broken = error_details_pb2.QuotaFailure.Violation(subject=quota, description=str(error))
        details.append(error_details_pb2.QuotaFailure(violations=[broken]))
    if error.retry_after_s is not None:
        wait = _duration(error.retry_after_s)
        detail.retry_after.CopyFrom(wait)
        details.append(error_details_pb2.RetryInfo(retry_delay=wait))
    for each in details:
        packed = any_pb2.Any()
        packed.Pack(each)
        status.details.append(packed)
    return rpc_status.to_status(status)


def _describe(
    error: errors.CommandRefusedError,
    info: error_details_pb2.ErrorInfo,
    detail: error_pb2.ErrorDetail,
) -> None:
    """Adds what a session said of a refused command, for typed and for any clients."""
    detail.allowed_phases.extend(wire.PHASES[phase] for phase in error.allowed_phases)
    told = {
        "command": error.command,
        "allowed_phases": ",".join(phase.name for phase in error.allowed_phases),
    }
    if error.phase is not None:
        detail.phase = wire.PHASES[error.phase]
        told["phase"] = error.phase.name
    info.metadata.update({name: fact for name, fact in told.items() if fact})


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
