"""Who tries: credentials of every kind, for each door."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from typer.testing import CliRunner

from gateway import keys_command
from gateway.auth.api_key import ApiKeyAuth

KEYS: Final = {
    "victim": ("--tenant", "acme-sparrow"),
    "rival": ("--tenant", "rival"),
    "ops": ("--tenant", "staff", "--scope", "operator"),
}
"""The keys of the service. The first tenant has something to lose."""
TRACE: Final = "00-5eed5eed5eed5eed5eed5eed5eed5eed-0123456789abcdef-01"
"""The trace of everything that the first tenant does; everybody else claims it, too."""


@dataclass(frozen=True)
class Caller:
    """Somebody with a credential."""

    name: str
    http: Mapping[str, str] = field(default_factory=dict)
    """Headers."""
    grpc: tuple[tuple[str, str], ...] = ()
    """Metadata."""
    outside: bool = True
    """Whether sessions of the first tenant are to look as if they were not there."""


def bearing(name: str, token: str, *, outside: bool = True) -> Caller:
    """Returns who shows a token."""
    value = f"Bearer {token}"
    return Caller(
        name,
        {"Authorization": value, "traceparent": TRACE},
        (("authorization", value), ("traceparent", TRACE)),
        outside,
    )


class Keyring:
    """The file of keys, and what is made of them."""

    def __init__(self, folder: Path) -> None:
        """Makes the keys."""
        self.file = folder / "keys.yaml"
        self.state = folder / "state"
        self.keys = {name: self._new(name, *words) for name, words in KEYS.items()}

    def _new(self, name: str, *words: str) -> str:
        command = ["new", "--id", name, *words, "--file", str(self.file)]
        done = CliRunner().invoke(keys_command.keys, command)
        assert done.exit_code == 0, done.exception
        return done.stdout.strip()

    def token(self, key: str, *, at: float = 0.0, **session: Any) -> str:
        """Returns a token of a key; narrowed where something is said of the session entry."""
        secret = self.state / "sana-gateway" / "token-secret"
        auth = ApiKeyAuth(str(self.file), str(secret), clock=lambda: time.time() + at)
        wanted: Any = [{"type": "session", **session}] if session else None
        if key == "ops":
            wanted = [{"type": "operator"}]
        return auth.issue(self.keys[key], 600, wanted)[0]

    def strangers(self, sessions: list[str]) -> dict[str, Caller]:
        """Returns everybody who is to get nothing.

        Args:
            sessions: Ids that a token claims to be bound to.
        """
        bound = {"resources": {"sessions": {"bind": sessions}}}
        narrow: dict[str, Any] = {"constraints": {"max_sessions": 1}}
        key = self.keys["rival"]
        callers = [
            bearing("rival", self.token("rival")),
            Caller("rival's key", bearing("", key).http, (("x-api-key", key),)),
            bearing("rival, narrowed", self.token("rival", **narrow)),
            bearing("rival, bound to them", self.token("rival", **bound)),
            bearing("sibling", self.token("victim", **narrow), outside=False),
            bearing("operator", self.token("ops")),
            bearing("expired", self.token("victim", at=-7200.0)),
            bearing("forged", self.token("victim")[:-4] + "AAAA"),
            Caller("nobody"),
        ]
        return {each.name: each for each in callers}
