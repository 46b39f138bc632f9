"""Our errors on the internal wire: to a gRPC status with trailing metadata, and back.

The text is the status message; the reason, the time to wait and the names that are served
travel as trailing metadata, so that the caller raises the very error that was raised here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import grpc
import grpc.aio

from scheduler.core import errors

REASON = "error-reason"
"""Trailing metadata: `RequestError.reason`."""
RETRY_AFTER_MS = "retry-after-ms"
"""Trailing metadata: whole milliseconds after which trying again makes sense."""
QUOTA = "quota"
"""Trailing metadata of LIMIT: which quota."""
SERVED_MODELS = "served-models-bin"
"""Trailing metadata of UNKNOWN_MODEL: the names that are served, one a line, in UTF-8."""

_CODES: dict[type[errors.RequestError], grpc.StatusCode] = {
    errors.UnknownSessionError: grpc.StatusCode.NOT_FOUND,
    errors.UnknownModelError: grpc.StatusCode.NOT_FOUND,
    errors.UnknownUploadError: grpc.StatusCode.NOT_FOUND,
    errors.NoCapacityError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.LimitError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.BadArgumentError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.BadUploadError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.BadOfferError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    errors.ForbiddenError: grpc.StatusCode.PERMISSION_DENIED,
    errors.SessionClosedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotReadyError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.CommandRefusedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.PublisherTakenError: grpc.StatusCode.ALREADY_EXISTS,
}
_BY_REASON = {kind.reason: kind for kind in _CODES}

Told = errors.RequestError | errors.AskedElsewhereError
"""What a caller is told of as an error of ours."""
Metadata = tuple[tuple[str, str | bytes], ...]


def status_of(error: Told) -> tuple[grpc.StatusCode, str, Metadata]:
    """Returns code, text and trailing metadata for an error."""
    if isinstance(error, errors.AskedElsewhereError):
        return grpc.StatusCode.ABORTED, str(error), ((REASON, error.reason),)
    trailing: list[tuple[str, str | bytes]] = [(REASON, error.reason)]
    if error.retry_after_s is not None:
        trailing.append((RETRY_AFTER_MS, str(round(error.retry_after_s * 1000))))
    if isinstance(error, errors.UnknownModelError):
        trailing.append((SERVED_MODELS, "\n".join(error.served).encode()))
    if isinstance(error, errors.LimitError) and error.quota:
        trailing.append((QUOTA, error.quota))
    code = _CODES.get(type(error), grpc.StatusCode.UNKNOWN)
    return code, str(error), tuple(trailing)


def error_of(error: grpc.aio.AioRpcError) -> Told | None:
    """Returns the error that a peer of ours raised; None if the call failed otherwise."""
    # The stubs take metadata for a plain tuple; it yields pairs of key and value.
    pairs = cast(Iterable[tuple[str, str | bytes]], error.trailing_metadata() or ())
    trailing = dict(pairs)
    reason = str(trailing.get(REASON, ""))
    if reason == errors.AskedElsewhereError.reason:
        return errors.AskedElsewhereError(error.details() or "")
    kind = _BY_REASON.get(reason)
    if kind is None:
        return None
    if kind is errors.UnknownModelError:
        served = trailing.get(SERVED_MODELS, b"")
        text = served.decode() if isinstance(served, bytes) else served
        return errors.UnknownModelError(tuple(filter(None, text.split("\n"))))
    retry_after = trailing.get(RETRY_AFTER_MS)
    retry_after_s = None if retry_after is None else int(retry_after) / 1e3
    text = error.details() or ""
    if kind is errors.LimitError:
        quota = str(trailing.get(QUOTA, ""))
        return errors.LimitError(text, retry_after_s=retry_after_s, quota=quota)
    return kind(text, retry_after_s=retry_after_s)
