"""Lease tokens."""

from __future__ import annotations

import jwt
import pytest

from scheduler.core.errors import ConfigurationError, UnauthenticatedError
from scheduler.core.ids import Epoch, GatewayId, SessionId
from scheduler.process.tokens import LeaseClaims, LeaseTokens

pytestmark = pytest.mark.unit

SECRET = "0123456789abcdef0123456789abcdef"
CLAIMS = {"session": "s", "epoch": 3, "gateway": "g", "exp": 2_000_000_000}


def signed(tokens: LeaseTokens) -> str:
    return tokens.sign(SessionId("s"), Epoch(3), GatewayId("g"))


def test_a_token_says_what_was_signed() -> None:
    claims = LeaseTokens(SECRET).verify(signed(LeaseTokens(SECRET)))
    assert claims == LeaseClaims(SessionId("s"), Epoch(3), GatewayId("g"))


def test_a_token_expires() -> None:
    clock = [1_000_000_000.0]
    tokens = LeaseTokens(SECRET, lifetime_s=60.0, clock=lambda: clock[0])
    token = signed(tokens)
    clock[0] += 59.0
    tokens.verify(token)
    clock[0] += 1.0
    with pytest.raises(UnauthenticatedError, match="expired"):
        tokens.verify(token)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "not a token",
        signed(LeaseTokens(SECRET))[:-2],
        signed(LeaseTokens("x" * 32)),
        jwt.encode(CLAIMS, "", algorithm="none"),
        jwt.encode({**CLAIMS, "epoch": "3"}, SECRET, algorithm="HS256"),
        jwt.encode({**CLAIMS, "session": None}, SECRET, algorithm="HS256"),
        jwt.encode({**CLAIMS, "exp": "never"}, SECRET, algorithm="HS256"),
        *[
            jwt.encode({k: v for k, v in CLAIMS.items() if k != name}, SECRET, algorithm="HS256")
            for name in CLAIMS
        ],
    ],
)
def test_anything_else_is_refused_without_saying_more(token: str) -> None:
    with pytest.raises(UnauthenticatedError) as refusal:
        LeaseTokens(SECRET).verify(token)
    assert str(refusal.value) == "the lease token is not valid"


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        LeaseTokens("short")
