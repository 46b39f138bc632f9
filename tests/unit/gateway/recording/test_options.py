"""The options of recordings on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway import cli, serving
from gateway.chosen import recordings_storage, storage
from gateway.settings import GatewaySettings, RecordingSettings

pytestmark = pytest.mark.unit

GIVEN = (
    "--recording",
    "--recordings-dir",
    "/srv/recordings",
    "--recording-bytes",
    "512M",
    "--recordings-bytes",
    "2G",
    "--recordings-kept",
    "12h",
)


def settings_of(monkeypatch: pytest.MonkeyPatch, *words: str) -> GatewaySettings:
    """Returns the settings that a command line makes."""
    made: list[GatewaySettings] = []

    async def serve(read: Callable[[], GatewaySettings], *_: object) -> None:
        made.append(read())

    monkeypatch.setattr(serving, "serve_all", serve)
    monkeypatch.setattr(serving, "serve_role", serve)
    result = CliRunner().invoke(cli.build(), list(words))
    assert result.exit_code == 0, result.output
    return made[0]


def test_nothing_is_recorded_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = settings_of(monkeypatch, "serve").recording
    assert wanted == RecordingSettings()
    assert not wanted.enabled
    assert wanted.kept_s == 24 * 3600


@pytest.mark.parametrize("role", [(), ("gateway",)])
def test_what_is_asked_for_is_done(monkeypatch: pytest.MonkeyPatch, role: tuple[str, ...]) -> None:
    assert settings_of(monkeypatch, "serve", *role, *GIVEN).recording == RecordingSettings(
        enabled=True,
        folder="/srv/recordings",
        session_bytes=512 << 20,
        total_bytes=2 << 30,
        kept_s=12 * 3600.0,
    )


@pytest.mark.parametrize(
    "words", [("--recording-bytes", "much"), ("--recordings-kept", "for ever")]
)
def test_what_makes_no_sense_is_refused(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli.build(), ["serve", "--recording", *words])
    assert result.exit_code != 0


async def test_recordings_lie_with_the_uploads_unless_they_have_a_folder(tmp_path: Path) -> None:
    options = {"root": str(tmp_path / "uploads")}
    settings = GatewaySettings(storage_options=options)
    uploads = storage(settings)()
    assert recordings_storage(settings, uploads) is uploads
    folder = str(tmp_path / "recordings")
    settings = GatewaySettings(storage_options=options, recording=RecordingSettings(folder=folder))
    own = recordings_storage(settings, uploads)
    await own.put("recordings/s1/index.json", b"{}")
    assert (tmp_path / "recordings/recordings/s1/index.json").exists()
    await own.close()
    await uploads.close()
