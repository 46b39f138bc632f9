"""An identity provider over HTTP: real keys, real signatures, and as away as a test wants it."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE: Final = "sana"


class SigningKey:
    """A key pair of the provider."""

    def __init__(self, kid: str, algorithm: str) -> None:
        """Makes one.

        Args:
            kid: Its id.
            algorithm: What it signs with.
        """
        self.kid, self.algorithm = kid, algorithm
        self.private: Any
        if algorithm == "EdDSA":
            self.private = ed25519.Ed25519PrivateKey.generate()
            public = OKPAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        elif algorithm.startswith("ES"):
            self.private = ec.generate_private_key(ec.SECP256R1())
            public = ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        else:
            self.private = rsa.generate_private_key(65537, 2048)
            public = RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        self.public: dict[str, Any] = {**public, "kid": kid}

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        """Returns a token."""
        return jwt.encode(
            claims, self.private, algorithm=self.algorithm, headers={"kid": self.kid, **header}
        )


class IdentityProvider:
    """Serves its keys below `/keys`, and where they are as OpenID Connect has it."""

    def __init__(self, *keys: SigningKey) -> None:
        """Begins with some keys."""
        self.keys = list(keys)
        self.status = 200
        self.body: bytes | None = None
        """What is answered instead of the keys."""
        self.asked = 0
        """How often its keys were read."""
        self.url = ""
        self.configuration: dict[str, Any] = {}

    def claims(self, **told: Any) -> dict[str, Any]:
        """Returns the claims of a good token, changed as told; None takes one away."""
        made = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "user-1",
            "exp": int(time.time()) + 600,
            "scope": "openid sana:session",
            **told,
        }
        return {name: value for name, value in made.items() if value is not None}

    def token(self, key: SigningKey | None = None, **told: Any) -> str:
        """Returns a token of its first key, or of another one."""
        return (key or self.keys[0]).sign(self.claims(**told))

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[IdentityProvider]:
        """Serves until the block ends.

        Args:
            port: On which port of the loopback; 0 takes a free one.
        """
        app = web.Application()
        app.add_routes(
            [
                web.get("/keys", self._keys),
                web.get("/.well-known/openid-configuration", self._configuration),
                web.get("/elsewhere", self._elsewhere),
            ]
        )
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self.configuration = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _keys(self, _: web.Request) -> web.Response:
        self.asked += 1
        body = json.dumps({"keys": [key.public for key in self.keys]}).encode()
        body = body if self.body is None else self.body
        return web.Response(body=body, status=self.status, content_type="application/json")

    async def _configuration(self, _: web.Request) -> web.Response:
        return web.json_response(self.configuration)

    async def _elsewhere(self, _: web.Request) -> web.Response:
        raise web.HTTPFound(f"{self.url}/keys")
