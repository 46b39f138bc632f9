"""Data channels of a peer, as the wires see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog
from aiortc import InvalidStateError, RTCDataChannel
from google.protobuf.json_format import MessageToJson

from gateway.webrtc.statistics import PeerStatistics
from sana_gateway.v1 import media_pb2

MAX_CHANNELS: Final = 8
"""Channels that one peer may open; Reactor's clients open two."""
MAX_EARLY_MESSAGES: Final = 64
"""Messages kept for a handler that is not there yet; one more closes the channel."""
MAX_STATS_BUFFERED: Final = 16 * 1024
"""Bytes that may wait in a channel of statistics; what comes on top is dropped."""

_log = structlog.get_logger(__name__)


class AiortcChannel:
    """An open data channel; implements `gateway.ingress.DataChannel`."""

    def __init__(self, channel: RTCDataChannel) -> None:
        self._channel = channel
        self._handler: Callable[[str | bytes], None] | None = None
        self._early: list[str | bytes] = []
        self._closed = False
        self._on_closed: Callable[[], None] | None = None
        channel.on("message", self._message)
        channel.on("close", self.lost)

    @property
    def label(self) -> str:
        """The label the client gave it."""
        return self._channel.label

    @property
    def buffered_amount(self) -> int:
        """Bytes handed to `send` that have not left yet."""
        return self._channel.bufferedAmount

    def send(self, data: str | bytes) -> None:
        """Sends one message. Dropped when the channel has closed."""
        if not self._closed:
            try:
                self._channel.send(data)
            except (InvalidStateError, ConnectionError):
                self.lost()

    def set_handler(self, handler: Callable[[str | bytes], None]) -> None:
        """Says who gets the messages that arrive; those before it are kept for it."""
        self._handler = handler
        early, self._early = self._early, []
        for data in early:
            self._message(data)

    def set_closed(self, callback: Callable[[], None]) -> None:
        """Says whom to tell once, when the channel has closed."""
        if self._closed:
            callback()
        else:
            self._on_closed = callback

    def lost(self) -> None:
        """The channel or its peer has closed. Repeating it is no error."""
        if not self._closed:
            self._closed = True
            self._early.clear()
            if self._on_closed is not None:
                self._on_closed()

    def _message(self, data: str | bytes) -> None:
        if self._handler is not None:
            try:
                self._handler(data)
            except Exception as error:
                # It would end the task that receives for all channels of the peer. Its text may
                # quote the message.
                _log.error("channel.handler_failed", error=type(error).__name__)
        elif len(self._early) < MAX_EARLY_MESSAGES:
            self._early.append(data)
        elif not self._closed:
            self._channel.close()
            self.lost()


class StatsChannel:
    """A channel that a client opened to be told of its picture; what it says is ignored."""

    def __init__(self, channel: AiortcChannel, statistics: PeerStatistics) -> None:
        self._channel = channel
        self._statistics = statistics
        channel.set_handler(lambda _: None)

    def send(self, stats: media_pb2.ViewerStats) -> None:
        """Sends statistics as JSON in protobuf's spelling, or drops them for a slow client."""
        if self._channel.buffered_amount > MAX_STATS_BUFFERED:
            self._statistics.stats_dropped += 1
        else:
            self._channel.send(MessageToJson(stats, indent=None))
