"""The TURN server of a run: written `turn:user:password@host:port`, as the service has it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from scheduler.scenario import ConfigurationError

_URL: Final = re.compile(
    r"turn:(?:(?P<user>[^:@/?]+):(?P<password>[^:@/?]+)@)?"
    r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:/@\[\]?]+)(?::(?P<port>[0-9]{1,5}))?(?:\?transport=udp)?"
)
_USUAL_PORT: Final = 3478


@dataclass(frozen=True, slots=True)
class TurnServer:
    """A TURN server over UDP (RFC 8656), and how to log in there."""

    host: str
    port: int
    username: str = ""
    credential: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str) -> TurnServer:
        """Reads one; names and passwords are percent-encoded where need be.

        Raises:
            ConfigurationError: It is none.
        """
        found = _URL.fullmatch(text)
        port = int((found and found["port"]) or _USUAL_PORT)
        if found is None or not 0 < port < 1 << 16:
            # Not the text: it may hold a password.
            raise ConfigurationError("a TURN server is given as turn:user:password@host:port")
        user, password = found["user"] or "", found["password"] or ""
        return cls(found["host"].strip("[]"), port, unquote(user), unquote(password))

    @property
    def url(self) -> str:
        """As WebRTC has it, without the login (RFC 7065)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"turn:{host}:{self.port}"
