"""What `Session.on` may be asked for, and what is handed over for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, overload

from sana_gateway.v1 import message_pb2, session_pb2

Stop = Callable[[], None]
"""Ends a subscription."""


class Subscribe(Protocol):
    """Calls back whenever something of a kind happens.

    `message` hands over every whole `Message`, `queue` a `QueueUpdate` while the session waits,
    `ended` the reason; the others are the payloads of `Message`. Callbacks must return at once.
    What is returned stops calling.
    """

    @overload
    def __call__(
        self,
        kind: Literal["prompt_accepted"],
        callback: Callable[[message_pb2.PromptAccepted], None],
        /,
    ) -> Stop: ...
    @overload
    def __call__(
        self,
        kind: Literal["video_accepted"],
        callback: Callable[[message_pb2.VideoAccepted], None],
        /,
    ) -> Stop: ...
    @overload
    def __call__(
        self,
        kind: Literal["generation_started"],
        callback: Callable[[message_pb2.GenerationStarted], None],
        /,
    ) -> Stop: ...
    @overload
    def __call__(
        self,
        kind: Literal["chunk_complete"],
        callback: Callable[[message_pb2.ChunkComplete], None],
        /,
    ) -> Stop: ...
    @overload
    def __call__(
        self,
        kind: Literal["generation_complete"],
        callback: Callable[[message_pb2.GenerationComplete], None],
        /,
    ) -> Stop: ...
    @overload
    def __call__(
        self,
        kind: Literal["generation_reset"],
        callback: Callable[[message_pb2.GenerationReset], None],
        /,
    ) -> Stop: ...
    @overload
    def __call__(
        self,
        kind: Literal["command_error"],
        callback: Callable[[message_pb2.CommandError], None],
        /,
    ) -> Stop: ...
    @overload
    def __call__(
        self, kind: Literal["state"], callback: Callable[[message_pb2.State], None], /
    ) -> Stop: ...
    @overload
    def __call__(
        self,
        kind: Literal["session_moved"],
        callback: Callable[[message_pb2.SessionMoved], None],
        /,
    ) -> Stop: ...
    @overload
    def __call__(
        self, kind: Literal["message"], callback: Callable[[message_pb2.Message], None], /
    ) -> Stop: ...
    @overload
    def __call__(
        self, kind: Literal["queue"], callback: Callable[[session_pb2.QueueUpdate], None], /
    ) -> Stop: ...
    @overload
    def __call__(self, kind: Literal["ended"], callback: Callable[[str], None], /) -> Stop: ...
