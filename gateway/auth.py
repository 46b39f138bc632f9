"""From tokens to principals.

An authenticator is a plugin of the group `sana_gateway.auth`. `NoAuth` is the one for
one's own machine: it accepts every token, and none.
"""

from __future__ import annotations

from typing import Final

from gateway.ingress import Authenticator
from scheduler.core.errors import ForbiddenError
from scheduler.core.ids import Principal

SESSION: Final = "session"
"""Scope: create sessions and drive one's own."""
OPERATOR: Final = "operator"
"""Scope: see the pool."""

_LOCAL: Final = Principal(tenant="local", scopes=frozenset({SESSION, OPERATOR}))


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


def require(principal: Principal, scope: str) -> None:
    """Passes when the caller has a scope.

    Raises:
        ForbiddenError: The caller has not.
    """
    if scope not in principal.scopes:
        raise ForbiddenError(f"this call needs the scope {scope!r}")


__all__ = ["OPERATOR", "SESSION", "Authenticator", "NoAuth", "bearer_token", "require"]
