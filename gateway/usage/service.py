"""UsageService: who may read which usage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.audit import AuditLog
from gateway.auth import OPERATOR
from gateway.grpc_api.interceptors import caller
from gateway.ingress import ReadUsage
from sana_gateway.v1 import usage_pb2, usage_pb2_grpc
from scheduler.core.errors import ForbiddenError
from scheduler.core.ids import Principal

if TYPE_CHECKING:
    from sana_gateway.v1.usage_pb2_grpc import _ServicerContext as Context


class UsageService(usage_pb2_grpc.UsageServiceServicer):
    """Serves `sana_gateway.v1.UsageService` from what the scheduler has written down.

    Args:
        read: Asks the scheduler; None: nobody knows what was used.
        audit: Remembers which operator asked.
    """

    def __init__(self, read: ReadUsage | None, audit: AuditLog) -> None:
        self._read = read
        self._audit = audit

    async def ReadUsage(  # noqa: N802 - named by the contract
        self,
        request: usage_pb2.ReadUsageRequest,
        context: Context,  # noqa: ARG002
    ) -> usage_pb2.ReadUsageResponse:
        """Returns what was used."""
        asked = narrowed(request, caller())
        if OPERATOR in caller().scopes:
            self._audit.record(caller(), "usage.read", asked.session_id, tenant_read=asked.tenant)
        if self._read is None:
            return usage_pb2.ReadUsageResponse()
        return await self._read(asked)


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


NOBODYS = "-"
"""The id of no session."""
