"""Runs the two directions of a streaming call, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from gateway.grpc_api.errors import StoppingError
from gateway.grpc_api.queues import Outbox
from scheduler.core.errors import BadArgumentError

FIRST_REQUEST_S: Final = 10.0
"""A stream whose client has not said by then what it wants is refused."""

Request = TypeVar("Request")
Response = TypeVar("Response")


async def first(requests: AsyncIterator[Request]) -> Request:
    """Returns the first request of a stream.

    Raises:
        BadArgumentError: None came in time, or the stream ended first.
    """
    try:
        async with asyncio.timeout(FIRST_REQUEST_S):
            return await anext(requests)
    except (StopAsyncIteration, TimeoutError):
        raise BadArgumentError("the first request must be start") from None


class Streams:
    """The streaming calls in progress, so that a stopping gateway can end them."""

    def __init__(self) -> None:
        self._open: set[Outbox[Any]] = set()

    def stop(self) -> None:
        """Ends all of them, so that their clients go to another gateway at once."""
        for outbox in tuple(self._open):
            outbox.close(StoppingError("this gateway is stopping"))

    async def run(
        self,
        outbox: Outbox[Response],
        write: Callable[[Response], Awaitable[None]],
        reading: Coroutine[Any, Any, None],
    ) -> None:
        """Writes what the outbox gives until its end, and reads beside it.

        Args:
            outbox: What to write; an error of `reading` closes it.
            write: Sends one response; may wait for the client as long as it likes.
            reading: Handles the requests. Its end alone does not end the call.

        Raises:
            Exception: What the outbox was closed with.
        """
        self._open.add(outbox)
        reader = asyncio.create_task(_read(reading, outbox))
        writer = asyncio.create_task(_write(outbox, write))
        failed = asyncio.create_task(outbox.failed.wait())
        try:
            await asyncio.wait((writer, failed), return_when=asyncio.FIRST_COMPLETED)
            if not writer.done():
                await outbox.take()
            await writer
        finally:
            self._open.discard(outbox)
            for task in (reader, writer, failed):
                task.cancel()
            for task in (reader, writer, failed):
                with suppress(asyncio.CancelledError, Exception):
                    await task


async def _read(reading: Coroutine[Any, Any, None], outbox: Outbox[Any]) -> None:
    try:
        await reading
    except Exception as error:
        outbox.close(error)


async def _write(outbox: Outbox[Response], write: Callable[[Response], Awaitable[None]]) -> None:
    while (response := await outbox.take()) is not None:
        await write(response)
