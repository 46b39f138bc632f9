"""Credentials of strangers: headers, API keys, tokens of ours and of a provider, and what tokens
are narrowed to; and the files and documents that say whom to believe.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.auth import NoAuth, bearer_token, caller_of_metadata, claims, details, key_file
from gateway.auth.access import Access
from gateway.auth.api_key import ApiKeyAuth
from gateway.auth.jwks import JwksAuth
from gateway.auth.jwks_keys import PublicKey, parse
from gateway.auth.jwks_settings import JwksSettings
from gateway.auth.tokens import AUDIENCE, ISSUER, load_secrets
from scheduler.core.errors import (
    BadArgumentError,
    ConfigurationError,
    ForbiddenError,
    RequestError,
    UnauthenticatedError,
)
from scheduler.core.ids import Principal
from tests.fuzz.reader import Reader, chunk

KEY: Final = "rk_" + "k" * 43
NOW: Final = 1_800_000_000.0
SETTINGS: Final = JwksSettings(issuer="https://issuer.example", audience=("sana",))
SECRET: Final = "s" * 43
FILE: Final = f"""\
keys:
  - id: web
    sha256: {key_file.digest_of(KEY)}
    tenant: acme
    scopes: [session, operator]
    models: [painter]
    max_sessions: 3
    max_session_duration: 20m
    expires: 2099-01-31
"""
WORDS: Final = (
    *("type", "session", "operator", "resources", "constraints", "models", "match", "all", "bind"),
    *("sessions", "max_sessions", "max_session_duration_seconds", "painter", "reactor/painter"),
    *("iss", "aud", "sub", "jti", "iat", "exp", "nbf", "key", "authorization_details", "kid"),
    *("alg", "typ", "JWT", "none", "EdDSA", "HS256", "tenant", "scope", "session operator"),
    *("keys", "kty", "OKP", "crv", "Ed25519", "x", "use", "sig", "RSA", "n", "e", "EC", "P-256"),
    *("id", "sha256", "scopes", "expires", "max_session_duration", "20m", "acme", "y", "key_ops"),
)
"""What documents are made of when one is to be made."""


class Believers:
    """The authenticators, with keys that are known here."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "keys.yaml").write_text(FILE)
            (folder / "secret").write_text(SECRET)
            self.secrets = load_secrets(str(folder / "secret"))
            self.own = ApiKeyAuth(
                str(folder / "keys.yaml"), str(folder / "secret"), clock=lambda: NOW
            )
        self.signer = Ed25519PrivateKey.from_private_bytes(b"7" * 32)
        self.foreign = JwksAuth(SETTINGS, clock=lambda: NOW, monotonic=lambda: 0.0)
        known: Any = self.foreign._keys
        known._keys = (PublicKey("k1", ("EdDSA",), self.signer.public_key()),)
        known._good_until = 1e9
        self.access = Access(lambda: None)


believers: Final = cache(Believers)


def fuzz_one(data: bytes) -> None:
    """Shows, reads or signs something, as the first byte says."""
    reader = Reader(data)
    KINDS[reader.number() % len(KINDS)](reader)


def shown(reader: Reader) -> None:
    """Shows any header, token and key to everybody."""
    text = reader.rest().decode("latin-1")
    token = bearer_token(text)
    assert token is None or (token and token in text)
    metadata = {"authorization": text, "x-api-key": text}
    for each in (NoAuth(), believers().own, believers().foreign):
        with suppress(RequestError):
            sensible(caller_of_metadata(each, metadata))
    for raw in (text, text.replace("\n", "") or "x"):
        for show in (believers().own.authenticate, believers().foreign.authenticate):
            try:
                show(raw)
            except RequestError:
                continue
            raise AssertionError("nobody has a token that was not signed")
    with suppress(UnauthenticatedError):
        sensible(believers().own.authenticate_key(text))
        assert text == KEY


def signed_here(reader: Reader) -> None:
    """Reads a token of ours that says anything, as if a secret had become known."""
    (kid, secret), *_ = believers().secrets.items()
    claimed = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "web",
        "jti": "t1",
        "iat": int(NOW),
        "exp": int(NOW) + 60,
    }
    claimed["key"] = key_file.digest_of(KEY)[:16]
    claimed["authorization_details"] = document(reader)
    payload = changed(reader, claimed)
    with suppress(TypeError, ValueError):
        token = jwt.encode(payload, secret, algorithm="HS256", headers={"kid": kid})
        with suppress(RequestError):
            sensible(believers().own.authenticate(token))


def signed_there(reader: Reader) -> None:
    """Reads a token of a provider that says anything."""
    claimed = {
        "iss": SETTINGS.issuer,
        "aud": "sana",
        "sub": "user",
        "exp": int(NOW) + 60,
        "tenant": "acme",
    }
    payload = changed(reader, claimed)
    with suppress(ForbiddenError):
        sensible(claims.principal_of(payload, SETTINGS))
    if reader.number() & 7:
        return
    with suppress(TypeError, ValueError):
        token = jwt.encode(payload, believers().signer, algorithm="EdDSA", headers={"kid": "k1"})
        with suppress(RequestError):
            sensible(believers().foreign.authenticate(token))


def narrowed(reader: Reader) -> None:
    """Reads what a token is to be narrowed to, and issues it."""
    wanted = document(reader)
    try:
        narrowing = details.read(wanted)
    except BadArgumentError:
        return
    assert details.read(details.write(narrowing)) == narrowing
    try:
        token, _ = believers().own.issue(KEY, 600, wanted)
    except BadArgumentError:
        return  # too long for a header
    sensible(believers().own.authenticate(token))


def keys_file(reader: Reader) -> None:
    """Reads a file of keys."""
    text = reader.rest().decode("utf-8", "replace")
    try:
        found = key_file.parse(text)
    except ConfigurationError:
        return
    for record in found.records:
        assert found.by_id[record.key_id] is record


def keys_there(reader: Reader) -> None:
    """Reads a provider's document of keys."""
    try:
        found = parse(document(reader))
    except ValueError:
        return
    assert found
    assert not any(hasattr(each.key, "private_bytes") for each in found)


def sensible(principal: Principal) -> None:
    """Asks whether a caller is one, and what it may do."""
    assert principal.tenant
    assert principal.scopes <= {"session", "operator", "model"}
    for ask in (
        lambda: believers().access.may_create(principal, "painter"),
        lambda: believers().access.may_use(principal, "s1", principal, "painter"),
    ):
        with suppress(RequestError):
            ask()


def document(reader: Reader) -> object:
    """Returns a document of any form; of bytes, or made of what documents are made of."""
    if reader.number() & 1:
        return reader.value(WORDS, 6)
    try:
        value: object = json.loads(reader.chunk())
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value


def changed(reader: Reader, claimed: dict[str, Any]) -> dict[str, Any]:
    """Returns claims of which some are others."""
    for _ in range(reader.number() % 4):
        name = reader.choose(WORDS)
        if reader.number() & 1:
            claimed.pop(name, None)
        else:
            claimed[name] = reader.value(WORDS, 3)
    return claimed


KINDS: Final[tuple[Callable[[Reader], None], ...]] = (
    shown,
    signed_here,
    signed_there,
    narrowed,
    keys_file,
    keys_there,
)
"""What the first byte chooses from."""


def seeds() -> list[bytes]:
    """Returns good credentials and documents, and what is nearly one."""
    session = {
        "type": "session",
        "resources": {"models": {"match": ["painter"]}, "sessions": {"bind": ["s1"]}},
        "constraints": {"max_sessions": 2, "max_session_duration_seconds": 600.0},
    }
    wishes: list[Any] = [
        None,
        [],
        [session],
        [session, {"type": "operator"}],
        [{"type": "session", "resources": {"models": {"all": True}}}],
        [{"type": "session", "resources": {"models": {"match": "painter"}}}],
    ]
    dumped = [chunk(json.dumps(each).encode()) for each in wishes]
    public = {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43, "kid": "k1", "use": "sig"}
    rsa = {"kty": "RSA", "n": "4" * 342, "e": "AQAB", "alg": "RS256", "key_ops": ["verify"]}
    curve = {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "B" * 43}
    sets: list[Any] = [{"keys": [public, rsa]}, {"keys": [curve]}, {"keys": []}]
    unsigned = jwt.encode({"sub": "a"}, SECRET, algorithm="HS256", headers={"kid": "k"})
    headers = ["Bearer " + unsigned, "bearer  x", KEY, "Basic a:b", "Bearer a.b.c", unsigned[:-1]]
    files = [
        FILE,
        FILE.replace("web", '"a b"'),
        "keys: []",
        "keys: {",
        "keys: &a [*a]",
        "!!set {keys}",
        FILE + "tenants:\n  acme: {max_sessions: 2}\n",
        "[" * 40 + "]" * 40,
    ]
    grown = [bytes([kind, 1]) + bytes(range(kind, 256, 5)) for kind in (1, 2, 3, 5)]
    return [
        *(b"\0" + header.encode() for header in headers),
        *(b"\1\0" + each + b"\0" for each in dumped),
        *(b"\3\0" + each for each in dumped),
        b"\2\0",
        b"\2\1" + bytes([WORDS.index("scope"), 0, 2, WORDS.index("session operator")]),
        *(b"\4" + text.encode() for text in files),
        *(b"\5\0" + chunk(json.dumps(each).encode()) for each in sets),
        *grown,
    ]
