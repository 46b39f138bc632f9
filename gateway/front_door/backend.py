"""One running media worker, as calls are forwarded to it."""

from __future__ import annotations

from typing import Any, Final

import aiohttp
import grpc

from gateway.grpc_api.server import MESSAGE_BYTES

CONNECT_S: Final = 2.0
"""Longest wait for a worker to take a connection; it is on this machine."""
DRAIN_S: Final = 1.0
"""How long calls under way may take to end after their worker has."""

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    # What a slow viewer has not read yet waits at its session's worker, which drops up to a
    # keyframe, and not here: gRPC would let a stream's window grow to megabytes.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65_536),
    # Workers have no name that a proxy could know.
    ("grpc.enable_http_proxy", 0),
)


class Backend:
    """The connections to one worker, from its start to its end; the next gets new ones."""

    def __init__(self, index: int, http: str, grpc_address: str) -> None:
        """Prepares; connects when first needed.

        Args:
            index: Index of the worker.
            http: Where it listens, `unix:/path`.
            grpc_address: Where it listens, `unix:/path`.
        """
        self.index = index
        self._channel = grpc.aio.insecure_channel(grpc_address, options=_OPTIONS)
        self._calls: dict[str, Any] = {}
        # Our own bound is on requests, and many of them wait for their answer.
        connector = aiohttp.UnixConnector(http.removeprefix("unix:"), limit=0)
        self.http = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        )

    def unary(self, path: str) -> Any:  # noqa: ANN401 - the stubs know no more
        """Returns what makes unary calls of a method, in bytes."""
        if path not in self._calls:
            self._calls[path] = self._channel.unary_unary(path)  # type: ignore[call-arg]
        return self._calls[path]

    def stream(self, path: str) -> Any:  # noqa: ANN401
        """Returns what makes streaming calls of a method, in bytes."""
        if path not in self._calls:
            self._calls[path] = self._channel.stream_stream(path)  # type: ignore[call-arg]
        return self._calls[path]

    async def close(self) -> None:
        """Ends the connections; calls under way learn from theirs that the worker has ended."""
        await self._channel.close(DRAIN_S)
        await self.http.close()
