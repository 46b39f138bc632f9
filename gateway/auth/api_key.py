"""`--auth api-key`: API keys from a file, and tokens in exchange for them.

The file is the one authority on what a key allows: a token says only to which part of that
it is narrowed. So a key that is taken out of the file, or given less, takes its tokens along.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

from gateway.audit import FAILED, AuditLog
from gateway.auth import details, key_file
from gateway.auth.callers import KEY_MARK, MODEL, OPERATOR, SESSION
from gateway.auth.details import Narrowing
from gateway.auth.key_file import KeyRecord
from gateway.auth.limits import Limits
from gateway.auth.tokens import Claims, TokenSigner, load_secrets
from scheduler.core.errors import ConfigurationError, UnauthenticatedError
from scheduler.core.ids import Grant, Holder, Principal

LOOK_S: Final = 1.0
"""How often the file of keys is looked at."""
REMIND_LOOKS: Final = 60
"""A file that cannot be used is tried, and told of, again after so many looks."""

_NO_SUCH_KEY: Final = "the API key is not valid"
_log = structlog.get_logger(__name__)

Stamp = tuple[int, int, int, int]
"""What changes when a file does, or who may read it: times of both changes, size, number."""


class ApiKeyAuth:
    """Knows the callers of a file of API keys."""

    def __init__(
        self, api_keys: str, token_secret: str = "", *, clock: Callable[[], float] = time.time
    ) -> None:
        """Reads the keys and the secret.

        Args:
            api_keys: The file of keys, see docs/auth.md.
            token_secret: The file with the secret that tokens are signed with, the same for all
                gateways; empty for the one of this user on this machine.
            clock: Seconds since 1970.

        Raises:
            ConfigurationError: One of the files cannot be used.
        """
        self._path = Path(api_keys)
        self._clock = clock
        self._stamp = _stamp(self._path)
        self._keys = key_file.read(self._path)
        self._is_stale = False
        """Whether the file has become one that cannot be used."""
        self._looks = 0
        """Since it was read last."""
        self._tokens = TokenSigner(load_secrets(token_secret), clock)
        self.audit = AuditLog()
        """Remembers which keys came and went."""
        _log.info("api_keys.read", keys=len(self._keys.records))

    def authenticate(self, token: str | None) -> Principal:
        """Returns the caller that shows a token; see `gateway.ingress.Authenticator`."""
        if token is None:
            raise UnauthenticatedError("a token is needed: POST /tokens makes one of an API key")
        if token.startswith(KEY_MARK):
            raise UnauthenticatedError(
                "an API key is not a token: exchange it with POST /tokens; gRPC takes it as "
                "x-api-key, too"
            )
        claims = self._tokens.verify(token)
        record = self._keys.by_id.get(claims.key_id)
        now = self._clock()
        if record is None or record.mark != claims.key_mark or record.is_over(now):
            raise UnauthenticatedError("the API key of this token was revoked or has expired")
        return self._principal(record, claims.narrowing, claims.token_id)

    def recognises(self, token: str) -> bool:
        """Tells whether a token, or an API key shown as one, looks like one of ours."""
        return token.startswith(KEY_MARK) or self._tokens.recognises(token)

    def authenticate_key(self, api_key: str) -> Principal:
        """Returns the caller that shows an API key; see `gateway.auth.KeyAuthenticator`."""
        record = self._record(api_key)
        narrowing = Narrowing(operator=True)
        return self._principal(record, narrowing)

    def issue(self, api_key: str | None, lifetime_s: int, wanted: object) -> tuple[str, int]:
        """Returns a token and when it expires, in seconds since 1970.

        What is asked for beyond what the key allows is cut, not refused: a longer life, more
        models, more or longer sessions. It is refused where it is used.

        Args:
            api_key: What the caller showed.
            lifetime_s: How long the token should live.
            wanted: The `authorization_details` that narrow it (RFC 9396); unchecked.

        Raises:
            UnauthenticatedError: The key is missing, wrong or expired.
            BadArgumentError: The details make no sense.
        """
        if api_key is None:
            raise UnauthenticatedError("an API key is needed: send it as Reactor-API-Key")
        record = self._record(api_key)
        expires_at = int(self._clock()) + lifetime_s
        if record.expires_at is not None:
            expires_at = min(expires_at, int(record.expires_at))
        claims = Claims(
            token_id=secrets.token_urlsafe(16),
            key_id=record.key_id,
            key_mark=record.mark,
            narrowing=details.read(wanted),
            expires_at=expires_at,
        )
        token = self._tokens.sign(claims)
        _log.info("token.issued", key=record.key_id, tenant=record.tenant)
        return token, expires_at

    async def run(self) -> None:
        """Reads the file again whenever it changes, until cancelled.

        One that cannot be used changes nothing but the log: the keys before it stay, and the log
        says so until it can.
        """
        while True:
            await asyncio.sleep(LOOK_S)
            # It may have thousands of lines, and lie on a disk that is away: not on the loop.
            await asyncio.to_thread(self.look)

    def look(self) -> bool:
        """Reads the file again if it has changed, or could not be used for a while; returns
        whether there are new keys.
        """
        stamp = _stamp(self._path)
        self._looks += 1
        if stamp == self._stamp and not (self._is_stale and self._looks >= REMIND_LOOKS):
            return False
        self._stamp, self._looks = stamp, 0
        before = self._keys.by_id
        try:
            self._keys = key_file.read(self._path)
        except Exception as error:
            # Whatever it is, a gateway outlives its file.
            self._is_stale = True
            ours = isinstance(error, ConfigurationError)
            _log.error("api_keys.kept", reason=str(error) if ours else type(error).__name__)
            self.audit.record(None, "keys.reload", outcome=FAILED)
            return False
        self._is_stale = False
        self.audit.record(None, "keys.reload", **_changes(before, self._keys.by_id))
        _log.info("api_keys.read", keys=len(self._keys.records))
        return True

    def _principal(self, record: KeyRecord, narrowing: Narrowing, token_id: str = "") -> Principal:
        tenant = self._keys.tenants.get(record.tenant)
        return _principal(record, tenant, narrowing, token_id)

    def _record(self, api_key: str) -> KeyRecord:
        record = self._keys.find(api_key)
        if record is None or record.is_over(self._clock()):
            raise UnauthenticatedError(_NO_SUCH_KEY)
        return record


def _principal(
    record: KeyRecord, tenant: Limits | None, narrowing: Narrowing, token_id: str
) -> Principal:
    """Returns what a key and a token of it allow together, within what its tenant may use."""
    asked = {SESSION: narrowing.session, OPERATOR: narrowing.operator, MODEL: True}
    limits = record.limits
    holders = [] if tenant is None else [tenant.holder(f"tenant:{record.tenant}")]
    holders.append(limits.holder(f"key:{record.key_id}"))
    own, left = "", _left(narrowing)
    if narrowing.scoped and left != 0:
        own = f"token:{token_id}"
        holders.append(Holder(own, left))
    longest = [limits.max_session_duration, narrowing.max_session_s]
    longest += [] if tenant is None else [tenant.max_session_duration]
    durations = [each for each in longest if each is not None]
    grant = Grant(
        models=tuple(each for each in (record.models, narrowing.models) if each is not None),
        sessions=(narrowing.sessions or frozenset()) if narrowing.scoped else None,
        own=own,
        max_session_s=min(durations, default=None),
    )
    scopes = frozenset(scope for scope in record.scopes if asked[scope])
    return Principal(record.tenant, scopes, tuple(holders), grant)


def _left(narrowing: Narrowing) -> int | None:
    """Returns how many sessions a token may create; None: as many as its key may have."""
    bound, most = narrowing.sessions, narrowing.max_sessions
    if most is None:
        return None if bound is None else 0
    return max(0, most - len(bound or ()))


def _changes(before: Mapping[str, KeyRecord], after: Mapping[str, KeyRecord]) -> dict[str, str]:
    """Names the keys that a reading of the file has brought, taken and changed."""
    both = before.keys() & after.keys()
    return {
        "added": ",".join(sorted(after.keys() - before.keys())),
        "removed": ",".join(sorted(before.keys() - after.keys())),
        "changed": ",".join(sorted(each for each in both if before[each] != after[each])),
    }


def _stamp(path: Path) -> Stamp | None:
    try:
        told = path.stat()
    except OSError:
        return None
    return told.st_mtime_ns, told.st_ctime_ns, told.st_size, told.st_ino
