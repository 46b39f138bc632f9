"""What somebody got: compared to the byte with what others got, and searched for secrets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import grpc
from google.protobuf.descriptor import MethodDescriptor

from tests.e2e.isolation.callers import Caller

LIMIT_S: Final = 30.0
STUMBLED: Final = b"Internal error from Core"
BORING: Final = frozenset({"date", "server"})
"""Headers that say nothing of what was asked for."""


@dataclass(frozen=True)
class Outcome:
    """An answer of any door."""

    status: str
    """As HTTP (`404`) or gRPC (`NOT_FOUND`) says it."""
    content: bytes
    """All else that came: headers, trailers, bodies, in order."""

    def without(self, ids: Sequence[str]) -> Outcome:
        """Returns it with ids of the request taken out."""
        content = self.content
        for each in ids:
            content = content.replace(each.encode(), b"<id>")
        return Outcome(self.status, content)


async def over_http(
    http: aiohttp.ClientSession,
    caller: Caller,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> Outcome:
    """Sends a request; returns everything that came."""
    said = {**(headers or {}), **caller.http}
    limit = aiohttp.ClientTimeout(total=LIMIT_S)
    async with http.request(
        method, path, data=body or None, headers=said, allow_redirects=False, timeout=limit
    ) as answer:
        shown = sorted(
            f"{name.lower()}: {value}"
            for name, value in answer.headers.items()
            if name.lower() not in BORING
        )
        return Outcome(str(answer.status), "\n".join(shown).encode() + b"\n" + await answer.read())


async def over_grpc(
    channel: grpc.aio.Channel,
    caller: Caller,
    method: MethodDescriptor,
    requests: Sequence[Any],
    *,
    most: int = 8,
) -> Outcome:
    """Makes a call; returns everything that came, `most` responses of it."""
    while True:
        outcome = await _called(channel, caller, method, requests, most)
        # gRPC's own client stumbles over calls that are refused while it still writes.
        if not (outcome.status == "INTERNAL" and STUMBLED in outcome.content):
            return outcome


async def _called(
    channel: grpc.aio.Channel,
    caller: Caller,
    method: MethodDescriptor,
    requests: Sequence[Any],
    most: int,
) -> Outcome:
    path = f"/{method.containing_service.full_name}/{method.name}"
    written = [each.SerializeToString() for each in requests]
    words: Any = {"metadata": caller.grpc, "timeout": LIMIT_S}
    call: Any
    if method.client_streaming:
        call = channel.stream_stream(path)(**words)
    else:
        call = channel.unary_stream(path)(written.pop(), **words)
    content: list[bytes] = []
    try:
        for each in written:
            await call.write(each)
        if method.client_streaming:
            await call.done_writing()
        async for response in call:
            # What is refused comes with an empty message before its status.
            content += [response] if response else []
            if len(content) == most:
                call.cancel()
                return Outcome("OK", b"".join(content))
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass  # it has a status
    content += [f"{key}: ".encode() + _bytes(value) for key, value in await _metadata(call)]
    content.append(str(await call.details()).encode())
    return Outcome((await call.code()).name, b"\n".join(content))


async def _metadata(call: Any) -> list[tuple[str, Any]]:
    return sorted([*await call.initial_metadata(), *await call.trailing_metadata()])


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
