"""From errors to gRPC statuses."""

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from gateway.grpc_api.errors import (
    CODES,
    DOMAIN,
    REFUSALS,
    StoppingError,
    StreamError,
    UnansweredError,
    to_status,
)
from sana_gateway.v1 import error_pb2
from scheduler import wire
from scheduler.core import errors
from scheduler.core.commands import RejectReason
from scheduler.core.messages import Phase

pytestmark = pytest.mark.unit


def make(kind: type[errors.RequestError], retry_after_s: float | None) -> errors.RequestError:
    if kind is errors.UnknownModelError:
        return errors.UnknownModelError(("painter",))
    return kind("what went wrong", retry_after_s=retry_after_s)


def details(status: grpc.Status) -> list[Message]:
    parsed = status_pb2.Status()
    parsed.ParseFromString(dict(status.trailing_metadata or ())["grpc-status-details-bin"])
    assert parsed.code == status.code.value[0]
    assert parsed.message == status.details
    known = {
        each.DESCRIPTOR.full_name: each
        for each in (
            error_details_pb2.ErrorInfo,
            error_details_pb2.RetryInfo,
            error_pb2.ErrorDetail,
        )
    }
    return [
        known[packed.type_url.rpartition("/")[2]].FromString(packed.value)
        for packed in parsed.details
    ]


def test_every_error_of_a_caller_has_a_code() -> None:
    of_the_tree = {
        kind
        for kind in errors.RequestError.__subclasses__()
        # Others never leave the process that raises them.
        if kind.__module__ == errors.__name__
    }
    assert set(CODES) == of_the_tree
    assert set(CODES.values()).isdisjoint({grpc.StatusCode.OK, grpc.StatusCode.INTERNAL})


def test_every_refusal_of_a_command_has_a_code() -> None:
    assert set(REFUSALS) == set(RejectReason)
    assert grpc.StatusCode.OK not in REFUSALS.values()


def test_every_reason_of_the_contract_can_be_produced() -> None:
    told = {kind.reason for kind in CODES} | {code.name for code in RejectReason}
    names = {name.removeprefix("ERROR_REASON_") for name in error_pb2.ErrorReason.keys()}  # noqa: SIM118
    assert names - {"UNSPECIFIED"} == told


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
def test_a_status_says_why_for_people_and_for_programs(kind: type[errors.RequestError]) -> None:
    error = make(kind, None)
    status = to_status(error)
    assert status is not None
    assert (status.code, status.details) == (CODES[kind], str(error))
    info, detail = details(status)
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert isinstance(detail, error_pb2.ErrorDetail)
    assert (info.domain, info.reason) == (DOMAIN, kind.reason)
    assert error_pb2.ErrorReason.Name(detail.reason) == f"ERROR_REASON_{kind.reason}"
    assert not detail.HasField("retry_after")


def test_a_status_says_when_to_try_again() -> None:
    status = to_status(errors.NoCapacityError("full", retry_after_s=2.5))
    assert status is not None
    _, detail, retry = details(status)
    assert isinstance(detail, error_pb2.ErrorDetail)
    assert isinstance(retry, error_details_pb2.RetryInfo)
    assert detail.retry_after.ToMilliseconds() == 2500
    assert retry.retry_delay == detail.retry_after


def test_an_unknown_model_is_answered_with_those_served() -> None:
    status = to_status(errors.UnknownModelError(("painter", "simulated")))
    assert status is not None
    info, detail = details(status)
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert isinstance(detail, error_pb2.ErrorDetail)
    assert list(detail.served_models) == ["painter", "simulated"]
    assert info.metadata["served_models"] == "painter,simulated"


@pytest.mark.parametrize("code", RejectReason)
def test_a_refused_command_says_where_it_is_allowed(code: RejectReason) -> None:
    allowed = (Phase.IDLE, Phase.AWAITING_SOURCE)
    error = errors.CommandRefusedError(
        "why", command="start", code=code, phase=Phase.PAUSING, allowed_phases=allowed
    )
    assert error.reason == code.name
    status = to_status(error)
    assert status is not None
    assert (status.code, status.details) == (REFUSALS[code], "why")
    info, detail = details(status)
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert isinstance(detail, error_pb2.ErrorDetail)
    assert info.reason == code.name
    assert dict(info.metadata) == {
        "command": "start",
        "phase": "PAUSING",
        "allowed_phases": "IDLE,AWAITING_SOURCE",
    }
    assert error_pb2.ErrorReason.Name(detail.reason) == f"ERROR_REASON_{code.name}"
    assert detail.phase == wire.PHASES[Phase.PAUSING]
    assert list(detail.allowed_phases) == [wire.PHASES[phase] for phase in allowed]


def test_facts_travel_beside_the_reason() -> None:
    status = to_status(StreamError(errors.BadUploadError("short"), upload_id="u", received=3))
    assert status is not None
    info = details(status)[0]
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert dict(info.metadata) == {"upload_id": "u", "received": "3"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoppingError("stopping"), grpc.StatusCode.UNAVAILABLE),
        (UnansweredError("no answer"), grpc.StatusCode.DEADLINE_EXCEEDED),
    ],
)
def test_what_is_not_the_callers_mistake_but_its_concern_has_a_code(
    error: Exception, code: grpc.StatusCode
) -> None:
    status = to_status(error)
    assert status is not None
    assert (status.code, status.details) == (code, str(error))


@pytest.mark.parametrize("error", [ValueError("x"), errors.InvariantError("x")])
def test_our_own_faults_have_no_status(error: Exception) -> None:
    assert to_status(error) is None
