"""Settings: which source wins, what is refused, and that the docstrings are the help."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pydantic
import pytest

from scheduler.core.errors import ConfigurationError
from scheduler.process.config import (
    ProcessSettings,
    Section,
    describe,
    help_of,
    load_settings,
)

pytestmark = pytest.mark.unit


class Limits(Section):
    sessions: int = pydantic.Field(default=8, ge=1)
    """Most sessions at once."""
    joins_per_s: float = 4.0
    """Most joins in a second."""


class ToySettings(ProcessSettings):
    http_port: int = 8080
    """Port of the web server."""
    model_name: str = "painter"
    """Model to serve."""
    auth: Literal["none", "api-key"] = "none"
    """Who may call."""
    origins: tuple[str, ...] = ()
    """Web origins that may call."""
    limits: Limits = Limits()


class OtherSettings(ProcessSettings):
    heartbeat_s: float = 0.5
    """Time between two heartbeats."""


class RequiredSettings(ProcessSettings):
    token: str
    """Joins the cluster."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(
        'http_port = 1000\nmodel_name = "file"\n[limits]\nsessions = 10\njoins_per_s = 1.5\n'
    )
    return path


def test_defaults_hold_when_nothing_is_said() -> None:
    assert load_settings(ToySettings) == ToySettings()


def test_each_source_wins_over_the_one_below(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANA_GATEWAY_MODEL_NAME", "environment")
    monkeypatch.setenv("SANA_GATEWAY_LIMITS__SESSIONS", "20")
    settings = load_settings(
        ToySettings, file=file, overrides={"limits": {"sessions": 30}, "auth": "api-key"}
    )
    assert settings.http_port == 1000
    assert settings.model_name == "environment"
    assert settings.auth == "api-key"
    assert settings.limits == Limits(sessions=30, joins_per_s=1.5)


def test_an_option_that_was_not_given_overrides_nothing(file: Path) -> None:
    settings = load_settings(
        ToySettings, file=file, overrides={"http_port": None, "limits": {"sessions": None}}
    )
    assert settings.http_port == 1000
    assert settings.limits.sessions == 10


def test_lists_come_as_json_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANA_GATEWAY_ORIGINS", '["a", "b"]')
    assert load_settings(ToySettings).origins == ("a", "b")


def test_a_list_that_is_no_json_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANA_GATEWAY_ORIGINS", "hush")
    with pytest.raises(ConfigurationError, match="origins") as caught:
        load_settings(ToySettings)
    assert "hush" not in str(caught.value)


def test_settings_are_frozen() -> None:
    settings = load_settings(ToySettings)
    with pytest.raises(pydantic.ValidationError):
        settings.http_port = 1
    with pytest.raises(pydantic.ValidationError):
        settings.limits.sessions = 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("http_prot = 1", "unknown setting http_prot; did you mean http_port?"),
        ("[limits]\nsesions = 1", "unknown setting limits.sesions; did you mean limits.sessions"),
        ("zzz = 1", "unknown setting zzz$"),
        ("http_port = 'x'", "http_port: .*integer"),
        ("[limits]\nsessions = 0", "limits.sessions: .*greater than or equal to 1"),
        ("http_port = ", "not TOML"),
    ],
)
def test_a_wrong_file_is_refused_by_the_name_of_the_setting(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=message):
        load_settings(ToySettings, file=path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read the settings file"):
        load_settings(ToySettings, file=tmp_path / "absent.toml")


def test_an_unknown_override_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigurationError, match="httpport; did you mean http_port"):
        load_settings(ToySettings, overrides={"httpport": 1})


def test_an_unknown_variable_is_refused_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SANA_GATEWAY_HTTP_PROT", "1")
    with pytest.raises(ConfigurationError, match="did you mean SANA_GATEWAY_HTTP_PORT"):
        load_settings(ToySettings)


def test_a_variable_of_a_sibling_process_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANA_GATEWAY_HEARTBEAT_S", "1.0")
    with pytest.raises(ConfigurationError, match="SANA_GATEWAY_HEARTBEAT_S"):
        load_settings(ToySettings)
    assert load_settings(ToySettings, siblings=[OtherSettings]) == ToySettings()


def test_what_kubernetes_sets_for_a_service_of_our_name_is_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT", "PORT_50051_TCP_ADDR"):
        monkeypatch.setenv(f"SANA_GATEWAY_{name}", "tcp://10.0.0.1:50051")
    assert load_settings(ToySettings) == ToySettings()


def test_a_refused_value_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANA_GATEWAY_HTTP_PORT", "hush")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(ToySettings)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_required_setting_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigurationError, match="the setting token is required"):
        load_settings(RequiredSettings)


def test_the_docstrings_of_the_fields_are_the_help() -> None:
    described = {setting.key: setting for setting in describe(ToySettings)}
    assert described["http_port"].help == "Port of the web server."
    assert described["http_port"].default == "8080"
    assert described["limits.sessions"].variable == "SANA_GATEWAY_LIMITS__SESSIONS"
    assert help_of(ToySettings, "limits.sessions") == "Most sessions at once."
    assert describe(RequiredSettings)[0].default == "required"
