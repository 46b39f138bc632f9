"""Lease tokens: the scheduler's word to an actor that a gateway may take part in a session.

JSON Web Tokens, HS256, signed with a secret that only the scheduler and the actors hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import jwt

from scheduler.core.errors import ConfigurationError, UnauthenticatedError
from scheduler.core.ids import Epoch, GatewayId, SessionId

LIFETIME_S = 24 * 3600.0
"""How long a token is good for; longer than any session."""
MINIMUM_SECRET = 32
"""Shortest secret in bytes: the size of the hash (RFC 7518, section 3.2)."""

_ALGORITHM = "HS256"
_CLAIMS = ("session", "epoch", "gateway", "exp")


@dataclass(frozen=True, slots=True)
class LeaseClaims:
    """What a lease token says."""

    session: SessionId
    epoch: Epoch
    gateway: GatewayId


class LeaseTokens:
    """Signs and verifies lease tokens.

    Args:
        secret: Shared by the scheduler and the actors.
        lifetime_s: Seconds a token is good for.
        clock: Seconds since 1970, as expiry times are written.

    Raises:
        ConfigurationError: The secret is too short.
    """

    def __init__(
        self,
        secret: str,
        *,
        lifetime_s: float = LIFETIME_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if len(secret.encode()) < MINIMUM_SECRET:
            raise ConfigurationError(f"the lease secret must have {MINIMUM_SECRET} bytes or more")
        self._secret = secret
        self._lifetime_s = lifetime_s
        self._clock = clock

    def sign(self, session: SessionId, epoch: Epoch, gateway: GatewayId) -> str:
        """Returns a token for a gateway."""
        claims = {
            "session": session,
            "epoch": epoch,
            "gateway": gateway,
            "exp": int(self._clock() + self._lifetime_s),
        }
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM)

    def verify(self, token: str) -> LeaseClaims:
        """Returns what a token says.

        Raises:
            UnauthenticatedError: It is not one of ours, or expired.
        """
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                options={"require": list(_CLAIMS), "verify_exp": False},
            )
        except jwt.InvalidTokenError as error:
            raise UnauthenticatedError("the lease token is not valid") from error
        match [claims[name] for name in _CLAIMS]:
            case [str(session), int(epoch), str(gateway), int(expiry)]:
                if expiry <= self._clock():
                    raise UnauthenticatedError("the lease token has expired")
                return LeaseClaims(SessionId(session), Epoch(epoch), GatewayId(gateway))
        raise UnauthenticatedError("the lease token is not valid")
