"""UsageService over gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.audit import AuditLog
from gateway.grpc_api.interceptors import caller
from gateway.ingress import ReadUsage
from gateway.usage.reading import read_usage
from sana_gateway.v1 import usage_pb2, usage_pb2_grpc

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
        return await read_usage(self._read, self._audit, caller(), request)
