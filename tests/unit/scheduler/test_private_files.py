"""A file with a secret that everybody may read is told of."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.auth.tokens import load_secrets
from gateway.doors import DoorFiles, Doors
from scheduler.process.certificates import make
from scheduler.process.private_files import warn_of_readers
from scheduler.process.tls import AUTHORITY, CERTIFICATE, KEY, Wires

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "tls"
    make(made, days=1, now=dt.datetime.now(dt.UTC))
    (made / "secret").write_text("x" * 40)
    return made


USES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "the key of the doors": (KEY, lambda at: Doors(DoorFiles(at / CERTIFICATE, at / KEY))),
    "the key between roles": (KEY, lambda at: Wires(at)),
    "the secret of tokens": ("secret", lambda at: load_secrets(str(at / "secret"))),
}


@pytest.mark.parametrize("name", USES)
@pytest.mark.parametrize(("mode", "warnings"), [(0o600, 0), (0o640, 0), (0o644, 1)])
def test_secrets_that_all_may_read_are_told_of_where_they_are_read(
    folder: Path, name: str, mode: int, warnings: int
) -> None:
    file, use = USES[name]
    (folder / file).chmod(mode)
    with capture_logs() as log:
        use(folder)
    assert [each["event"] for each in log] == ["secret.readable_by_all"] * warnings
    assert str(folder) not in str(log)


def test_what_is_no_secret_and_what_is_not_there_is_not_told_of(folder: Path) -> None:
    (folder / AUTHORITY).chmod(0o644)
    with capture_logs() as log:
        Wires(folder)
        warn_of_readers(folder / "none", "nothing")
    assert not log
