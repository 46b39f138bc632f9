"""What a token is narrowed to: read, written, and refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.auth import details
from gateway.auth.details import Narrowing
from scheduler.core.errors import BadArgumentError

pytestmark = pytest.mark.unit


def session(**parts: Any) -> list[dict[str, Any]]:
    return [{"type": "session", **parts}]


@pytest.mark.parametrize(
    ("wanted", "narrowing"),
    [
        (None, Narrowing()),
        ([], Narrowing()),
        (session(), Narrowing(scoped=True)),
        (session(resources={"models": {"all": True}}), Narrowing(scoped=True)),
        (session(resources=None, constraints=None), Narrowing(scoped=True)),
        (
            session(resources={"models": {"match": ["b", "a"]}}),
            Narrowing(scoped=True, models=frozenset({"a", "b"})),
        ),
        (
            session(resources={"models": {"all": True}, "sessions": {"bind": ["s"]}}),
            Narrowing(scoped=True, sessions=frozenset({"s"})),
        ),
        (
            session(constraints={"max_sessions": 10, "max_session_duration_seconds": 600.0}),
            Narrowing(scoped=True, max_sessions=10, max_session_s=600),
        ),
        ([{"type": "operator"}], Narrowing(session=False, operator=True)),
        ([{"type": "operator"}, *session()], Narrowing(scoped=True, operator=True)),
    ],
)
def test_what_clients_send_is_read(wanted: object, narrowing: Narrowing) -> None:
    assert details.read(wanted) == narrowing
    assert details.read(details.write(narrowing)) == narrowing


@pytest.mark.parametrize(
    "wanted",
    [
        "session",
        {"type": "session"},
        [None],
        [{"type": "payment"}],
        [{"type": ["session"]}],
        [*session(), *session()],
        [{"type": "operator", "actors": ["a"]}],
        session(actions=["create"]),
        session(resources=[]),
        session(resources={"tracks": {}}),
        session(resources={"models": "all"}),
        session(resources={"models": {}}),
        session(resources={"models": {"all": False}}),
        session(resources={"models": {"all": True, "match": ["a"]}}),
        session(resources={"models": {"match": []}}),
        session(resources={"models": {"match": ["a", 5]}}),
        session(resources={"models": {"match": "abc"}}),
        session(resources={"models": {"match": ["x" * 129]}}),
        session(resources={"models": {"match": ["a\n"]}}),
        session(resources={"models": {"match": [str(number) for number in range(65)]}}),
        session(resources={"sessions": {"bind": []}}),
        session(resources={"sessions": {"bind": [str(number) for number in range(17)]}}),
        # A limit with a slip in its name would else be none.
        session(constraints={"max_session": 1}),
        session(constraints={"max_sessions": 0}),
        session(constraints={"max_sessions": True}),
        session(constraints={"max_sessions": "1"}),
        session(constraints={"max_sessions": 1.5}),
        session(constraints={"max_sessions": float("nan")}),
        session(constraints={"max_sessions": float("inf")}),
        session(constraints={"max_session_duration_seconds": 86_401}),
        session(constraints={"max_session_duration_seconds": 10**400}),
    ],
)
def test_anything_else_is_refused_without_repeating_it(wanted: object) -> None:
    with pytest.raises(BadArgumentError, match=r"^authorization_details ") as refusal:
        details.read(wanted)
    assert "xxx" not in str(refusal.value)


FIELDS = ["type", "resources", "constraints", "models", "sessions", "match", "all", "bind"]
LIMITS = ["max_sessions", "max_session_duration_seconds"]
NAMES = st.sampled_from([*FIELDS, *LIMITS, "session", "operator", "a"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | NAMES | st.text(max_size=5)
JSON = st.recursive(
    LEAVES,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES, below, max_size=4),
    max_leaves=20,
)
ENTRIES = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["session", "operator"])},
        optional={"resources": JSON, "constraints": JSON},
    ),
    max_size=3,
)


@given(JSON | ENTRIES)
@settings(max_examples=200)
def test_no_json_value_does_anything_but_narrow_or_be_refused(wanted: object) -> None:
    try:
        narrowing = details.read(wanted)
    except BadArgumentError:
        return
    assert details.read(details.write(narrowing)) == narrowing
