"""The event journal over gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.grpc_api.interceptors import caller
from gateway.ingress import Operations
from sana_gateway.v1 import event_pb2, event_pb2_grpc

if TYPE_CHECKING:
    from sana_gateway.v1.event_pb2_grpc import _ServicerContext as Context


class EventService(event_pb2_grpc.EventServiceServicer):
    """Serves `sana_gateway.v1.EventService`.

    Args:
        operations: Follows the journal.
    """

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def WatchEvents(  # type: ignore[override] # noqa: N802 - writes through the context
        self, request: event_pb2.WatchEventsRequest, context: Context
    ) -> None:
        """Follows the journal until the client leaves."""
        async for word in self._operations.watch(caller(), request, "grpc"):
            await context.write(word)
