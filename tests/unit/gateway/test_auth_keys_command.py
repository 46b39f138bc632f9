"""`sana-gateway keys`: the file afterwards, and what is printed."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway import keys_command, keys_editing
from gateway.auth.key_file import KeyRecord, digest_of, read
from scheduler.core.errors import ConfigurationError
from scheduler.core.quotas import Quotas

pytestmark = pytest.mark.unit

ENTRY = {"sha256": digest_of("rk_x"), "tenant": "acme"}
WRITTEN = f"""\
# The keys of acme.
keys:
  # The web shop; ask Ada.
  - id: web
    sha256: {digest_of("rk_web")}   # since May
    tenant: acme

  # The app.
  - id: app
    sha256: "{digest_of("rk_app")}"
    tenant: acme
    models: [painter]
# the end
"""


def run(*words: str, file: Path | None = None) -> Result:
    options = ("--file", str(file)) if file else ()
    return CliRunner().invoke(keys_command.keys, [*words, *options], env={"COLUMNS": "200"})


def made(file: Path, key_id: str, *words: str) -> str:
    result = run("new", "--id", key_id, "--tenant", "acme", *words, file=file)
    assert result.exit_code == 0, result.exception
    return result.stdout.strip()


def record(file: Path, key_id: str) -> KeyRecord:
    return read(file).by_id[key_id]


def test_a_key_is_printed_once_and_alone_and_the_file_holds_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    key = made(file, "web")
    assert key.startswith("rk_")
    assert len(key) > 40
    assert key not in file.read_text()
    assert read(file).find(key) == record(file, "web")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["keys.yaml"]
    assert made(file, "app") != key


def test_all_that_a_key_may_be_given(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    words = "--scope session --scope operator --model painter --model simulated --max-sessions 2 "
    words += "--max-session-duration 10m --expires 2027-01-31"
    made(file, "web", *words.split())
    found = record(file, "web")
    assert found.scopes == {"session", "operator"}
    assert found.models == {"painter", "simulated"}
    assert (found.limits.max_sessions, found.limits.max_session_duration) == (2, 600.0)
    assert found.expires_at == 1_801_353_600


def test_an_end_may_be_a_time_from_now(tmp_path: Path) -> None:
    for number, words in enumerate([["--expires", "30d"], ["--expires", "2d"], []]):
        made(tmp_path / "keys.yaml", f"k{number}", *words)
    ends = [each.expires_at for each in read(tmp_path / "keys.yaml").records]
    assert ends[2] is None
    assert ends[0] is not None
    assert ends[1] is not None
    assert abs(ends[0] - ends[1] - 28 * 86400) < 3600


@pytest.mark.parametrize(
    "words",
    [
        ["--scope", "root"],
        ["--max-session-duration", "long"],
        ["--expires", "soon"],
        ["--expires", "999999999999d"],
        ["--model", ""],
    ],
)
def test_a_wrong_option_leaves_the_file_as_it_was(tmp_path: Path, words: list[str]) -> None:
    file = tmp_path / "keys.yaml"
    made(file, "web")
    before = file.read_text()
    result = run("new", "--id", "app", "--tenant", "acme", *words, file=file)
    assert isinstance(result.exception, ConfigurationError)
    assert "rk_" not in result.output
    assert file.read_text() == before


def test_an_id_is_given_once(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    made(file, "web")
    result = run("new", "--id", "web", "--tenant", "acme", file=file)
    assert "'web' comes twice" in str(result.exception)


def test_the_list_shows_all_but_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    key = made(file, "web", "--expires", "2020-01-01", "--max-sessions", "7")
    shown = run("list", file=file).output
    for word in ("web", "acme", "session", "all", "7", "2020-01-01 00:00 (over)"):
        assert word in shown
    assert key not in shown
    assert digest_of(key) not in shown


def test_a_revoked_key_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    key, other = made(file, "web"), made(file, "app")
    assert run("revoke", "web", file=file).exit_code == 0
    assert read(file).find(key) is None
    assert read(file).find(other) == record(file, "app")
    again = run("revoke", "web", file=file)
    assert "there is no key 'web'; there are: app" in str(again.exception)
    assert run("revoke", "app", file=file).exit_code == 0
    assert read(file).records == ()
    made(file, "new")


def test_the_file_may_come_from_the_environment_and_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "keys.yaml"
    link.symlink_to("real/keys.yaml")
    words = ["new", "--id", "web", "--tenant", "acme"]
    result = CliRunner().invoke(keys_command.keys, words, env={"SANA_GATEWAY_API_KEYS": str(link)})
    assert result.exit_code == 0
    assert link.is_symlink()
    assert list(read(tmp_path / "real" / "keys.yaml").by_id) == ["web"]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    result = run("new", "--id", "a", "--tenant", "t", file=tmp_path / "none" / "keys.yaml")
    assert isinstance(result.exception, ConfigurationError)
    assert "No such file" in str(result.exception)


def test_of_several_at_once_none_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    ids = [f"k{number}" for number in range(12)]

    def add(key_id: str) -> None:
        keys_command.new_key(file, key_id, "acme")

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(add, ids))
    assert sorted(read(file).by_id) == sorted(ids)


class Owners:
    """Files that seem to belong to others; root alone may give real ones away."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, file: Path, owners: tuple[int, int]
    ) -> None:
        self.given: list[tuple[int, int]] = []
        self.refusal: OSError | None = None
        self._stat, self._file, self._owners = Path.stat, file, owners
        monkeypatch.setattr(Path, "stat", lambda path, **how: self._told(path, **how))
        monkeypatch.setattr(os, "fchown", self._give)

    def _told(self, path: Path, **how: bool) -> os.stat_result:
        told = self._stat(path, **how)
        if path != self._file:
            return told
        return os.stat_result([*told[:4], *self._owners, *told[6:]])

    def _give(self, fresh: int, uid: int, gid: int) -> None:
        assert fresh > 2
        if self.refusal is not None:
            raise self.refusal
        self.given.append((uid, gid))


def test_the_file_goes_on_belonging_to_whom_it_belonged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys.yaml"
    made(file, "web")
    owners = Owners(monkeypatch, file, (4711, 4712))
    made(file, "app")
    assert run("revoke", "web", file=file).exit_code == 0
    assert owners.given == [(4711, 4712)] * 2
    assert list(read(file).by_id) == ["app"]


def test_a_file_whose_owner_cannot_be_kept_is_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys.yaml"
    made(file, "web")
    before = file.read_text()
    owners = Owners(monkeypatch, file, (4711, 4712))
    owners.refusal = PermissionError(1, "Operation not permitted")
    result = run("revoke", "web", file=file)
    assert isinstance(result.exception, ConfigurationError)
    assert "belongs to another user or group" in str(result.exception)
    assert file.read_text() == before
    assert [each.name for each in tmp_path.iterdir()] == ["keys.yaml"]


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone may give files away")
def test_root_leaves_the_file_to_the_user_of_the_service(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    made(file, "web")
    os.chown(file, 65534, 65534)
    file.chmod(0o640)
    made(file, "app")
    told = file.stat()
    assert (told.st_uid, told.st_gid, stat.S_IMODE(told.st_mode)) == (65534, 65534, 0o640)


def test_quotas_are_named_one_by_one(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    made(file, "web", "--limit", "streamed_per_day=20h", "--limit", "sessions_per_minute=30")
    (record,) = read(file).records
    assert record.limits.quotas() == Quotas(sessions_per_minute=30, streamed_per_day=72_000.0)
    for wrong in ("max_sessions=3", "sha256=x", "stored", "stored=much", "stored=0"):
        words = ("new", "--id", "b", "--tenant", "t", "--limit", wrong)
        refused = run(*words, "--file", str(file))
        assert isinstance(refused.exception, ConfigurationError), wrong
    assert len(read(file).records) == 1


# Files that people wrote


def test_comments_and_order_stay() -> None:
    after = keys_editing.added(WRITTEN, {"id": "new", **ENTRY})
    assert after.startswith(WRITTEN)
    assert keys_editing.removed(after, "new").rstrip("\n") == WRITTEN.rstrip("\n")
    without = keys_editing.removed(WRITTEN, "web")
    assert "# The app.\n  - id: app" in without
    assert "since May" not in without
    assert "# the end" in keys_editing.removed(WRITTEN, "app")


def test_a_list_that_is_not_indented_stays_so() -> None:
    text = f"keys:\n- id: web\n  sha256: {digest_of('rk_web')}\n  tenant: acme"
    assert "\n- id: new\n" in keys_editing.added(text, {"id": "new", **ENTRY})


@pytest.mark.parametrize("head", ["keys: []\n", "{keys: []}\n"])
def test_what_only_a_person_can_change_is_left_to_one(head: str) -> None:
    with pytest.raises(ConfigurationError, match="only a person can change; put this below"):
        keys_editing.added(head, {"id": "new", **ENTRY})


def test_what_tenants_may_use_stays() -> None:
    before = f"tenants:\n  acme: {{stored: 1G}}\n{WRITTEN}"
    after = keys_editing.added(before, {"id": "new", **ENTRY})
    assert after.startswith(before)
    assert keys_editing.removed(after, "new").rstrip("\n") == before.rstrip("\n")
    # Behind the keys it would be taken for the end of the last one, or out with it.
    behind = WRITTEN.rstrip() + "\ntenants:\n  acme: {stored: 1G}\n"
    with pytest.raises(ConfigurationError, match="only a person"):
        keys_editing.added(behind, {"id": "new", **ENTRY})
    with pytest.raises(ConfigurationError, match="only a person"):
        keys_editing.removed(behind, "app")


def test_entries_on_one_line_are_not_taken_out_together() -> None:
    one, two = (
        f"{{id: {name}, sha256: {digest_of(name)}, tenant: acme}}" for name in ("web", "app")
    )
    with pytest.raises(ConfigurationError, match="only a person"):
        keys_editing.removed(f"keys: [{one}, {two}]\n", "web")


def test_the_help_teaches() -> None:
    for words in ([], ["new"], ["list"], ["revoke"]):
        shown = run(*words, "--help").output
        assert "--file" in shown or "Examples" in shown
    assert "POST http" in run("new", "--help").output
