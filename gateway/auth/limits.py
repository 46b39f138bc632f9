"""Limits of a key, a tenant or a user, as files of keys and claims of tokens spell them.

The names are those of `serve --tenant`, too: docs/limits.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gateway.auth.details import MOST_SESSIONS
from scheduler import option_values
from scheduler.core.errors import ConfigurationError
from scheduler.core.ids import Holder
from scheduler.core.quotas import MOST_A_MINUTE, Quotas

MOST_DURATION_S: Final = 365 * 86_400.0
"""Longest duration of a session that may be allowed."""
MOST_TIME_S: Final = 1e12
"""Most streamed time of a quota; of a thousand sessions that never end it is thirty years."""
MOST_BYTES: Final = 1 << 60
"""Most bytes of a quota."""


def _seconds(value: object) -> object:
    try:
        return _number(value, option_values.seconds)
    except ConfigurationError:
        raise ValueError("is a time, as 600, 10m or 2h") from None


def _size(value: object) -> object:
    try:
        return _number(value, option_values.size)
    except ConfigurationError:
        raise ValueError("is a size, as 1000, 512M or 8G") from None


def _number(value: object, read: Callable[[str, str], float]) -> object:
    """Returns what a text stands for, and anything else as it is."""
    if isinstance(value, bool):
        raise ConfigurationError("not a number")
    return read(value, "it") if isinstance(value, str) else value


_Duration = Annotated[
    Annotated[float, Field(ge=1, le=MOST_DURATION_S)] | None, BeforeValidator(_seconds)
]
_Time = Annotated[Annotated[float, Field(ge=1, le=MOST_TIME_S)] | None, BeforeValidator(_seconds)]
_Size = Annotated[Annotated[int, Field(ge=1, le=MOST_BYTES)] | None, BeforeValidator(_size)]


class Limits(BaseModel):
    """What somebody may use; what is absent is not limited."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, frozen=True)

    max_sessions: Annotated[int, Field(ge=1, le=MOST_SESSIONS, strict=True)] | None = None
    max_session_duration: _Duration = None
    sessions_per_minute: Annotated[int, Field(ge=1, le=MOST_A_MINUTE, strict=True)] | None = None
    streamed_per_day: _Time = None
    streamed_per_month: _Time = None
    uploads_per_session: _Size = None
    uploads_per_day: _Size = None
    stored: _Size = None

    def holder(self, name: str) -> Holder:
        """Returns whom sessions are counted for under these limits.

        Args:
            name: Tells it from all others, as `key:web`.
        """
        return Holder(name, self.max_sessions, self.quotas())

    def quotas(self) -> Quotas:
        """Returns what is counted over time."""
        return Quotas(
            sessions_per_minute=self.sessions_per_minute,
            streamed_per_day=self.streamed_per_day,
            streamed_per_month=self.streamed_per_month,
            uploads_per_session=self.uploads_per_session,
            uploads_per_day=self.uploads_per_day,
            stored=self.stored,
        )


UNLIMITED: Final = Limits()
