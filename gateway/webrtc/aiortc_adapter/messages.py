"""Data channels' transport, with bounds on what one client may leave here unfinished.

aiortc tells the client how much room there is, and takes what comes all the same: a message
without end, or with a gap, grows for ever, and every part of it is looked through again
whenever another one comes. Source: RFC 9260 sections 6.2 and 6.9.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from aiortc import RTCSctpTransport, rtcsctptransport
from aiortc.rtcsctptransport import Chunk, DataChunk, InboundStream

from gateway.webrtc.aiortc_adapter.guard import uses

MAX_PARTS: Final = 512
"""Parts of messages that may wait for others: twice those of the longest message."""
MAX_AHEAD: Final = 1024
"""How far ahead of the first missing part another one may be."""
MAX_STREAMS: Final = 128
"""Streams that a client may send on; a channel has one."""

uses(
    RTCSctpTransport,
    "_advertised_rwnd",
    "_inbound_streams",
    "_last_received_tsn",
    "_sack_misordered",
    "_sack_needed",
    _get_inbound_stream="self stream_id",
    _receive_data_chunk="self chunk",
    _send_chunk="self chunk",
)
uses(InboundStream, "reassembly")
uses(rtcsctptransport, "Chunk", "DataChunk")


class SctpTransport(RTCSctpTransport):
    """aiortc's transport; parts without room are not taken, and the client sends them again."""

    async def _send_chunk(self, chunk: Chunk) -> None:
        # aiortc sends in tasks that nobody waits for; that the client has gone is no error.
        with suppress(ConnectionError):
            await super()._send_chunk(chunk)

    async def _receive_data_chunk(self, chunk: DataChunk) -> None:
        if self._has_room(chunk):
            await super()._receive_data_chunk(chunk)
        else:
            self._sack_needed = True

    def _get_inbound_stream(self, stream_id: int) -> InboundStream:
        if stream_id in self._inbound_streams or len(self._inbound_streams) < MAX_STREAMS:
            return super()._get_inbound_stream(stream_id)
        return InboundStream()

    def _has_room(self, chunk: DataChunk) -> bool:
        ahead = (chunk.tsn - (self._last_received_tsn or 0)) & 0xFFFFFFFF
        if not 0 < ahead < 1 << 31:
            return True  # a repeat, which is counted and dropped
        streams = self._inbound_streams
        if ahead > MAX_AHEAD or (chunk.stream_id not in streams and len(streams) >= MAX_STREAMS):
            return False
        parts = sum(len(stream.reassembly) for stream in streams.values())
        if parts < MAX_PARTS and len(chunk.user_data) <= self._advertised_rwnd:
            return True
        # What closes a gap lets others leave.
        return ahead == 1 and bool(self._sack_misordered)
