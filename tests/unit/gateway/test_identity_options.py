"""The options of identity, origins, relays and quotas on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway import cli, serving
from gateway.settings import GatewaySettings
from scheduler import option_values
from scheduler.core.errors import ConfigurationError
from scheduler.core.quotas import NO_QUOTAS, Quotas

pytestmark = pytest.mark.unit


def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *words: str) -> GatewaySettings:
    """Returns the settings that a command line makes."""
    read: list[GatewaySettings] = []

    async def serve(settings: Callable[[], GatewaySettings], _: object) -> None:
        read.append(settings())

    monkeypatch.setattr(serving, "serve_role", serve)
    command = ["serve", "gateway", "--storage-root", str(tmp_path), *words]
    result = CliRunner().invoke(cli.build(), command)
    assert result.exit_code == 0, result.output
    return read[0]


def test_a_provider_is_named_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ("--auth", "jwks", "--jwks-issuer", "https://id.example.com", "--jwks-audience", "a,b")
    found = told(monkeypatch, tmp_path, *words, "--jwks-url", "file:///keys.json")
    assert (found.jwks.issuer, found.jwks.audience) == ("https://id.example.com", ("a", "b"))
    assert found.jwks.url == "file:///keys.json"
    # What is not told there stays as the file and the environment have it.
    monkeypatch.setenv("SANA_GATEWAY_JWKS__TENANT_CLAIM", "org")
    assert told(monkeypatch, tmp_path, *words).jwks.tenant_claim == "org"
    assert told(monkeypatch, tmp_path).jwks.issuer == ""


def test_origins_and_the_secret_of_relays_are_named_there_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ("--cors-origins", "https://a.example,https://b.example", "--turn-secret", "/secret")
    found = told(monkeypatch, tmp_path, *words)
    assert found.cors_origins == ("https://a.example", "https://b.example")
    assert found.turn_secret == "/secret"
    assert told(monkeypatch, tmp_path).cors_origins == ()


def test_a_tenant_has_quotas_by_the_names_of_files_of_keys() -> None:
    words = (
        "acme:max=10,max_session_duration=2h,sessions_per_minute=30,streamed_per_day=20h,"
        "streamed_per_month=30d,uploads_per_session=1G,uploads_per_day=5G,stored=50G"
    )
    named, anybody = option_values.tenants([words, "*:stored=1M"])
    assert (named["acme"].max_sessions, named["acme"].max_session_s) == (10, 7200.0)
    assert named["acme"].quotas == Quotas(30, 72_000.0, 30 * 86_400.0, 2**30, 5 * 2**30, 50 * 2**30)
    assert (anybody.quotas, anybody.max_session_s) == (Quotas(stored=2**20), None)
    assert option_values.tenants(None)[1].quotas == NO_QUOTAS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("acme:sessions_per_minute=many", "sessions_per_minute is a whole number up to 10000"),
        ("acme:sessions_per_minute=10001", "sessions_per_minute is a whole number up to 10000"),
        ("acme:sessions_per_minute=0", "quotas are 1 or more"),
        ("acme:streamed_per_day=0", "quotas are 1 or more"),
        ("acme:streamed_per_day=long", "streamed_per_day is a time"),
        ("acme:stored=1.5G", "stored is a size"),
        ("acme:per_day=1h", "and not per_day"),
    ],
)
def test_quotas_that_make_no_sense_are_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        option_values.tenants([text])
