"""When to try again: exponential backoff with full jitter, for a bounded time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import grpc

from sana_gateway.errors import CallError, from_rpc_error

Result = TypeVar("Result")


@dataclass(frozen=True)
class RetryPolicy:
    """How long and how often to try again."""

    window: float = 30.0
    """Seconds without success after which the last error is raised. The service keeps a
    session about as long for a client that was lost."""
    first: float = 0.1
    """Seconds of the first wait, at most."""
    longest: float = 1.0
    """Seconds of any wait, at most."""

    def wait(self, attempt: int, asked: float | None = None) -> float:
        """Returns the seconds to wait before a try.

        Args:
            attempt: Tries that failed, from 1.
            asked: What the server asked for; never waited less.
        """
        ceiling = min(self.longest, self.first * 2 ** min(attempt - 1, 16))
        jittered = random.uniform(0, ceiling)  # noqa: S311 - nothing secret
        return max(jittered, asked or 0.0)


async def calling(
    policy: RetryPolicy, call: Callable[[], Awaitable[Result]], *, retry: bool = True
) -> Result:
    """Makes a unary call; tries again while the gateway cannot be reached.

    Args:
        policy: How long.
        call: Makes the call; safe to repeat when `retry` is true.
        retry: Whether to try again.

    Raises:
        CallError: The call failed.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + policy.window
    attempt = 0
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as rpc_error:
            error: CallError = from_rpc_error(rpc_error)
            attempt += 1
            pause = policy.wait(attempt)
            lost = error.code is grpc.StatusCode.UNAVAILABLE
            if not (retry and lost) or loop.time() + pause > deadline:
                raise error from rpc_error
            await asyncio.sleep(pause)
