"""Which web pages may call: origins (RFC 6454) and what browsers are told of them (CORS). Pure.

Callers show tokens and no cookies, so a page from elsewhere can do nothing that its own server
could not do; `*` is then safe. Where nobody is asked who they are, every page that somebody on
this machine visits could drive the service, so only pages of this machine are let in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

ANY: Final = "*"
LOOPBACK: Final = "loopback"
"""Stands for all pages that this machine itself serves."""

_ORIGIN: Final = re.compile(
    r"[a-z][a-z0-9+.-]*://(?:\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?)(?::[0-9]{1,5})?"
)
_OF_LOOPBACK: Final = re.compile(
    r"https?://(?:localhost|(?:[a-z0-9-]+\.)+localhost|127\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}|\[::1\])"
    r"(?::[0-9]{1,5})?"
)

EXPOSED: Final = "Retry-After, Location, Link, ETag, Sana-Session-Id"
"""Headers of answers that pages may read."""
PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": (
        "authorization, content-type, reactor-api-key, reactor-api-version, "
        "reactor-api-accept-version, reactor-webrtc-version, if-match, last-event-id"
    ),
    "Access-Control-Max-Age": "3600",
}
"""On the answer to every OPTIONS request of a page that may call."""
ACCEPT_POST: Final = {"whip": "application/sdp", "whep": "application/sdp"}
"""What else is said there of paths that begin so: what they take (RFC 9725)."""


def is_origin(text: str) -> bool:
    """Tells whether a text is an origin as browsers write it, `*`, or `loopback`."""
    return text in (ANY, LOOPBACK) or _ORIGIN.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Origins:
    """The pages that may call."""

    allowed: frozenset[str] = frozenset({ANY})
    """Origins, `*` for all, or `loopback`."""

    @classmethod
    def of(cls, texts: Iterable[str], *, authenticated: bool) -> Origins:
        """Returns what the settings mean.

        Args:
            texts: As configured; none of them: what is safe.
            authenticated: Whether callers are asked who they are.
        """
        given = frozenset(texts)
        return cls(given or frozenset({ANY if authenticated else LOOPBACK}))

    def admits(self, origin: str | None, host: str) -> bool:
        """Tells whether a request may be answered.

        Args:
            origin: Its `Origin`; None: no page of another origin makes it.
            host: Its `Host`: pages of the very same host may call, but not where all are to be of
                this machine, as any name may lead here.
        """
        if origin is None or ANY in self.allowed or origin in self.allowed:
            return True
        if LOOPBACK in self.allowed:
            return _OF_LOOPBACK.fullmatch(origin) is not None
        return bool(host) and origin.partition("://")[2] == host

    def headers(self, origin: str | None, host: str) -> dict[str, str]:
        """Returns what the answer to a request carries; see `admits`."""
        if ANY in self.allowed:
            return {
                "Access-Control-Allow-Origin": ANY,
                "Access-Control-Expose-Headers": EXPOSED,
            }
        # A cache must not give one page what another was answered.
        told = {"Vary": "Origin"}
        if origin is not None and self.admits(origin, host):
            told["Access-Control-Allow-Origin"] = origin
            told["Access-Control-Expose-Headers"] = EXPOSED
        return told

    def preflight(self, path: str, origin: str | None, host: str) -> dict[str, str]:
        """Returns the headers of the answer to an OPTIONS request, beside `headers`."""
        told = dict(PREFLIGHT) if self.admits(origin, host) else {}
        taken = ACCEPT_POST.get(path.lstrip("/").partition("/")[0])
        return told if taken is None else {**told, "Accept-Post": taken}


EVERYWHERE: Final = Origins()
"""All pages."""
