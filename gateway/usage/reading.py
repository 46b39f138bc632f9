"""Who may read which usage, whichever wire they ask over."""

from __future__ import annotations

from typing import Final

from gateway.audit import AuditLog
from gateway.auth import OPERATOR
from gateway.ingress import ReadUsage
from sana_gateway.v1 import usage_pb2
from scheduler.core.errors import ForbiddenError
from scheduler.core.ids import Principal

NOBODYS: Final = "-"
"""The id of no session."""


async def read_usage(
    read: ReadUsage | None,
    audit: AuditLog,
    principal: Principal,
    asked: usage_pb2.ReadUsageRequest,
) -> usage_pb2.ReadUsageResponse:
    """Returns what was used, as far as the caller may know it.

    Args:
        read: Asks the scheduler; None: nobody knows what was used.
        audit: Remembers which operator asked.
        principal: The caller.
        asked: What of it.

    Raises:
        BadArgumentError: The request makes no sense.
        ForbiddenError: The caller's token is for certain sessions, and this is more.
        SchedulerAwayError: The scheduler does not answer.
    """
    may = narrowed(asked, principal)
    if OPERATOR in principal.scopes:
        audit.record(principal, "usage.read", may.session_id, tenant_read=may.tenant)
    return usage_pb2.ReadUsageResponse() if read is None else await read(may)


def narrowed(
    request: usage_pb2.ReadUsageRequest, principal: Principal
) -> usage_pb2.ReadUsageRequest:
    """Returns a request as far as the caller may ask: another tenant's usage is none at all.

    Raises:
        ForbiddenError: Its token is for certain sessions, and this is more than one of them.
    """
    own = usage_pb2.ReadUsageRequest()
    own.CopyFrom(request)
    if OPERATOR in principal.scopes:
        return own
    sessions = principal.grant.sessions
    if (sessions is not None and request.session_id not in sessions) or principal.grant.models:
        raise ForbiddenError("this token is for other sessions")
    if request.tenant and request.tenant != principal.tenant:
        # Of what is not its own nothing is told, not even that it is there: no session has
        # both this tenant and an empty id.
        own.session_id = NOBODYS
    own.tenant = principal.tenant
    return own
