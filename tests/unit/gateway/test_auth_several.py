"""Own keys and users of an identity provider at the same doors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import chosen
from gateway.auth.key_file import digest_of
from gateway.auth.several import SeveralAuth
from gateway.settings import GatewaySettings
from scheduler.core.errors import ConfigurationError, UnauthenticatedError
from scheduler.core.ids import Principal
from scheduler.process.config import load_settings
from tests.fakes.identity_provider import AUDIENCE, IdentityProvider, SigningKey

pytestmark = pytest.mark.unit

API_KEY = "rk_" + "k" * 43


@pytest.fixture
async def provider() -> AsyncIterator[IdentityProvider]:
    async with IdentityProvider(SigningKey("ec", "ES256")).serving() as made:
        yield made


def settings(
    folder: Path, provider: IdentityProvider, auth: str = "api-key,jwks"
) -> GatewaySettings:
    keys, secret = folder / "keys.yaml", folder / "secret"
    keys.write_text(
        f"tenants:\n  acme: {{max_sessions: 7, stored: 1G}}\n"
        f"keys:\n  - {{id: web, sha256: {digest_of(API_KEY)}, tenant: acme, stored: 512M}}\n"
    )
    secret.write_text("s" * 32)
    return load_settings(
        GatewaySettings,
        overrides={
            "auth": auth,
            "api_keys": str(keys),
            "token_secret": str(secret),
            "jwks": {
                "issuer": provider.url,
                "audience": [AUDIENCE],
                "url": f"{provider.url}/keys",
            },
        },
    )


async def call(auth: SeveralAuth, token: str) -> Principal:
    await auth.prepare(token)
    return auth.authenticate(token)


async def test_each_credential_goes_to_whom_it_is_for(
    tmp_path: Path, provider: IdentityProvider
) -> None:
    auth = chosen.authenticator(settings(tmp_path, provider))
    assert isinstance(auth, SeveralAuth)
    running = asyncio.create_task(auth.run())
    try:
        own, _ = auth.issue(API_KEY, 60, None)
        assert (await call(auth, own)).tenant == "acme"
        assert (await call(auth, provider.token())).tenant == "user-1"
        assert auth.authenticate_key(API_KEY).tenant == "acme"
        with pytest.raises(UnauthenticatedError, match="exchange it"):
            await call(auth, API_KEY)
        for bad in ("nonsense", provider.token(aud="other"), own[:-4] + "AAAA"):
            with pytest.raises(UnauthenticatedError):
                await call(auth, bad)
        with pytest.raises(UnauthenticatedError):
            auth.authenticate(None)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_what_a_tenant_may_use_counts_beside_what_its_key_may(
    tmp_path: Path, provider: IdentityProvider
) -> None:
    auth = chosen.authenticator(settings(tmp_path, provider))
    assert isinstance(auth, SeveralAuth)
    tenant, key = auth.authenticate_key(API_KEY).holders
    assert (tenant.name, tenant.max_sessions, tenant.quotas.stored) == ("tenant:acme", 7, 2**30)
    assert (key.name, key.max_sessions, key.quotas.stored) == ("key:web", None, 2**29)


async def test_one_alone_takes_no_options_of_the_other(
    tmp_path: Path, provider: IdentityProvider
) -> None:
    for name in ("api-key", "jwks"):
        with pytest.raises(ConfigurationError, match=f"do not fit --auth {name}"):
            chosen.authenticator(settings(tmp_path, provider, name))
    with pytest.raises(ConfigurationError, match="stands alone"):
        chosen.authenticator(settings(tmp_path, provider, "none,jwks"))


def test_an_option_that_nobody_takes_is_not_passed_over(
    tmp_path: Path,
) -> None:
    provider = IdentityProvider()
    provider.url = "https://id.example.com"
    told = settings(tmp_path, provider).model_copy(update={"auth_options": {"other": "x"}})
    with pytest.raises(ConfigurationError, match="no plugin of --auth api-key,jwks takes other"):
        chosen.authenticator(told)
