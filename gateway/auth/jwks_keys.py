"""The public keys of an identity provider: read from afar, kept, and found again.

They are read when the gateway starts, every few minutes, and when a token names one that is not
known: a provider that changes its keys need not wait for anybody. That last reading is asked for by
strangers, so it happens seldom, once for all who wait, and they wait a moment only. While the
provider is away the keys before stay good for a day.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.auth.jwks_settings import ALGORITHMS, JwksSettings, is_safe_url

MOST_BYTES: Final = 256 * 1024
"""Largest document that is read."""
MOST_KEYS: Final = 64
"""Keys of a document that are looked at."""
MOST_KID: Final = 256
"""Most characters of the id of a key."""
RSA_BITS: Final = range(2048, 8193)
"""Sizes of RSA keys: shorter ones can be broken, longer ones take milliseconds a token."""
READ_S: Final = 5.0
"""How long a reading may take."""
WAIT_S: Final = 3.0
"""How long a call waits for a key that is not known."""
MOST_WAITING: Final = 256
"""Calls that wait at once; further ones are answered with the keys that are known."""
UNKNOWN_PAUSE_S: Final = 10.0
"""Time between two readings that unknown keys ask for."""
FIRST_RETRY_S: Final = 1.0
"""Pause after a reading that failed; it doubles up to the next."""
MOST_RETRY_S: Final = 60.0

_RSA: Final = tuple(each for each in ALGORITHMS if each[:2] in ("RS", "PS"))
_CURVES: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA"}
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key of a provider."""

    kid: str
    """Its id; empty where it has none."""
    algorithms: tuple[str, ...]
    """Signatures that it is good for."""
    key: Any
    """As `jwt.decode` takes it."""


def parse(document: object) -> tuple[PublicKey, ...]:
    """Reads a set of keys (RFC 7517); those that sign nothing that we take are passed over.

    Raises:
        ValueError: It is none, or none of its keys can be used.
    """
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise ValueError("no set of keys")  # noqa: TRY004 - what a reading may fail with
    found = (_key(each) for each in keys[:MOST_KEYS] if isinstance(each, dict))
    usable = tuple(each for each in found if each is not None)
    if not usable:
        raise ValueError("no key that can be used")
    return usable


def _key(entry: Mapping[str, Any]) -> PublicKey | None:
    able = _algorithms(entry)
    kid, operations = entry.get("kid", ""), entry.get("key_ops", ["verify"])
    for_signing = entry.get("use", "sig") == "sig" and isinstance(operations, list)
    if not able or not for_signing or "verify" not in operations or not _is_kid(kid):
        return None
    try:
        key = jwt.PyJWK(dict(entry), able[0]).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key, rsa.RSAPublicKey):
        return PublicKey(kid, able, key) if key.key_size in RSA_BITS else None
    # A provider that shows a private key has more to fear than we can help with.
    return None if hasattr(key, "private_bytes") else PublicKey(kid, able, key)


def _algorithms(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns what a key may be used for: by its type, and by what it says itself."""
    curve = str(entry.get("crv"))
    by_type = {
        "RSA": _RSA,
        "EC": (_CURVES[curve],) if curve in _CURVES and curve[0] == "P" else (),
        "OKP": (_CURVES[curve],) if curve == "Ed25519" else (),
    }
    able = by_type.get(str(entry.get("kty")), ())
    said = entry.get("alg")
    return able if said is None else tuple(each for each in able if each == said)


def _is_kid(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MOST_KID


class ProviderKeys:
    """The keys of one provider.

    Args:
        settings: Where they are.
        clock: Any clock that goes forward, in seconds.
    """

    def __init__(self, settings: JwksSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._keys: tuple[PublicKey, ...] = ()
        self._good_until = float("-inf")
        self._asked_at = float("-inf")
        """When an unknown key last asked for a reading."""
        self._reading: asyncio.Task[bool] | None = None
        self._waiting = 0
        self._is_away = False

    @property
    def are_known(self) -> bool:
        """Whether there are keys to judge tokens by."""
        return self._clock() < self._good_until

    def find(self, kid: str | None, algorithm: str) -> Any | None:  # noqa: ANN401 - see PublicKey
        """Returns the key for a token; None where there is none, or more than one without an id.

        Args:
            kid: As the token names it; None where it does not.
            algorithm: That of its signature.
        """
        if not self.are_known:
            return None
        able = [each for each in self._keys if algorithm in each.algorithms]
        fitting = able if kid is None else [each for each in able if each.kid == kid]
        return fitting[0].key if len(fitting) == 1 else None

    async def look_for(self, kid: str | None, algorithm: str) -> None:
        """Reads the keys again where one is not known, unless that was done just now."""
        if self.find(kid, algorithm) is not None or self._waiting >= MOST_WAITING:
            return
        if self._reading is None:
            now = self._clock()
            if now - self._asked_at < UNKNOWN_PAUSE_S:
                return
            self._asked_at = now
        self._waiting += 1
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(WAIT_S):
                    await asyncio.shield(self._read())
        finally:
            self._waiting -= 1

    async def run(self) -> None:
        """Reads the keys again and again, until cancelled."""
        pause_s = FIRST_RETRY_S
        try:
            while True:
                if await asyncio.shield(self._read()):
                    pause_s = FIRST_RETRY_S
                    await asyncio.sleep(self._settings.refresh_s)
                else:
                    await asyncio.sleep(pause_s)
                    pause_s = min(MOST_RETRY_S, pause_s * 2)
        finally:
            if self._reading is not None:
                self._reading.cancel()

    def _read(self) -> asyncio.Task[bool]:
        """Returns the reading under way, or begins one; it tells whether it brought keys."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_once(), name="jwks")
            self._reading.add_done_callback(self._read_ended)
        return self._reading

    def _read_ended(self, _: asyncio.Task[bool]) -> None:
        self._reading = None

    async def _read_once(self) -> bool:
        try:
            async with asyncio.timeout(READ_S):
                document = await self._document()
            # Of many keys it takes some milliseconds.
            keys = await asyncio.to_thread(parse, document)
        except Exception as error:
            # Whatever it is, a gateway outlives its provider.
            if not self._is_away:
                _log.warning("jwks.not_read", error=type(error).__name__, keys=len(self._keys))
            self._is_away = True
            return False
        if self._is_away or {each.kid for each in keys} != {each.kid for each in self._keys}:
            _log.info("jwks.read", keys=len(keys))
        self._keys, self._is_away = keys, False
        self._good_until = self._clock() + self._settings.refresh_s + self._settings.keep_s
        return True

    async def _document(self) -> object:
        url = self._settings.url
        if url.startswith("file:"):
            return json.loads(await asyncio.to_thread(_read_file, urlsplit(url).path))
        # A session for each reading: they are minutes apart, and each sees fresh names.
        timeout = aiohttp.ClientTimeout(total=READ_S)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as http:
            if not url:
                url = await self._discover(http)
            return await _get(http, url)

    async def _discover(self, http: aiohttp.ClientSession) -> str:
        """Returns where the provider says that its keys are (OpenID Connect Discovery 1.0)."""
        issuer = self._settings.issuer
        told = await _get(http, issuer.rstrip("/") + "/.well-known/openid-configuration")
        url = told.get("jwks_uri") if isinstance(told, dict) else None
        if not isinstance(told, dict) or told.get("issuer") != issuer or not isinstance(url, str):
            raise ValueError("no configuration of this issuer")
        if url.startswith("file:") or not is_safe_url(url):
            raise ValueError("keys at a place that is not safe")
        return url


async def _get(http: aiohttp.ClientSession, url: str) -> Any:  # noqa: ANN401 - any JSON
    """Returns a JSON document. Redirections are not followed: they could lead out of TLS."""
    async with http.get(url, allow_redirects=False) as answer:
        if answer.status != 200:
            raise ValueError("another answer than 200")
        body = bytearray()
        async for block in answer.content.iter_any():
            body += block
            if len(body) > MOST_BYTES:
                raise ValueError("too long")
        return json.loads(body)


def _read_file(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(MOST_BYTES)
