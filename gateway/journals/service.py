"""ReplayService: journals over gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.grpc_api.interceptors import caller
from gateway.ingress import ReadJournal
from sana_gateway.v1 import replay_pb2, replay_pb2_grpc
from scheduler.core.errors import BadArgumentError, UnknownSessionError

if TYPE_CHECKING:
    from sana_gateway.v1.replay_pb2_grpc import _ServicerContext as Context


class ReplayService(replay_pb2_grpc.ReplayServiceServicer):
    """Serves `sana_gateway.v1.ReplayService`.

    Args:
        journals: Reads them; None: none are kept.
    """

    def __init__(self, journals: ReadJournal | None) -> None:
        self._journals = journals

    async def ExportJournal(  # type: ignore[override] # noqa: N802 - writes through the context
        self, request: replay_pb2.ExportJournalRequest, context: Context
    ) -> None:
        """Sends the journal of a session."""
        if not request.session_id:
            raise BadArgumentError("session_id is missing")
        if self._journals is None:
            raise UnknownSessionError("no journal is kept of such a session")
        async for data in self._journals(caller(), request.session_id):
            await context.write(replay_pb2.ExportJournalResponse(data=data))
