"""Tokens of an identity provider: real keys of all kinds, over real HTTP."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from structlog.testing import capture_logs

from gateway.auth import jwks_keys
from gateway.auth.jwks import MOST_TOKEN, JwksAuth
from gateway.auth.jwks_settings import JwksSettings
from gateway.settings import GatewaySettings
from scheduler.core.errors import (
    ConfigurationError,
    ForbiddenError,
    NoCapacityError,
    RequestError,
    UnauthenticatedError,
)
from scheduler.core.ids import Grant, Principal
from scheduler.core.quotas import Quotas
from scheduler.process.config import load_settings
from tests.fakes.identity_provider import AUDIENCE, IdentityProvider, SigningKey

pytestmark = pytest.mark.unit

WAIT_S = 20.0


@pytest.fixture(scope="module")
def rsa_key() -> SigningKey:
    return SigningKey("rsa", "RS256")


@pytest.fixture(scope="module")
def keys(rsa_key: SigningKey) -> list[SigningKey]:
    return [rsa_key, SigningKey("ec", "ES256"), SigningKey("ed", "EdDSA")]


@pytest.fixture
async def provider(keys: list[SigningKey]) -> AsyncIterator[IdentityProvider]:
    async with IdentityProvider(*keys).serving() as made:
        yield made


class Clock:
    """Time that a test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def of(provider: IdentityProvider, **told: Any) -> JwksSettings:
    defaults = {"issuer": provider.url, "audience": (AUDIENCE,), "url": f"{provider.url}/keys"}
    # Copied, as tests have not the minutes that readings are apart.
    return JwksSettings().model_copy(update={**defaults, **told})


@asynccontextmanager
async def knowing(
    provider: IdentityProvider, clock: Clock | None = None, **told: Any
) -> AsyncIterator[JwksAuth]:
    """An authenticator that has read the provider's keys."""
    auth = JwksAuth(of(provider, **told), monotonic=clock or Clock())
    task = asyncio.create_task(auth.run())
    try:
        await until(lambda: auth._keys.are_known)
        yield auth
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)


async def call(auth: JwksAuth, token: str | None) -> Principal:
    """Calls as a door does."""
    if token is not None:
        await auth.prepare(token)
    return auth.authenticate(token)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


# Whose tokens are taken


async def test_tokens_of_all_kinds_of_keys_are_taken(
    provider: IdentityProvider, keys: list[SigningKey]
) -> None:
    async with knowing(provider) as auth:
        for key in keys:
            principal = await call(auth, provider.token(key))
            assert (principal.tenant, principal.scopes) == ("user-1", {"session"})
            assert [each.name for each in principal.holders] == ["user:user-1"]
            assert principal.grant == Grant()
        # One reading served all of them.
        assert provider.asked == 1


@pytest.mark.parametrize(
    "told",
    [
        {"iss": "http://127.0.0.1:1"},
        {"iss": None},
        {"aud": "another"},
        {"aud": None},
        {"aud": []},
        {"sub": None},
        {"sub": 5},
        {"exp": None},
        {"exp": 1},
        {"exp": True},
        {"exp": "never"},
        {"exp": 1e400},
        {"nbf": 9e12},
        {"iat": 9e12},
    ],
)
async def test_a_token_that_is_not_for_us_or_not_for_now_is_refused(
    provider: IdentityProvider, rsa_key: SigningKey, told: dict[str, Any]
) -> None:
    async with knowing(provider) as auth:
        header = {"kid": rsa_key.kid, "alg": "RS256", "typ": "JWT"}
        # Signed as it is: the library would not write some of these claims.
        signed = ".".join(
            b64(json.dumps(each).encode()) for each in (header, provider.claims(**told))
        )
        signature = jwt.get_algorithm_by_name("RS256").sign(signed.encode(), rsa_key.private)
        with pytest.raises(UnauthenticatedError):
            await call(auth, f"{signed}.{b64(signature)}")


async def test_clocks_may_be_a_little_apart(provider: IdentityProvider) -> None:
    async with knowing(provider, leeway_s=30) as auth:
        now = int(time.time())
        await call(auth, provider.token(exp=now - 10, nbf=now + 10, iat=now + 10))
        with pytest.raises(UnauthenticatedError, match="expired"):
            await call(auth, provider.token(exp=now - 60))
        with pytest.raises(UnauthenticatedError, match="not valid yet"):
            await call(auth, provider.token(nbf=now + 60))


async def test_one_of_several_audiences_is_enough(provider: IdentityProvider) -> None:
    async with knowing(provider, audience=("other", AUDIENCE)) as auth:
        await call(auth, provider.token(aud=["somebody", AUDIENCE]))


# Confusion of algorithms


async def test_a_public_key_is_never_taken_for_a_secret(
    provider: IdentityProvider, rsa_key: SigningKey
) -> None:
    pem = rsa_key.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    header = {"alg": "HS256", "typ": "JWT", "kid": rsa_key.kid}
    signed = ".".join(b64(json.dumps(each).encode()) for each in (header, provider.claims()))
    forged = f"{signed}.{b64(hmac.new(pem, signed.encode(), hashlib.sha256).digest())}"
    async with knowing(provider) as auth:
        assert not auth.recognises(forged)
        with pytest.raises(UnauthenticatedError):
            await call(auth, forged)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, 5, ["RS256"]])
async def test_an_unsigned_token_is_refused(provider: IdentityProvider, algorithm: object) -> None:
    header = {"alg": algorithm, "typ": "JWT", "kid": "rsa"}
    signed = ".".join(b64(json.dumps(each).encode()) for each in (header, provider.claims()))
    async with knowing(provider) as auth:
        for signature in ("", "AAAA"):
            with pytest.raises(UnauthenticatedError):
                await call(auth, f"{signed}.{signature}")


async def test_a_key_is_good_for_its_own_algorithm_alone(
    provider: IdentityProvider, keys: list[SigningKey]
) -> None:
    rsa_key, ec_key, _ = keys
    async with knowing(provider) as auth:
        # Signed well, but by another key than the one that is named.
        with pytest.raises(UnauthenticatedError):
            await call(auth, ec_key.sign(provider.claims(), kid=rsa_key.kid))
    rsa_key.public["alg"] = "RS512"
    try:
        async with knowing(provider) as auth:
            with pytest.raises(UnauthenticatedError):
                await call(auth, provider.token(rsa_key))
    finally:
        del rsa_key.public["alg"]


async def test_only_algorithms_that_are_allowed_are_taken(
    provider: IdentityProvider, keys: list[SigningKey]
) -> None:
    async with knowing(provider, algorithms=("ES256",)) as auth:
        await call(auth, provider.token(keys[1]))
        for other in (keys[0], keys[2]):
            with pytest.raises(UnauthenticatedError):
                await call(auth, provider.token(other))


@pytest.mark.parametrize("algorithms", [["HS256"], ["none"], ["RS256", "HS512"], []])
def test_shared_secrets_and_none_cannot_be_configured(algorithms: list[str]) -> None:
    with pytest.raises(ConfigurationError, match=r"jwks\.algorithms: known are"):
        load_settings(GatewaySettings, overrides={"jwks": {"algorithms": algorithms}})


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"typ": "logout+jwt"},
        {"typ": "dpop+jwt"},
        {"kid": 5},
        {"kid": "x" * 999},
    ],
)
async def test_a_token_with_another_purpose_is_refused(
    provider: IdentityProvider, rsa_key: SigningKey, header: dict[str, Any]
) -> None:
    head = {"alg": "RS256", "typ": "at+jwt", "kid": rsa_key.kid, **header}
    signed = ".".join(b64(json.dumps(each).encode()) for each in (head, provider.claims()))
    signature = jwt.get_algorithm_by_name("RS256").sign(signed.encode(), rsa_key.private)
    async with knowing(provider) as auth:
        with pytest.raises(UnauthenticatedError):
            await call(auth, f"{signed}.{b64(signature)}")


@pytest.mark.parametrize(
    "token", [None, "", ".", "..", "a.b.c", "rk_key", "\u00e9", "x" * (MOST_TOKEN + 1), "e30.e30."]
)
async def test_what_is_no_token_is_refused(provider: IdentityProvider, token: str | None) -> None:
    async with knowing(provider) as auth:
        with pytest.raises(UnauthenticatedError):
            await call(auth, token)
        assert provider.asked == 1


async def test_a_token_that_was_changed_is_refused(provider: IdentityProvider) -> None:
    head, _, signature = provider.token().split(".")
    body = b64(json.dumps(provider.claims(sub="user-2")).encode())
    async with knowing(provider) as auth:
        with pytest.raises(UnauthenticatedError):
            await call(auth, f"{head}.{body}.{signature}")


# Keys that come and go


async def test_a_new_key_is_taken_at_its_first_token(
    provider: IdentityProvider, keys: list[SigningKey]
) -> None:
    async with knowing(provider) as auth:
        provider.keys = [SigningKey("next", "ES256"), *keys]
        assert (await call(auth, provider.token())).tenant == "user-1"
        assert provider.asked == 2


async def test_unknown_keys_are_looked_for_seldom_and_once_for_all_who_wait(
    provider: IdentityProvider,
) -> None:
    clock = Clock()
    async with knowing(provider, clock) as auth:
        strangers = [SigningKey(f"stranger-{n}", "ES256") for n in range(5)]
        told = await asyncio.gather(
            *(call(auth, provider.token(key)) for key in strangers), return_exceptions=True
        )
        assert all(isinstance(each, UnauthenticatedError) for each in told)
        assert provider.asked == 2
        with pytest.raises(UnauthenticatedError):
            await call(auth, provider.token(strangers[0]))
        assert provider.asked == 2
        clock.now += jwks_keys.UNKNOWN_PAUSE_S
        with pytest.raises(UnauthenticatedError):
            await call(auth, provider.token(strangers[0]))
        assert provider.asked == 3


async def test_a_key_that_was_taken_back_ends_its_tokens(
    provider: IdentityProvider, keys: list[SigningKey]
) -> None:
    async with knowing(provider, refresh_s=0.02) as auth:
        provider.keys = keys[1:]
        await until(lambda: provider.asked > 1)
        await until(lambda: auth._keys.find("rsa", "RS256") is None)
        with pytest.raises(UnauthenticatedError):
            await call(auth, provider.token(keys[0]))


async def test_a_token_without_the_id_of_its_key_needs_the_only_one_that_fits(
    provider: IdentityProvider, keys: list[SigningKey]
) -> None:
    claims = provider.claims()
    token = jwt.encode(claims, keys[0].private, algorithm="RS256")
    async with knowing(provider) as auth:
        await call(auth, token)
    provider.keys = [*keys, SigningKey("second", "RS256")]
    async with knowing(provider) as auth:
        with pytest.raises(UnauthenticatedError):
            await call(auth, token)


@pytest.mark.parametrize("trouble", ["status", "nonsense", "other", "empty", "large", "gone"])
async def test_a_provider_in_trouble_changes_nothing_for_a_day(
    provider: IdentityProvider, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks_keys, "FIRST_RETRY_S", 0.02)
    clock = Clock()
    async with knowing(provider, clock, refresh_s=0.02, keep_s=3600.0) as auth:
        token = provider.token()
        provider.status = 503 if trouble == "status" else 200
        provider.body = {
            "nonsense": b"{",
            "other": b"[]",
            "empty": b'{"keys": []}',
            "large": b" " * (jwks_keys.MOST_BYTES + 1),
        }.get(trouble)
        if trouble == "gone":
            provider.status = 404
        with capture_logs() as logs:
            await until(lambda: auth._keys._is_away)
            assert (await call(auth, token)).tenant == "user-1"
        assert {each["event"] for each in logs} == {"jwks.not_read"}
        clock.now += 3600.0 + 2.0
        # Nobody knows any more whether the keys are still good.
        with pytest.raises(NoCapacityError):
            await call(auth, token)
        provider.status, provider.body = 200, None
        await until(lambda: not auth._keys._is_away)
        await call(auth, token)


async def test_a_gateway_starts_without_its_provider_and_waits_for_it(
    keys: list[SigningKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks_keys, "FIRST_RETRY_S", 0.05)
    provider = IdentityProvider(*keys)
    async with provider.serving():
        port = int(provider.url.rpartition(":")[2])
    auth = JwksAuth(of(provider))
    task = asyncio.create_task(auth.run())
    try:
        token = provider.token()
        with pytest.raises(NoCapacityError) as refusal:
            await call(auth, token)
        assert refusal.value.retry_after_s
        async with provider.serving(port):
            await until(lambda: auth._keys.are_known)
            await call(auth, token)
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_calls_do_not_wait_long_for_a_provider_that_does_not_answer(
    keys: list[SigningKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks_keys, "WAIT_S", 0.05)
    silent = await asyncio.start_server(lambda *_: None, "127.0.0.1")
    provider = IdentityProvider(*keys)
    provider.url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    auth = JwksAuth(of(provider))
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(NoCapacityError):
            await call(auth, provider.token())
    task = auth._keys._reading
    assert task is not None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    silent.close()


# Where keys are


async def test_where_keys_are_is_found_out_from_the_issuer(provider: IdentityProvider) -> None:
    async with knowing(provider, url="") as auth:
        await call(auth, provider.token())


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "http://127.0.0.1:1"},
        {"jwks_uri": "http://keys.example.com/"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": None},
    ],
)
async def test_a_configuration_that_is_not_to_be_trusted_brings_no_keys(
    provider: IdentityProvider, change: dict[str, Any]
) -> None:
    provider.configuration |= change
    auth = JwksAuth(of(provider, url=""))
    assert not await auth._keys._read()
    assert provider.asked == 0


async def test_redirections_are_not_followed(provider: IdentityProvider) -> None:
    auth = JwksAuth(of(provider, url=f"{provider.url}/elsewhere"))
    assert not await auth._keys._read()
    assert provider.asked == 0


async def test_keys_may_lie_in_a_file(
    provider: IdentityProvider, keys: list[SigningKey], tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [each.public for each in keys]}))
    async with knowing(provider, url=f"file://{file}") as auth:
        await call(auth, provider.token())
        assert provider.asked == 0


@pytest.mark.parametrize(
    "url", ["http://id.example.com/keys", "ftp://x/y", "keys.json", "file://host/x", "https://"]
)
def test_keys_come_only_from_where_nobody_can_change_them(url: str) -> None:
    for name in ("url", "issuer"):
        with pytest.raises(ConfigurationError, match=rf"jwks\.{name}: the form is"):
            load_settings(GatewaySettings, overrides={"jwks": {name: url}})


def test_issuer_and_audience_are_needed() -> None:
    for told in ({"issuer": "https://id.example.com"}, {"audience": (AUDIENCE,)}):
        with pytest.raises(ConfigurationError, match="--jwks-issuer and --jwks-audience"):
            JwksAuth(JwksSettings(**told))  # type: ignore[arg-type]


def test_keys_that_sign_nothing_for_us_are_passed_over(keys: list[SigningKey]) -> None:
    good = keys[1].public
    short = rsa.generate_private_key(65537, 1024).public_key()  # noqa: S505 - that is the point
    private = {**good, "kid": "private", "d": good["x"]}
    others: list[object] = [
        {**good, "kid": "enc", "use": "enc"},
        {**good, "kid": "ops", "key_ops": ["sign"]},
        {**good, "kid": "ops2", "key_ops": 5},
        {**good, "kid": 5},
        {**good, "kid": "alg", "alg": "RS256"},
        {**good, "kid": "crv", "crv": "P-521"},
        {**good, "kid": "point", "y": good["x"]},
        {"kty": "oct", "kid": "oct", "k": b64(b"0" * 32)},
        {"kty": "EC", "crv": "secp256k1", "kid": "k1"},
        {"kty": "OKP", "crv": "X25519", "kid": "x"},
        {**RSAAlgorithm.to_jwk(short, as_dict=True), "kid": "short"},
        private,
        {},
        5,
    ]
    assert [each.kid for each in jwks_keys.parse({"keys": [*others, good]})] == [good["kid"]]
    with pytest.raises(ValueError, match="no key"):
        jwks_keys.parse({"keys": others})


# What claims mean


async def test_claims_are_read_as_configured(provider: IdentityProvider) -> None:
    told = {
        "org": {"id": "acme"},
        "permissions": ["sana:operator", "sana:session", "sana:root", "admin", 5],
        "models": "painter sana-streaming",
        "limits": {"max_sessions": 3, "max_session_duration": "10m", "uploads_per_day": "1G"},
    }
    async with knowing(
        provider,
        tenant_claim="org.id",
        tenant_prefix="ext-",
        scope_claim="permissions",
        models_claim="models",
        limits_claim="limits",
    ) as auth:
        principal = await call(auth, provider.token(**told))
        assert principal.tenant == "ext-acme"
        assert principal.scopes == {"session", "operator"}
        assert principal.grant.models == (frozenset({"painter", "sana-streaming"}),)
        assert principal.grant.max_session_s == 600
        (user,) = principal.holders
        assert (user.name, user.max_sessions) == ("user:user-1", 3)
        assert user.quotas == Quotas(uploads_per_day=2**30)


async def test_a_token_without_scopes_has_none_or_those_of_everybody(
    provider: IdentityProvider,
) -> None:
    token = provider.token(scope=None)
    async with knowing(provider) as auth:
        assert (await call(auth, token)).scopes == frozenset()
    async with knowing(provider, default_scopes=("session",)) as auth:
        assert (await call(auth, token)).scopes == {"session"}
        # One that has other scopes was not given ours.
        assert (await call(auth, provider.token(scope="openid"))).scopes == frozenset()


@pytest.mark.parametrize(
    "told",
    [
        {"tenant": None},
        {"tenant": ""},
        {"tenant": "x" * 129},
        {"tenant": "a\nb"},
        {"tenant": 5},
        {"sana_limits": {"max_sessions": 0}},
        {"sana_limits": {"no_such_limit": 1}},
        {"sana_limits": "none"},
        {"sana_models": ["m"] * 65},
    ],
)
async def test_a_good_token_that_says_nothing_usable_is_forbidden(
    provider: IdentityProvider, told: dict[str, Any]
) -> None:
    async with knowing(provider, tenant_claim="tenant") as auth:
        with pytest.raises(ForbiddenError):
            await call(auth, provider.token(**({"tenant": "acme"} | told)))


async def test_no_model_is_none_and_not_all(provider: IdentityProvider) -> None:
    async with knowing(provider) as auth:
        for nothing in ("", [], {}):
            principal = await call(auth, provider.token(sana_models=nothing))
            assert principal.grant.models == (frozenset(),)


async def test_refusals_repeat_nothing_of_a_token(provider: IdentityProvider) -> None:
    async with knowing(provider) as auth:
        for token in (provider.token(aud="secret-audience"), provider.token(exp=1), "secret.a.b"):
            with capture_logs() as logs, pytest.raises(RequestError) as refusal:
                await call(auth, token)
            assert "secret" not in str(refusal.value)
            assert refusal.value.__cause__ is None
            assert logs == []
