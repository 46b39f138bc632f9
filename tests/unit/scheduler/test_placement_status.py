"""Our errors on the internal wire."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from scheduler.core import errors
from scheduler.placement_status import error_of, status_of

pytestmark = pytest.mark.unit

KINDS = sorted(errors.RequestError.__subclasses__(), key=lambda kind: kind.__name__)


def made(kind: type[errors.RequestError]) -> errors.RequestError:
    if kind is errors.UnknownModelError:
        return errors.UnknownModelError(("model", "alias"))
    return kind("what went wrong", retry_after_s=2.5)


def sent(error: errors.RequestError) -> grpc.aio.AioRpcError:
    code, text, trailing = status_of(error)
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), text, "")


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_a_status_and_comes_back_as_it_was(
    kind: type[errors.RequestError],
) -> None:
    error = made(kind)
    received = error_of(sent(error))
    assert type(received) is kind
    assert str(received) == str(error)
    assert received.retry_after_s == error.retry_after_s
    assert sent(error).code() is not grpc.StatusCode.UNKNOWN


def test_the_names_that_are_served_travel_along() -> None:
    received = error_of(sent(errors.UnknownModelError(("model", "alias"))))
    assert isinstance(received, errors.UnknownModelError)
    assert received.served == ("model", "alias")
    none = error_of(sent(errors.UnknownModelError(())))
    assert isinstance(none, errors.UnknownModelError)
    assert none.served == ()


def test_a_failure_that_is_not_ours_is_nobodys_error() -> None:
    lost = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "reset", ""
    )
    assert error_of(lost) is None
