"""Client tokens: JSON Web Tokens that gateways sign for each other.

HS256 with a secret that all gateways of a service share, so that a token made at one is good
at another. A token names its API key and says to what it is narrowed; what the key allows
stands in the file of keys, so that a key that is revoked ends its tokens, too.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jwt
from jwt.types import Options

from gateway.auth import details
from gateway.auth.details import Narrowing
from scheduler.core.errors import BadArgumentError, ConfigurationError, UnauthenticatedError
from scheduler.process.private_files import warn_of_readers

ISSUER: Final = "sana-gateway"
AUDIENCE: Final = "sana-gateway"
LEEWAY_S: Final = 10.0
"""How long after its end a token is still taken: clocks of hosts differ."""
MINIMUM_SECRET: Final = 32
"""Shortest secret in bytes: the size of the hash (RFC 7518, section 3.2)."""
MOST_SECRETS: Final = 8
"""Most secrets of a file: the one that signs, and older ones that still verify."""
MOST_TOKEN: Final = 6144
"""Most characters of a token: with its header line it has to fit into 8190 bytes."""

_ALGORITHM: Final = "HS256"
_OPTIONS: Final[Options] = {
    "require": ["iss", "aud", "sub", "jti", "exp", "key", "authorization_details"],
    # Times are compared here, with our clock; those of gateways may be a little apart.
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
}
_NOT_VALID: Final = "the token is not valid"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says."""

    token_id: str
    """Unguessable; tells it from all others."""
    key_id: str
    """Id of the API key that it was made from."""
    key_mark: str
    """Mark of that key: another key under the same id is not the same."""
    narrowing: Narrowing
    expires_at: int
    """Seconds since 1970."""


class TokenSigner:
    """Makes and verifies tokens.

    Args:
        secrets_by_id: Secrets by their key id (`kid`); the first one signs.
        clock: Seconds since 1970.
    """

    def __init__(self, secrets_by_id: Mapping[str, str], clock: Callable[[], float]) -> None:
        self._secrets = secrets_by_id
        self._clock = clock

    def sign(self, claims: Claims) -> str:
        """Returns a token.

        Raises:
            BadArgumentError: It would be too long to be sent.
        """
        kid, secret = next(iter(self._secrets.items()))
        payload = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": claims.key_id,
            "jti": claims.token_id,
            "iat": int(self._clock()),
            "exp": claims.expires_at,
            "key": claims.key_mark,
            "authorization_details": details.write(claims.narrowing),
        }
        token = jwt.encode(payload, secret, algorithm=_ALGORITHM, headers={"kid": kid})
        if len(token) > MOST_TOKEN:
            raise BadArgumentError("authorization_details name too much for one token")
        return token

    def verify(self, token: str) -> Claims:
        """Returns what a token says.

        Raises:
            UnauthenticatedError: It is none of ours, or its time is over.
        """
        if len(token) > MOST_TOKEN or not token.isascii():
            raise UnauthenticatedError(_NOT_VALID)
        try:
            payload = self._payload(token)
            claims = _claims(payload)
        except (jwt.PyJWTError, BadArgumentError, ValueError, TypeError, RecursionError):
            # The last three, should a release of the library let them through. Not chained: what
            # was sent would be in the traceback.
            raise UnauthenticatedError(_NOT_VALID) from None
        if claims.expires_at + LEEWAY_S <= self._clock():
            raise UnauthenticatedError("the token has expired")
        return claims

    def recognises(self, token: str) -> bool:
        """Tells whether a token says that one of these secrets has signed it. Proves nothing."""
        if len(token) > MOST_TOKEN or not token.isascii():
            return False
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return False
        return isinstance(kid, str) and kid in self._secrets

    def _payload(self, token: str) -> dict[str, Any]:
        kid = jwt.get_unverified_header(token).get("kid")
        secret = self._secrets.get(kid) if isinstance(kid, str) else None
        if secret is None:
            raise jwt.InvalidKeyError
        payload: dict[str, Any] = jwt.decode(
            token,
            secret,
            algorithms=[_ALGORITHM],
            audience=AUDIENCE,
            issuer=ISSUER,
            options=_OPTIONS,
        )
        return payload


def _claims(payload: Mapping[str, Any]) -> Claims:
    match [payload[name] for name in ("jti", "sub", "key", "exp")]:
        case [str(token_id), str(key_id), str(key_mark), int(expires_at)]:
            narrowing = details.read(payload["authorization_details"])
            return Claims(token_id, key_id, key_mark, narrowing, expires_at)
    raise jwt.InvalidTokenError


def load_secrets(path: str) -> dict[str, str]:
    """Reads secrets, the one that signs first, by their key ids.

    A line holds one secret; empty lines and those that begin with `#` do not count.

    Args:
        path: The file; empty for the one of this user, which is made where it is missing.

    Raises:
        ConfigurationError: It cannot be read or made, or holds no good secret.
    """
    file = Path(path) if path else own_file(os.environ)
    try:
        if not path:
            _make(file)
        lines = file.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise ConfigurationError(
            f"the secret that tokens are signed with cannot be used ({file}: {why}); "
            "--token-secret names a file for it"
        ) from None
    found = [line.strip() for line in lines]
    found = [line for line in found if line and not line.startswith("#")]
    if not 1 <= len(found) <= MOST_SECRETS or any(len(each) < MINIMUM_SECRET for each in found):
        raise ConfigurationError(
            f"{file} is to hold 1 to {MOST_SECRETS} secrets, one a line, each of "
            f"{MINIMUM_SECRET} characters or more"
        )
    warn_of_readers(file, "the secret that signs tokens")
    return {key_id(each): each for each in found}


def key_id(secret: str) -> str:
    """Returns the public id of a secret, the same everywhere."""
    return hashlib.sha256(b"sana-gateway token secret " + secret.encode()).hexdigest()[:16]


def own_file(environment: Mapping[str, str]) -> Path:
    """Returns where this user's secret lies: in the state folder of the XDG base directories."""
    state = environment.get("XDG_STATE_HOME", "")
    home = Path(environment.get("HOME", "/"))
    base = Path(state) if state.startswith("/") else home / ".local" / "state"
    return base / "sana-gateway" / "token-secret"


def _make(file: Path) -> None:
    """Makes a secret where there is none; of several processes at once one succeeds."""
    if file.exists():
        return
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent, encoding="ascii") as fresh:
        # Whole before it has its name, and readable by this user alone.
        fresh.write(secrets.token_urlsafe(MINIMUM_SECRET) + "\n")
        fresh.flush()
        with suppress(FileExistsError):
            os.link(fresh.name, file)
