"""Client tokens: signed, verified, and everything that is none of ours."""

from __future__ import annotations

import base64
import dataclasses
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.auth.details import Narrowing
from gateway.auth.tokens import (
    LEEWAY_S,
    MOST_TOKEN,
    Claims,
    TokenSigner,
    key_id,
    load_secrets,
    own_file,
)
from scheduler.core.errors import BadArgumentError, ConfigurationError, UnauthenticatedError

pytestmark = pytest.mark.unit

SECRET, OLD, FOREIGN = "a" * 64, "b" * 64, "c" * 64
NOW = 1_800_000_000.0
CLAIMS = Claims("id", "web", "mark", Narrowing(scoped=True, max_sessions=3), int(NOW) + 60)


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def signer(clock: Clock | None = None, *known: str) -> TokenSigner:
    return TokenSigner({key_id(each): each for each in known or (SECRET,)}, clock or Clock())


def made(secret: str = SECRET, *, alg: str = "HS256", kid: Any = None, **claims: Any) -> str:
    """Makes a token that is ours but for what is said."""
    ours = jwt.decode(signer().sign(CLAIMS), options={"verify_signature": False})
    payload = {name: claim for name, claim in (ours | claims).items() if claim is not ...}
    header = {"kid": key_id(SECRET) if kid is None else kid}
    return jwt.encode(payload, None if alg == "none" else secret, algorithm=alg, headers=header)


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_a_token_says_what_was_signed_at_every_gateway_of_the_secret() -> None:
    assert signer().verify(signer().sign(CLAIMS)) == CLAIMS
    assert signer().verify(made()) == CLAIMS, "or the next tests prove nothing"


def test_an_older_secret_still_verifies_and_the_first_one_signs() -> None:
    old = signer(None, OLD).sign(CLAIMS)
    assert signer(None, SECRET, OLD).verify(old) == CLAIMS
    assert signer().verify(signer(None, SECRET, OLD).sign(CLAIMS)) == CLAIMS
    with pytest.raises(UnauthenticatedError):
        signer().verify(old)


def test_a_token_ends_after_a_little_leeway(clock: Clock) -> None:
    token = signer().sign(CLAIMS)
    clock.now = CLAIMS.expires_at + LEEWAY_S - 0.1
    assert signer(clock).verify(token) == CLAIMS
    clock.now += 0.1
    with pytest.raises(UnauthenticatedError, match="expired"):
        signer(clock).verify(token)


def test_a_token_of_a_gateway_whose_clock_is_ahead_is_good(clock: Clock) -> None:
    token = signer().sign(CLAIMS)
    clock.now -= 30
    assert signer(clock).verify(token) == CLAIMS


HOSTILE = {
    "no algorithm": lambda: made(alg="none"),
    "no algorithm, no signature": lambda: (
        f"{part({'alg': 'none', 'kid': key_id(SECRET)})}.{part({'sub': 'web'})}."
    ),
    "another algorithm": lambda: made(alg="HS512"),
    "another secret": lambda: made(FOREIGN),
    "another secret under its own id": lambda: made(FOREIGN, kid=key_id(FOREIGN)),
    "no key id": lambda: made(kid=""),
    "a path as key id": lambda: made(kid="../../dev/null"),
    "a list as key id": lambda: f"{part({'alg': 'HS256', 'kid': []})}.e30.e30",
    "another issuer": lambda: made(iss="somebody"),
    "no issuer": lambda: made(iss=...),
    "another audience": lambda: made(aud="another service"),
    "no audience": lambda: made(aud=...),
    "no end": lambda: made(exp=...),
    "an end that is text": lambda: made(exp="never"),
    "an end that is true": lambda: made(exp=True),
    "an end beyond all": lambda: made(exp=1e400),
    "no key": lambda: made(sub=...),
    "a key that is a number": lambda: made(sub=5),
    "no details": lambda: made(authorization_details=...),
    "details of another form": lambda: made(authorization_details=[{"type": "session", "x": 1}]),
    "a changed signature": lambda: made()[:-4] + "AAAA",
    "a changed payload": lambda: ".".join(
        [made().split(".")[0], part({"sub": "root"}), made().split(".")[2]]
    ),
    "huge": lambda: made(jti="x" * MOST_TOKEN),
    "megabytes": lambda: "a" * 5_000_000,
    "deeply nested": lambda: base64.urlsafe_b64encode(b"[" * 4000).decode() + ".e30.e30",
    "not ASCII": lambda: "tökén.tökén.tökén",
    "half a character": lambda: "a\udc80.b.c",
    "empty": lambda: "",
    "dots": lambda: "..",
    "no parts": lambda: "local",
    "five parts": lambda: "a.b.c.d.e",
    "NUL": lambda: "\0.\0.\0",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_token_that_is_none_of_ours_is_refused_without_a_word_of_it(kind: str) -> None:
    token = HOSTILE[kind]()
    with pytest.raises(UnauthenticatedError, match=r"^the token (is not valid|has expired)$") as no:
        signer().verify(token)
    assert no.value.__cause__ is None
    assert no.value.__context__ is None or no.value.__suppress_context__


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
@settings(max_examples=200)
def test_no_text_makes_the_verifier_raise_anything_else(text: str) -> None:
    with pytest.raises(UnauthenticatedError):
        signer().verify(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below),
    max_leaves=10,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["iss", "aud", "sub", "jti", "exp", "iat", "nbf", "key", "authorization_details"]
        ),
        JSON,
    )
)
@settings(max_examples=100)
def test_no_signed_claims_make_the_verifier_raise_anything_else(claims: dict[str, Any]) -> None:
    # Somebody who knows the secret writes nonsense.
    try:
        token = made(**claims)
    except (TypeError, ValueError, jwt.PyJWTError):
        return
    try:
        signer().verify(token)
    except UnauthenticatedError:
        return


def test_a_token_that_could_not_be_sent_is_not_made() -> None:
    names = frozenset(f"{number:03}" + "x" * 100 for number in range(64))
    with pytest.raises(BadArgumentError):
        signer().sign(dataclasses.replace(CLAIMS, narrowing=Narrowing(scoped=True, models=names)))


# Secrets


def test_a_file_holds_secrets_by_lines(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"# of this year\n{SECRET}\n\n{OLD}\n")
    assert list(load_secrets(str(file)).values()) == [SECRET, OLD]


@pytest.mark.parametrize(
    "content", [b"", b"# only\n", b"short\n", SECRET.encode() + b"\nshort\n", b"\xff" * 40]
)
def test_a_file_without_a_good_secret_is_refused_without_showing_it(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError) as refusal:
        load_secrets(str(file))
    assert "short" not in str(refusal.value)
    assert SECRET not in str(refusal.value)


def test_a_file_that_was_named_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--token-secret"):
        load_secrets(str(tmp_path / "missing"))


def test_of_many_processes_that_start_at_once_all_have_one_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: load_secrets(""), range(16)))
    assert all(each == found[0] for each in found)
    file = tmp_path / "state" / "sana-gateway" / "token-secret"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in file.parent.iterdir()] == ["token-secret"]
    assert load_secrets("") == found[0], "it is kept"


def test_without_a_state_folder_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(ConfigurationError, match="--token-secret"):
        load_secrets("")


def test_the_secret_lies_in_the_state_folder_of_its_user() -> None:
    below = Path("sana-gateway/token-secret")
    assert own_file({"XDG_STATE_HOME": "/s", "HOME": "/h"}) == "/s" / below
    assert own_file({"XDG_STATE_HOME": "relative", "HOME": "/h"}) == "/h/.local/state" / below
