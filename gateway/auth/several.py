"""Several authenticators at once, as `--auth api-key,jwks`: own keys beside external users.

Each credential is for one of them, by how it looks; whether it is good that one alone decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from gateway.audit import AuditLog
from gateway.auth.callers import Audited, KeyAuthenticator, Refreshing, prepare
from gateway.ingress import Authenticator
from scheduler.core.errors import UnauthenticatedError
from scheduler.core.ids import Principal


@runtime_checkable
class Recognising(Protocol):
    """An authenticator that can stand beside others."""

    def recognises(self, token: str) -> bool:
        """Tells whether a token looks like one of its own. Proves nothing."""


@runtime_checkable
class _Issuing(Protocol):
    def issue(self, api_key: str | None, lifetime_s: int, details: object) -> tuple[str, int]:
        """Returns a token for an API key."""


class SeveralAuth:
    """Asks the one of several authenticators that a credential is for."""

    def __init__(self, authenticators: Sequence[Authenticator]) -> None:
        """Takes them, in the order in which they are asked."""
        self._all = tuple(authenticators)
        self._audit = AuditLog()

    @property
    def audit(self) -> AuditLog:
        """Where those that change by themselves tell it."""
        return self._audit

    @audit.setter
    def audit(self, log: AuditLog) -> None:
        self._audit = log
        for each in self._all:
            if isinstance(each, Audited):
                each.audit = log

    def authenticate(self, token: str | None) -> Principal:
        """Returns the caller that shows a token; see `gateway.ingress.Authenticator`."""
        if token is None:
            raise UnauthenticatedError("a token is needed")
        return self._for(token).authenticate(token)

    async def prepare(self, token: str) -> None:
        """Lets the one that a token is for get what it needs; see `gateway.auth.Preparing`."""
        await prepare(self._for(token), token)

    def authenticate_key(self, api_key: str) -> Principal:
        """Returns the caller that shows an API key; see `gateway.auth.KeyAuthenticator`."""
        for each in self._all:
            if isinstance(each, KeyAuthenticator):
                return each.authenticate_key(api_key)
        raise UnauthenticatedError("API keys are not taken here")

    def issue(self, api_key: str | None, lifetime_s: int, details: object) -> tuple[str, int]:
        """Returns a token for an API key; see `ApiKeyAuth.issue`."""
        for each in self._all:
            if isinstance(each, _Issuing):
                return each.issue(api_key, lifetime_s, details)
        raise UnauthenticatedError("this server exchanges no API keys; bring a token")

    async def run(self) -> None:
        """Keeps all of them up to date, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for each in self._all:
                if isinstance(each, Refreshing):
                    group.create_task(each.run())

    def _for(self, token: str) -> Authenticator:
        recognising = (
            each for each in self._all if isinstance(each, Recognising) and each.recognises(token)
        )
        return next(recognising, self._all[0])
