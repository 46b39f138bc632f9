"""A scriptable hub behind `gateway.ports`, for tests of the wires.

`FakeHub` makes sessions that are ready at once (or wait until `place()`), record what
the wires ask, and answer commands plausibly: accepted unless `refuse` names them.
`await until(...)` waits for anything the fakes record.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from sana_gateway.v1 import session_pb2
from scheduler.core.errors import RequestError, UnknownModelError, UnknownSessionError
from scheduler.core.ids import Principal
from tests.fakes.changes import Changes
from tests.fakes.session import FakeSession


class FakeHub:
    """The sessions of one gateway."""

    def __init__(self, models: Sequence[str] = ("painter",), *, ready: bool = True) -> None:
        self.changes = Changes()
        self.until = self.changes.until
        self.models = tuple(models)
        self.ready = ready
        """Whether new sessions are placed at once."""
        self.create_error: RequestError | None = None
        """Raised by the next calls of `create` and `fork`."""
        self.sessions: dict[str, FakeSession] = {}
        self.closed: list[tuple[str, str]] = []
        self.forks = 0
        """Times that a session was to be copied."""
        self._requests: dict[tuple[str, str], FakeSession] = {}
        self._numbers = itertools.count(1)

    @property
    def session(self) -> FakeSession:
        """The latest session."""
        return list(self.sessions.values())[-1]

    def served_models(self) -> Sequence[str]:
        return self.models

    def capabilities(self, model: str) -> session_pb2.Capabilities | None:
        """What every session of the fakes can do."""
        if model not in self.models:
            return None
        example = FakeSession(self.changes, "", Principal("", frozenset()), model, ready=True)
        return example.describe().capabilities

    async def create(self, principal: Principal, model: str, request_id: str = "") -> FakeSession:
        if self.create_error is not None:
            raise self.create_error
        if model not in self.models:
            raise UnknownModelError(self.models)
        key = (principal.tenant, request_id)
        if request_id and key in self._requests:
            return self._requests[key]
        session_id = f"session-{next(self._numbers)}"
        session = FakeSession(self.changes, session_id, principal, model, ready=self.ready)
        self.sessions[session_id] = session
        if request_id:
            self._requests[key] = session
        self.changes.happened()
        return session

    async def fork(
        self, principal: Principal, session_id: str, copies: int, request_id: str = ""
    ) -> Sequence[FakeSession]:
        """Makes copies; repeating a request id returns the first ones."""
        if self.create_error is not None:
            raise self.create_error
        source = await self.find(principal, session_id)
        names = [f"{session_id} {request_id or self.forks}/{each}" for each in range(copies)]
        self.forks += 1
        return [await self.create(principal, source.model, name) for name in names]

    async def find(self, principal: Principal, session_id: str) -> FakeSession:
        session = self.sessions.get(session_id)
        if session is None or session.principal.tenant != principal.tenant:
            raise UnknownSessionError("no such session")
        return session

    async def close(self, principal: Principal, session_id: str, reason: str) -> None:
        session = await self.find(principal, session_id)
        self.closed.append((session_id, reason))
        session.end(reason)
