"""From tokens and keys to principals, and what a grant allows."""

import pytest

from gateway.auth import (
    ANY_MODEL,
    OPERATOR,
    SESSION,
    Access,
    NoAuth,
    bearer_token,
    caller_of_metadata,
    require,
)
from sana_gateway.v1 import pool_pb2
from scheduler.core.errors import (
    ForbiddenError,
    NoCapacityError,
    NotReadyError,
    UnauthenticatedError,
)
from scheduler.core.ids import Grant, Holder, Principal

pytestmark = pytest.mark.unit

PAINTER = ("painter", "sana-streaming", "reactor/sana-streaming")
SIMULATED = ("simulated", "sana-streaming", "reactor/sana-streaming")


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


class Telling:
    """Says what it was shown."""

    def authenticate(self, token: str | None) -> Principal:
        if token is None:
            raise UnauthenticatedError("a token is needed")
        return Principal(f"token {token}", frozenset())


class TellingKeys(Telling):
    def authenticate_key(self, api_key: str) -> Principal:
        return Principal(f"key {api_key}", frozenset())


@pytest.mark.parametrize(
    ("metadata", "who"),
    [
        ({"authorization": "Bearer t"}, "token t"),
        ({"x-api-key": "k"}, "key k"),
        ({"authorization": "Bearer t", "x-api-key": "k"}, "token t"),
        ({"authorization": "Basic x", "x-api-key": "k"}, "key k"),
    ],
)
def test_a_grpc_call_shows_a_token_or_a_key(metadata: dict[str, str], who: str) -> None:
    assert caller_of_metadata(TellingKeys(), metadata).tenant == who


@pytest.mark.parametrize("metadata", [{}, {"x-api-key": ""}, {"x-api-key": "k"}])
def test_a_key_is_nothing_to_an_authenticator_that_takes_none(metadata: dict[str, str]) -> None:
    with pytest.raises(UnauthenticatedError):
        caller_of_metadata(Telling(), metadata)


def caller(*models: str, **grant: object) -> Principal:
    sets = tuple(frozenset(names.split()) for names in models)
    return Principal("me", frozenset({SESSION}), grant=Grant(models=sets, **grant))  # type: ignore[arg-type]


def pool(*groups: tuple[str, ...]) -> pool_pb2.DescribePoolResponse:
    return pool_pb2.DescribePoolResponse(actors=[pool_pb2.Actor(names=names) for names in groups])


def access(*groups: tuple[str, ...]) -> Access:
    return Access(lambda: pool(*groups))


@pytest.mark.parametrize(
    ("allowed", "model"),
    [
        ("painter", "painter"),
        ("painter", "sana-streaming"),
        ("painter", "reactor/sana-streaming"),
        ("sana-streaming", "painter"),
        ("reactor/sana-streaming", "sana-streaming"),
        ("sana-streaming", "reactor/sana-streaming"),
        ("other sana-streaming", "sana-streaming"),
    ],
)
def test_a_model_is_allowed_under_all_of_its_names(allowed: str, model: str) -> None:
    access(PAINTER).may_create(caller(allowed), model)
    access(PAINTER).may_use(caller(allowed), "s", caller(), model)


@pytest.mark.parametrize(
    ("allowed", "model"),
    [
        ("painter", "simulated"),
        # Either of the two may be given to whoever asks for their common name.
        ("painter", "sana-streaming"),
        ("painter", "nowhere"),
        ("sana", "sana-streaming"),
    ],
)
def test_another_model_is_refused(allowed: str, model: str) -> None:
    both = access(PAINTER, SIMULATED)
    with pytest.raises(ForbiddenError, match="does not allow this model"):
        both.may_create(caller(allowed), model)
    with pytest.raises(ForbiddenError, match="does not allow this model"):
        both.may_use(caller(allowed), "s", caller(), model)


def test_a_key_and_its_token_have_to_allow_the_model_both() -> None:
    both = caller("painter simulated", "simulated")
    access(PAINTER[:1], SIMULATED[:1]).may_create(both, "simulated")
    with pytest.raises(ForbiddenError):
        access(PAINTER[:1], SIMULATED[:1]).may_create(both, "painter")


def test_while_the_scheduler_is_away_another_name_is_not_yet_known() -> None:
    away = Access(lambda: None)
    with pytest.raises(NotReadyError) as told:
        away.may_use(caller("painter"), "s", caller(), "sana-streaming")
    assert told.value.retry_after_s
    away.may_create(caller("painter"), "painter")
    with pytest.raises(NoCapacityError) as refusal:
        away.may_create(caller("painter"), "sana-streaming")
    assert refusal.value.retry_after_s is not None


def test_names_are_remembered_when_their_actors_are_gone() -> None:
    seen = [pool(PAINTER), pool(), None]
    checked = Access(lambda: seen[0])
    for _ in range(3):
        checked.may_use(caller("painter"), "s", caller(), "sana-streaming")
        del seen[0:1]
        seen.append(None)


def test_a_bound_token_uses_its_sessions_and_creates_none() -> None:
    bound, free = caller(sessions=frozenset({"s"})), access(PAINTER)
    free.may_use(bound, "s", caller(), "painter")
    with pytest.raises(ForbiddenError, match="for other sessions"):
        free.may_use(bound, "other", caller(), "painter")
    with pytest.raises(ForbiddenError, match="creates none"):
        free.may_create(bound, "painter")


def test_a_token_uses_the_sessions_that_it_created_itself() -> None:
    bound, free = caller(sessions=frozenset({"s"}), own="token:1"), access(PAINTER)
    free.may_create(bound, "painter")
    own = Principal("me", frozenset(), (Holder("key:k"), Holder("token:1", 2)))
    free.may_use(bound, "own", own, "painter")
    foreign = Principal("me", frozenset(), (Holder("key:k"), Holder("token:2", 2)))
    with pytest.raises(ForbiddenError):
        free.may_use(bound, "foreign", foreign, "painter")


def test_a_session_whose_model_is_not_known_yet_is_for_those_who_may_have_any() -> None:
    access().may_use(caller(), "s", caller(), ANY_MODEL)
    access().may_use(caller(sessions=frozenset({"s"})), "s", caller(), ANY_MODEL)
    for narrow in (caller("painter"), caller(sessions=frozenset(), own="token:1")):
        with pytest.raises(NotReadyError):
            access().may_use(narrow, "s", caller(), ANY_MODEL)
