"""`--auth jwks`: tokens of an identity provider, verified with its public keys.

A token is taken when a key of the provider has signed it, in a way that is allowed for that very
key, for us, and for now. What the provider says of its user is then what the user may do here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import jwt
from jwt.types import Options

from gateway.auth.claims import principal_of
from gateway.auth.jwks_keys import MOST_KID, ProviderKeys
from gateway.auth.jwks_settings import JwksSettings
from scheduler.core.errors import ConfigurationError, NoCapacityError, UnauthenticatedError
from scheduler.core.ids import Principal

MOST_TOKEN: Final = 8000
"""Most characters of a token: with its header line it has to fit into 8190 bytes."""
RETRY_S: Final = 5.0
"""When to come back while no keys are known."""

_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
"""What tokens may call themselves: the same keys sign other things, as notices of a logout."""
_OPTIONS: Final[Options] = {
    "require": ["iss", "aud", "sub", "exp"],
    # Times are compared here, with our clock and leeway.
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
}
_NOT_VALID: Final = "the token is not valid"


class JwksAuth:
    """Knows the users of an identity provider."""

    def __init__(
        self,
        jwks: JwksSettings,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Knows no keys yet; `run` reads them.

        Args:
            jwks: The provider, and what its claims mean.
            clock: Seconds since 1970.
            monotonic: Any clock that goes forward, in seconds.

        Raises:
            ConfigurationError: The issuer or the audience is missing.
        """
        if not jwks.issuer or not jwks.audience:
            raise ConfigurationError(
                "--auth jwks needs --jwks-issuer and --jwks-audience: whose tokens are taken, and "
                "for whom they must be made"
            )
        self._settings = jwks
        self._clock = clock
        self._keys = ProviderKeys(jwks, monotonic)

    def recognises(self, token: str) -> bool:
        """Tells whether a token looks like one of the provider's."""
        return _header(token).get("alg") in self._settings.algorithms

    async def prepare(self, token: str) -> None:
        """Reads the provider's keys again where that of a token is not known; see
        `gateway.auth.Preparing`.
        """
        header = _header(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm in self._settings.algorithms and _is_kid(kid):
            await self._keys.look_for(kid, str(algorithm))

    def authenticate(self, token: str | None) -> Principal:
        """Returns the caller that shows a token; see `gateway.ingress.Authenticator`.

        Raises:
            UnauthenticatedError: It is missing, or not good.
            ForbiddenError: It is good, and says nothing that could be used.
            NoCapacityError: The provider has not been reached: nobody knows.
        """
        if token is None:
            raise UnauthenticatedError("a token of the identity provider is needed")
        header = _header(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        kind = str(header.get("typ", "JWT")).lower()
        if not _is_kid(kid) or kind not in _TYPES:
            raise UnauthenticatedError(_NOT_VALID)
        if not isinstance(algorithm, str) or algorithm not in self._settings.algorithms:
            raise UnauthenticatedError(_NOT_VALID)
        if not self._keys.are_known:
            raise NoCapacityError(
                "the identity provider has not been reached; try again", retry_after_s=RETRY_S
            )
        key = self._keys.find(kid, algorithm)
        if key is None:
            raise UnauthenticatedError(_NOT_VALID)
        claims = self._claims(token, key, algorithm)
        self._check_times(claims)
        return principal_of(claims, self._settings)

    async def run(self) -> None:
        """Keeps the keys fresh, until cancelled."""
        await self._keys.run()

    def _claims(self, token: str, key: Any, algorithm: str) -> dict[str, Any]:  # noqa: ANN401
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=list(self._settings.audience),
                issuer=self._settings.issuer,
                options=_OPTIONS,
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            # Not chained: what was sent would be in the traceback.
            raise UnauthenticatedError(_NOT_VALID) from None
        return claims

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now, leeway_s = self._clock(), self._settings.leeway_s
        if _moment(claims["exp"]) + leeway_s <= now:
            raise UnauthenticatedError("the token has expired")
        for name in ("nbf", "iat"):
            if name in claims and _moment(claims[name]) - leeway_s > now:
                raise UnauthenticatedError("the token is not valid yet")


def _header(token: str) -> dict[str, Any]:
    """Returns what a token says of its signature, unverified; nothing of one that is none."""
    if len(token) > MOST_TOKEN or not token.isascii():
        return {}
    try:
        return jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        return {}


def _is_kid(kid: object) -> bool:
    return kid is None or (isinstance(kid, str) and len(kid) <= MOST_KID)


def _moment(value: object) -> float:
    """Returns a time of a token, in seconds since 1970."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            moment = float(value)
            if math.isfinite(moment):
                return moment
    except OverflowError:
        pass
    raise UnauthenticatedError(_NOT_VALID)
