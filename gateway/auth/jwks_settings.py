"""Settings of `--auth jwks`: whose tokens are taken, and what their claims mean here."""

from __future__ import annotations

from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from scheduler.process.config import Section

ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""Signatures that only the provider can make (RFC 7518, RFC 8037). None with a shared secret: who
verifies could sign, and a public key must never be taken for a secret."""
_HERE: Final = ("localhost", "127.0.0.1", "::1")


def is_safe_url(url: str) -> bool:
    """Tells whether nobody on the way can change what is read: https, a file, or this machine."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return parts.netloc == "" and parts.path.startswith("/")
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _HERE)
    )


class JwksSettings(Section):
    """An identity provider whose tokens are taken (docs/auth.md)."""

    issuer: str = ""
    """Whose tokens: their `iss`, to the letter."""
    audience: tuple[str, ...] = ()
    """For whom they must be: one of these stands in their `aud`."""
    url: str = ""
    """Where the provider's keys are (JWKS): https://... or file:///.... Empty: where its
    OpenID configuration says, below the issuer."""
    algorithms: tuple[str, ...] = ALGORITHMS
    """Signatures that are taken."""
    leeway_s: float = Field(default=10.0, ge=0, le=300)
    """How far clocks may be apart, in seconds."""
    refresh_s: float = Field(default=300.0, ge=1, le=86_400)
    """How often the keys are read again, in seconds."""
    keep_s: float = Field(default=86_400.0, ge=0)
    """How long keys are used on that can not be read again, in seconds."""
    tenant_claim: str = Field(default="sub", min_length=1)
    """Claim that names the tenant; `a.b` looks for `b` in `a`."""
    tenant_prefix: str = ""
    """What is put before it, to tell such tenants from those of API keys."""
    scope_claim: str = Field(default="scope", min_length=1)
    """Claim with scopes: a list, or a text with spaces between them."""
    scope_prefix: str = "sana:"
    """What they begin with there: sana:session, sana:operator, sana:model."""
    default_scopes: tuple[Literal["session", "operator", "model"], ...] = ()
    """Scopes of tokens that have no such claim."""
    models_claim: str = "sana_models"
    """Claim with the models that may be used: as scopes are written. Without it all."""
    limits_claim: str = "sana_limits"
    """Claim with an object of limits of the user, by the names of docs/limits.md."""

    @field_validator("url", "issuer")
    @classmethod
    def _is_safe(cls, url: str) -> str:
        if url and not is_safe_url(url):
            raise PydanticCustomError("url", "the form is https://... or file:///...")
        return url

    @field_validator("algorithms")
    @classmethod
    def _are_public(cls, algorithms: tuple[str, ...]) -> tuple[str, ...]:
        if not algorithms or not set(algorithms) <= set(ALGORITHMS):
            raise PydanticCustomError("algorithm", "known are {known}", {"known": ALGORITHMS})
        return algorithms
