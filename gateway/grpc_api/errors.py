"""From errors to gRPC statuses: one table.

A status carries `google.rpc.Status` details: an `ErrorInfo` for any client, our own
`ErrorDetail` for typed ones, and a `RetryInfo` where trying again makes sense.
"""

from __future__ import annotations

from typing import Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from sana_gateway.v1 import error_pb2
from scheduler.core import errors

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
}
"""The code of every error that a caller can cause."""


class StoppingError(errors.SanaGatewayError):
    """This gateway stops; the client finds its session again through another one."""


class StreamError(errors.SanaGatewayError):
    """A refusal with facts beside it, for `ErrorInfo.metadata`.

    The facts are ours (ids, counts), never user content.
    """

    def __init__(self, cause: errors.RequestError, **facts: str | int) -> None:
        """Stores the refusal and the facts."""
        super().__init__(str(cause))
        self.cause = cause
        self.facts = {name: str(fact) for name, fact in facts.items()}


def to_status(error: Exception) -> grpc.Status | None:
    """Returns the status of an error, or None when the error is not the caller's.

    Args:
        error: What a handler raised.
    """
    if isinstance(error, StreamError):
        return _refusal(error.cause, error.facts)
    if isinstance(error, errors.RequestError):
        return _refusal(error, {})
    if isinstance(error, StoppingError):
        text = str(error)
        return rpc_status.to_status(
            status_pb2.Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message=text)
        )
    return None


def _refusal(error: errors.RequestError, facts: dict[str, str]) -> grpc.Status:
    code = next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=facts)
    detail = error_pb2.ErrorDetail(
        reason=error_pb2.ErrorReason.Value(f"ERROR_REASON_{error.reason}")
    )
    if isinstance(error, errors.UnknownModelError):
        detail.served_models.extend(error.served)
        info.metadata["served_models"] = ",".join(error.served)
    status = status_pb2.Status(code=code.value[0], message=str(error))
    details = [info, detail]
    if error.retry_after_s is not None:
        wait = _duration(error.retry_after_s)
        detail.retry_after.CopyFrom(wait)
        details.append(error_details_pb2.RetryInfo(retry_delay=wait))
    for each in details:
        packed = any_pb2.Any()
        packed.Pack(each)
        status.details.append(packed)
    return rpc_status.to_status(status)


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
