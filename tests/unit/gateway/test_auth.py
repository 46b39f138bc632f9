"""From tokens to principals."""

import pytest

from gateway.auth import OPERATOR, SESSION, NoAuth, bearer_token, require
from scheduler.core.errors import ForbiddenError
from scheduler.core.ids import Principal

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("token", [None, "", "local", "anything"])
def test_without_auth_every_token_and_none_is_the_local_tenant(token: str | None) -> None:
    principal = NoAuth().authenticate(token)
    assert principal == Principal("local", frozenset({SESSION, OPERATOR}))


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, None),
        ("", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("Basic dXNlcg==", None),
        ("Bearer abc", "abc"),
        ("bearer abc", "abc"),
        ("BEARER  abc ", "abc"),
    ],
)
def test_only_a_bearer_value_holds_a_token(header: str | None, token: str | None) -> None:
    assert bearer_token(header) == token


def test_a_missing_scope_is_refused() -> None:
    principal = Principal("tenant", frozenset({SESSION}))
    require(principal, SESSION)
    with pytest.raises(ForbiddenError):
        require(principal, OPERATOR)
