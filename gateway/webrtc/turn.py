"""Logins on TURN servers that are good for one connection and for a while.

Server and gateway share a secret. A name is when it ends and something drawn, its password is the
name's HMAC under the secret, so the server needs no list of them and a login that gets around
is soon worth nothing. The scheme is draft-uberti-behave-turn-rest-00 section 2.2, which coturn
(`use-auth-secret`), eturnal and others speak; HMAC-SHA1 is what all of them take.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from scheduler.core.errors import ConfigurationError

MINIMUM_SECRET: Final = 16
"""Shortest secret in characters."""
MOST_BYTES: Final = 4096
"""Largest file of a secret."""
_DRAWN_BYTES: Final = 8


class TurnLogins:
    """Makes logins.

    Args:
        secret: Shared with the servers.
        lifetime_s: How long each is good for. A server looks at that when a relay is asked for, so
            it bounds how long a client may take to connect, and to connect anew.
        clock: Seconds since 1970, as the servers have it.
    """

    def __init__(
        self, secret: str, lifetime_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._secret = secret.encode()
        self._lifetime_s = lifetime_s
        self._clock = clock

    def draw(self) -> tuple[str, str]:
        """Returns a name and its password, of which no other connection knows."""
        ends_at = int(self._clock() + self._lifetime_s)
        name = f"{ends_at}:{secrets.token_hex(_DRAWN_BYTES)}"
        return name, password_of(self._secret, name)


def password_of(secret: bytes, name: str) -> str:
    """Returns the password of a name."""
    return base64.b64encode(hmac.digest(secret, name.encode(), "sha1")).decode()


def read_secret(path: str) -> str:
    """Reads a secret: the first line of a file.

    Raises:
        ConfigurationError: It cannot be read, or is too short.
    """
    try:
        with Path(path).open("rb") as file:
            lines = file.read(MOST_BYTES).decode("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise ConfigurationError(f"the TURN secret cannot be read ({path}: {why})") from None
    secret = lines[0].strip() if lines else ""
    if len(secret) < MINIMUM_SECRET:
        raise ConfigurationError(
            f"{path} is to hold the TURN secret in its first line, {MINIMUM_SECRET} characters or "
            "more"
        )
    return secret
