"""Which web pages may call, and what browsers are told."""

from __future__ import annotations

import pytest

from gateway.origins import ANY, LOOPBACK, Origins
from gateway.settings import GatewaySettings
from scheduler.core.errors import ConfigurationError
from scheduler.process.config import load_settings

pytestmark = pytest.mark.unit

APP = "https://app.example.com"
LISTED = Origins(frozenset({APP}))
HERE = Origins(frozenset({LOOPBACK}))


def test_by_default_every_page_may_call_where_tokens_are_asked_for_and_own_pages_else() -> None:
    assert Origins.of((), authenticated=True).allowed == {ANY}
    assert Origins.of((), authenticated=False).allowed == {LOOPBACK}
    assert Origins.of((APP,), authenticated=False).allowed == {APP}


@pytest.mark.parametrize("auth", ["none", "api-key"])
def test_the_settings_reach_the_wires(auth: str) -> None:
    told = load_settings(GatewaySettings, overrides={"auth": auth}).ingress_settings()
    assert told.origins.allowed == ({LOOPBACK} if auth == "none" else {ANY})
    told = load_settings(
        GatewaySettings, overrides={"auth": auth, "cors_origins": [APP]}
    ).ingress_settings()
    assert told.origins.allowed == {APP}


@pytest.mark.parametrize(
    "origin",
    [
        "app.example.com",
        f"{APP}/",
        f"{APP}/path",
        "https://App.example.com",
        "null",
        "",
        "https://",
    ],
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ConfigurationError, match="cors_origins: the form is"):
        load_settings(GatewaySettings, overrides={"cors_origins": [origin]})


@pytest.mark.parametrize(
    ("origin", "listed", "here"),
    [
        (None, True, True),
        (APP, True, False),
        ("http://app.example.com", False, False),
        ("https://app.example.com.evil.org", False, False),
        ("https://gateway.example.com", True, False),
        ("http://localhost:3000", False, True),
        ("http://127.0.0.1:8080", False, True),
        ("https://[::1]:8080", False, True),
        ("http://dev.localhost", False, True),
        ("http://localhost.evil.org", False, False),
        ("http://evil.org/localhost", False, False),
        ("http://127.0.0.1.evil.org", False, False),
        ("null", False, False),
        ("file://", False, False),
    ],
)
def test_who_may_call(origin: str | None, *, listed: bool, here: bool) -> None:
    host = "gateway.example.com"
    assert Origins().admits(origin, host)
    assert LISTED.admits(origin, host) is listed
    assert HERE.admits(origin, host) is here


def test_a_name_that_was_made_to_lead_here_is_not_of_this_machine() -> None:
    # A page of evil.org whose name resolves to 127.0.0.1 is of the host that it asks.
    assert not HERE.admits("http://evil.org:8080", "evil.org:8080")


def test_what_is_for_one_page_is_not_cached_for_another() -> None:
    assert Origins().headers(APP, "h")["Access-Control-Allow-Origin"] == "*"
    assert "Vary" not in Origins().headers(APP, "h")
    told = LISTED.headers(APP, "h")
    assert (told["Access-Control-Allow-Origin"], told["Vary"]) == (APP, "Origin")
    assert LISTED.headers("https://evil.org", "h") == {"Vary": "Origin"}
    assert LISTED.headers(None, "h") == {"Vary": "Origin"}


def test_a_preflight_allows_what_the_wires_use() -> None:
    told = LISTED.preflight("/sessions", APP, "h")
    assert "reactor-api-key" in told["Access-Control-Allow-Headers"]
    assert "PATCH" in told["Access-Control-Allow-Methods"]
    assert LISTED.preflight("/sessions", "https://evil.org", "h") == {}
    # WHIP says there what it takes, to everybody.
    assert LISTED.preflight("/whip/painter", None, "h")["Accept-Post"] == "application/sdp"


def test_nobody_is_told_that_cookies_may_be_sent() -> None:
    for origins in (Origins(), LISTED, HERE):
        told = origins.headers(APP, "h") | origins.preflight("/sessions", APP, "h")
        assert "Access-Control-Allow-Credentials" not in told
