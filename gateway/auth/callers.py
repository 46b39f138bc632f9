"""Who calls: scopes, the credentials of a call, and the authenticator that asks for none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol, runtime_checkable

from gateway.audit import AuditLog
from gateway.ingress import Authenticator
from scheduler.core.errors import ForbiddenError
from scheduler.core.ids import Principal

SESSION: Final = "session"
"""Scope: create sessions and drive one's own."""
MODEL: Final = "model"
"""Scope: learn what the served models can do. Who has another scope has this one, too."""
OPERATOR: Final = "operator"
"""Scope: see the pool, and empty parts of it."""

API_KEY_METADATA: Final = "x-api-key"
"""gRPC metadata that may hold an API key instead of a token."""
KEY_MARK: Final = "rk_"
"""How API keys begin; no token does."""

_LOCAL: Final = Principal(tenant="local", scopes=frozenset({SESSION, OPERATOR}))


@runtime_checkable
class KeyAuthenticator(Protocol):
    """An authenticator that takes API keys as they are, too."""

    def authenticate_key(self, api_key: str) -> Principal:
        """Returns the caller that shows an API key. Never blocks.

        Raises:
            UnauthenticatedError: The key is wrong or expired.
        """


@runtime_checkable
class Refreshing(Protocol):
    """An authenticator that keeps itself up to date."""

    async def run(self) -> None:
        """Does so until cancelled."""


@runtime_checkable
class Audited(Protocol):
    """An authenticator that tells the audit log what changed of its own."""

    audit: AuditLog
    """Where to; set once, at the start."""


@runtime_checkable
class Preparing(Protocol):
    """An authenticator that may have to ask somebody before it can judge a token."""

    async def prepare(self, token: str) -> None:
        """Gets what is needed to judge a token, as far as it is to be had in a moment. Raises
        nothing: `authenticate` says what comes of it.
        """


async def prepare(authenticator: Authenticator, token: str | None) -> None:
    """Lets an authenticator get what it needs to judge a token; to be awaited before it is asked.

    Args:
        authenticator: Who will be asked.
        token: What the caller shows; None for nothing.
    """
    if token is not None and isinstance(authenticator, Preparing):
        await authenticator.prepare(token)


class NoAuth:
    """Everybody is the same local tenant with every scope."""

    def authenticate(self, token: str | None) -> Principal:  # noqa: ARG002 - any token will do
        """Returns the local principal, whatever the token."""
        return _LOCAL


def bearer_token(authorization: str | None) -> str | None:
    """Returns the token of an `Authorization: Bearer ...` value (RFC 6750), or None.

    The scheme is compared without case; another scheme counts as no token.
    """
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def caller_of_metadata(authenticator: Authenticator, metadata: Mapping[str, str]) -> Principal:
    """Returns who makes a gRPC call.

    A token counts before an API key: it allows no more than its key does.

    Args:
        authenticator: Who knows.
        metadata: The textual metadata of the call.

    Raises:
        UnauthenticatedError: Neither a good token nor a good key.
    """
    token = bearer_token(metadata.get("authorization"))
    key = metadata.get(API_KEY_METADATA)
    if token is None and key and isinstance(authenticator, KeyAuthenticator):
        return authenticator.authenticate_key(key)
    return authenticator.authenticate(token)


def require(principal: Principal, scope: str) -> None:
    """Passes when the caller has a scope.

    Raises:
        ForbiddenError: The caller has not.
    """
    require_any(principal, (scope,))


def require_any(principal: Principal, scopes: Sequence[str]) -> None:
    """Passes when the caller has one of several scopes.

    Raises:
        ForbiddenError: The caller has none of them.
    """
    if MODEL in scopes and principal.scopes:
        return
    if principal.scopes.isdisjoint(scopes):
        raise ForbiddenError(f"this call needs the scope {' or '.join(map(repr, scopes))}")
