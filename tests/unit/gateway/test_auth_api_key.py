"""`--auth api-key`: keys, tokens of keys, and what becomes of both when the file changes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from structlog.testing import capture_logs

from gateway import chosen
from gateway.auth import OPERATOR, SESSION, KeyAuthenticator, Refreshing, api_key, key_file
from gateway.auth.api_key import ApiKeyAuth
from gateway.auth.key_file import digest_of
from gateway.settings import GatewaySettings
from scheduler.core.errors import BadArgumentError, ConfigurationError, UnauthenticatedError
from scheduler.core.ids import Grant, Holder, Principal
from sdk_adapters.reactor.http_routes import TokenIssuer

pytestmark = pytest.mark.unit

NOW = 1_800_000_000.0
WEB, OPS = "rk_of_the_web", "rk_of_operations"
ENTRIES: dict[str, dict[str, Any]] = {
    "web": {
        "sha256": digest_of(WEB),
        "tenant": "acme",
        "models": ["painter"],
        "max_sessions": 5,
        "max_session_duration": 600,
        "expires": "2027-02-01",
    },
    "ops": {"sha256": digest_of(OPS), "tenant": "staff", "scopes": ["session", "operator"]},
}
ENDS = 1_801_440_000
"""The first of February 2027."""


class Bench:
    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.file = folder / "keys.yaml"
        self.secret = folder / "secret"
        self.secret.write_text("s" * 40)
        self.write(ENTRIES)
        self.auth = self.another()

    def another(self) -> ApiKeyAuth:
        """Another gateway of the same service."""
        return ApiKeyAuth(str(self.file), str(self.secret), clock=lambda: self.now)

    def write(self, entries: dict[str, dict[str, Any]]) -> None:
        keys = [{"id": name, **fields} for name, fields in entries.items()]
        fresh = self.file.with_suffix(".new")
        fresh.write_text(yaml.safe_dump({"keys": keys}))
        fresh.replace(self.file)

    def token(self, key: str = WEB, lifetime_s: int = 3600, wanted: object = None) -> str:
        return self.auth.issue(key, lifetime_s, wanted)[0]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_it_is_all_that_a_gateway_asks_for(bench: Bench) -> None:
    assert isinstance(bench.auth, TokenIssuer)
    assert isinstance(bench.auth, KeyAuthenticator)
    assert isinstance(bench.auth, Refreshing)


def test_a_token_is_as_good_as_its_key_allows_at_every_gateway(bench: Bench) -> None:
    principal = bench.another().authenticate(bench.token())
    assert principal == Principal(
        "acme",
        frozenset({SESSION}),
        (Holder("key:web", 5),),
        Grant(models=(frozenset({"painter"}),), max_session_s=600.0),
    )


def test_what_a_token_asks_for_narrows_and_never_widens(bench: Bench) -> None:
    wanted = {
        "type": "session",
        "resources": {"models": {"match": ["painter", "simulated"]}},
        "constraints": {"max_sessions": 100, "max_session_duration_seconds": 3600},
    }
    principal = bench.auth.authenticate(bench.token(wanted=[wanted, {"type": "operator"}]))
    assert principal.scopes == {SESSION}
    assert principal.grant.models == (frozenset({"painter"}), frozenset({"painter", "simulated"}))
    assert principal.grant.max_session_s == 600.0
    key, token = principal.holders
    assert key == Holder("key:web", 5)
    assert token.max_sessions == 100
    wanted["constraints"] = {"max_session_duration_seconds": 60}
    assert bench.auth.authenticate(bench.token(wanted=[wanted])).grant.max_session_s == 60


def test_every_token_counts_for_itself(bench: Bench) -> None:
    wanted = [{"type": "session", "constraints": {"max_sessions": 1}}]
    names = {bench.auth.authenticate(bench.token(wanted=wanted)).holders[1].name for _ in range(9)}
    assert len(names) == 9


@pytest.mark.parametrize(
    ("bound", "most", "left"), [(["s"], None, 0), (["s"], 1, 0), (["s"], 3, 2), (["a", "b"], 3, 1)]
)
def test_sessions_that_a_token_is_for_are_counted_in(
    bench: Bench, bound: list[str], most: int | None, left: int
) -> None:
    wanted = {"type": "session", "resources": {"sessions": {"bind": bound}}}
    if most is not None:
        wanted["constraints"] = {"max_sessions": most}
    principal = bench.auth.authenticate(bench.token(wanted=[wanted]))
    assert principal.grant.sessions == set(bound)
    assert [each.max_sessions for each in principal.holders[1:]] == ([left] if left else [])
    assert bool(principal.grant.own) == bool(left)


def test_a_token_that_is_narrowed_is_for_its_own_sessions(bench: Bench) -> None:
    whole = bench.auth.authenticate(bench.token()).grant
    assert (whole.sessions, whole.own) == (None, "")
    principal = bench.auth.authenticate(bench.token(wanted=[{"type": "session"}]))
    assert principal.grant.sessions == set()
    assert principal.holders[1] == Holder(principal.grant.own)


def test_a_token_is_for_sessions_unless_it_asks_for_more(bench: Bench) -> None:
    def scopes(wanted: object) -> frozenset[str]:
        return bench.auth.authenticate(bench.token(OPS, wanted=wanted)).scopes

    assert scopes(None) == {SESSION}
    assert scopes([{"type": "operator"}]) == {OPERATOR}
    assert scopes([{"type": "operator"}, {"type": "session"}]) == {SESSION, OPERATOR}


def test_a_key_itself_has_all_of_its_scopes(bench: Bench) -> None:
    principal = bench.auth.authenticate_key(OPS)
    assert principal == Principal("staff", frozenset({SESSION, OPERATOR}), (Holder("key:ops"),))
    with pytest.raises(UnauthenticatedError, match="an API key is not a token"):
        bench.auth.authenticate(OPS)


@pytest.mark.parametrize("key", [None, "", "rk_wrong", WEB[:-1], "schlüssel", "\udcff", "x" * 9999])
def test_a_wrong_key_gets_no_token(bench: Bench, key: str | None) -> None:
    with pytest.raises(UnauthenticatedError) as refusal:
        bench.auth.issue(key, 60, None)
    assert not key or key not in str(refusal.value)
    with pytest.raises(UnauthenticatedError):
        bench.auth.authenticate_key(key or "")


def test_senseless_details_get_no_token(bench: Bench) -> None:
    with pytest.raises(BadArgumentError):
        bench.token(wanted=[{"type": "session", "constraints": {"max_session": 1}}])


def test_a_token_ends_with_its_key_at_the_latest(bench: Bench) -> None:
    assert bench.auth.issue(WEB, 60, None)[1] == NOW + 60
    bench.now = ENDS - 30
    token, expires_at = bench.auth.issue(WEB, 3600, None)
    assert expires_at == ENDS
    bench.now = ENDS
    for use in (bench.auth.authenticate, bench.auth.authenticate_key):
        with pytest.raises(UnauthenticatedError):
            use(token if use == bench.auth.authenticate else WEB)
    with pytest.raises(UnauthenticatedError):
        bench.auth.issue(WEB, 60, None)


def test_without_a_token_it_says_how_to_get_one(bench: Bench) -> None:
    with pytest.raises(UnauthenticatedError, match="POST /tokens"):
        bench.auth.authenticate(None)
    with pytest.raises(UnauthenticatedError):
        bench.auth.authenticate("local")


# When the file changes


def test_a_revoked_key_takes_its_tokens_along(bench: Bench) -> None:
    token = bench.token()
    assert not bench.auth.look(), "nothing changed"
    bench.write({"ops": ENTRIES["ops"]})
    assert bench.auth.look()
    with pytest.raises(UnauthenticatedError, match="revoked"):
        bench.auth.authenticate(token)
    with pytest.raises(UnauthenticatedError):
        bench.auth.issue(WEB, 60, None)
    bench.auth.authenticate_key(OPS)


def test_another_key_under_the_same_id_does_not_inherit_tokens(bench: Bench) -> None:
    token = bench.token()
    bench.write({"web": ENTRIES["web"] | {"sha256": digest_of("rk_newer")}})
    bench.auth.look()
    with pytest.raises(UnauthenticatedError):
        bench.auth.authenticate(token)
    bench.auth.authenticate_key("rk_newer")


def test_a_key_that_is_given_less_gives_its_tokens_less(bench: Bench) -> None:
    token = bench.token()
    bench.write({"web": ENTRIES["web"] | {"max_sessions": 1, "scopes": ["operator"]}})
    bench.auth.look()
    principal = bench.auth.authenticate(token)
    assert principal.scopes == set()
    assert principal.holders == (Holder("key:web", 1),)


@pytest.mark.parametrize(
    "content", ["keys: [", "keys:\n- {id: rk_of_the_web}\n", "keys: !!map [a]", None]
)
def test_a_file_that_cannot_be_used_any_more_changes_nothing_but_the_log(
    bench: Bench, content: str | None
) -> None:
    if content is None:
        bench.file.unlink()
    else:
        bench.file.write_text(content)
    with capture_logs() as logged:
        assert not bench.auth.look()
        assert not bench.auth.look()
    told = [(line["event"], line["log_level"]) for line in logged]
    assert told == [("api_keys.kept", "error")], "not at every look"
    assert bench.auth.authenticate(bench.token()).tenant == "acme"
    bench.write({"ops": ENTRIES["ops"]})
    assert bench.auth.look()


def test_a_file_that_cannot_be_used_is_told_of_until_it_can_be(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_key, "REMIND_LOOKS", 3)
    bench.file.write_text("keys: [")
    with capture_logs() as logged:
        for _ in range(7):
            assert not bench.auth.look()
    assert [line["log_level"] for line in logged] == ["error"] * 3
    bench.write({"ops": ENTRIES["ops"]})
    assert bench.auth.look()
    with capture_logs() as logged:
        for _ in range(7):
            assert not bench.auth.look()
    assert logged == []


def test_a_file_that_may_be_read_again_is(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its content is not touched by that."""
    read = key_file.read

    def refused(path: Path) -> key_file.Keys:
        raise ConfigurationError(f"{path}: Permission denied")

    monkeypatch.setattr(key_file, "read", refused)
    bench.write({"ops": ENTRIES["ops"]})
    assert not bench.auth.look()
    monkeypatch.setattr(key_file, "read", read)
    bench.file.chmod(0o640)
    assert bench.auth.look()
    bench.auth.authenticate_key(OPS)


@pytest.mark.parametrize("fault", [RecursionError("rk_of_the_web"), KeyError("rk_of_the_web")])
def test_no_fault_of_reading_ends_a_gateway(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def read(_: Path) -> key_file.Keys:
        raise fault

    monkeypatch.setattr(key_file, "read", read)
    bench.write({})
    with capture_logs() as logged:
        assert not bench.auth.look()
    (line,) = logged
    assert (line["log_level"], line["reason"]) == ("error", type(fault).__name__)
    assert bench.auth.authenticate_key(WEB).tenant == "acme"


async def test_the_file_is_looked_at_while_it_runs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_key, "LOOK_S", 0.001)
    looked = asyncio.Event()
    loop, look = asyncio.get_running_loop(), bench.auth.look

    def looking() -> bool:
        if look():
            loop.call_soon_threadsafe(looked.set)
        return False

    monkeypatch.setattr(bench.auth, "look", looking)
    running = asyncio.create_task(bench.auth.run())
    bench.write({})
    await looked.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    with pytest.raises(UnauthenticatedError):
        bench.auth.authenticate_key(WEB)


# How it is chosen


@pytest.mark.usefixtures("bench")
def test_the_settings_choose_it(tmp_path: Path) -> None:
    files = {"api_keys": str(tmp_path / "keys.yaml"), "token_secret": str(tmp_path / "secret")}
    made = chosen.authenticator(GatewaySettings(auth="api-key", **files))
    assert isinstance(made, ApiKeyAuth)
    with pytest.raises(ConfigurationError, match="--auth none"):
        # Somebody who believes that this asks for keys is told that it does not.
        chosen.authenticator(GatewaySettings(api_keys=files["api_keys"]))
    with pytest.raises(ConfigurationError, match="api_keys"):
        chosen.authenticator(GatewaySettings(auth="api-key"))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        chosen.authenticator(GatewaySettings(auth="api-key", api_keys=str(tmp_path / "none")))


def test_nothing_tells_a_key_or_a_token(bench: Bench) -> None:
    with capture_logs() as logged:
        token = bench.token()
        seen = [repr(bench.auth), repr(bench.auth.authenticate(token)), repr(vars(bench.auth))]
        for shown in (token + "x", WEB):
            with pytest.raises(UnauthenticatedError) as refusal:
                bench.auth.authenticate(shown)
            seen.append(repr(refusal.value))
        bench.write({})
        bench.auth.look()
    seen.append(repr(logged))
    assert [line["event"] for line in logged] == ["token.issued", "api_keys.read"]
    for secret in (WEB, token, bench.secret.read_text(), digest_of(WEB)):
        assert not [text for text in seen if secret in text]
