"""`sana-gateway keys`: make, list and revoke the API keys of a service."""

from __future__ import annotations

import dataclasses
import datetime as dt
import fcntl
import getpass
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table

from gateway import keys_editing
from gateway.audit import DONE, FAILED, AuditLog
from gateway.auth.callers import KEY_MARK, SESSION
from gateway.auth.key_file import ALL, KeyRecord, digest_of, moment, read
from gateway.tables import show
from scheduler import option_values
from scheduler.core.errors import ConfigurationError
from scheduler.core.quotas import Quotas
from scheduler.options import pairs
from scheduler.process.config import PREFIX

KEY_BYTES: Final = 32
"""Randomness of a key in bytes: more than anybody can try out."""
QUOTAS: Final = frozenset(each.name for each in dataclasses.fields(Quotas))
"""Names of what `--limit` takes."""
_FILE_MODE: Final = 0o600

_EXAMPLES: Final = """Examples:

\b
  sana-gateway keys new --file keys.yaml --id web --tenant acme
  sana-gateway keys new --file keys.yaml --id trial --tenant visitors \\
      --model painter --max-sessions 2 --max-session-duration 10m --expires 30d
  sana-gateway keys new --file keys.yaml --id ops --tenant staff --scope operator
  sana-gateway serve --auth api-key --api-keys keys.yaml

A client turns its key into a token that is good for some hours, and calls with that:

\b
  curl -X POST http://127.0.0.1:8080/tokens -H "Reactor-API-Key: $KEY"

Reactor SDKs do so by themselves (api_key=...). Keys stay on servers; browsers are given
tokens. A running service reads the file again when it changes: docs/auth.md.
"""

keys = typer.Typer(
    help="Make, list and revoke the API keys of `serve --auth api-key`.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=_EXAMPLES,
)

File = Annotated[
    Path,
    typer.Option(
        "--file",
        help="The file of keys; `serve` is given the same one with --api-keys.",
        envvar=f"{PREFIX}API_KEYS",
        show_envvar=True,
        dir_okay=False,
    ),
]
Audit = Annotated[
    str,
    typer.Option(
        help="File that the change is appended to, as `serve --audit-log` has it.",
        envvar=f"{PREFIX}AUDIT_LOG",
        show_envvar=True,
        metavar="FILE",
    ),
]


@keys.command("new", epilog=_EXAMPLES)
def new_key(
    file: File,
    key_id: Annotated[
        str,
        typer.Option(
            "--id", help="Name of the key: in logs, in the list, and to revoke it by.", metavar="ID"
        ),
    ],
    tenant: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Whose sessions they are: keys of one tenant see each other's sessions, and "
            "`serve --tenant` says what a tenant is entitled to.",
        ),
    ],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="What it may do; repeat it for several: `session` creates sessions and drives "
            "them, `operator` sees the pool and drains actors, `model` sees what models can do, "
            "as the others do, too.",
            metavar="session|operator|model",
            show_default=SESSION,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A model that it may create sessions of; repeat it for several.",
            metavar="NAME",
            show_default="all",
        ),
    ] = None,
    max_sessions: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Sessions that it may have at once, over all of its tokens.",
            show_default="any number",
        ),
    ] = None,
    max_session_duration: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="How long a session lasts at most, as 600s, 10m or 2h.",
            show_default="for ever",
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A quota of it, as streamed_per_day=20h or stored=10G; repeat it for several. "
            "docs/limits.md lists them.",
            show_default="none",
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="TIME|DATE",
            help="When it ends: in 30d, or on 2027-01-31 (UTC).",
            show_default="never",
        ),
    ] = None,
    audit_log: Audit = "",
) -> None:
    """Make a key, add it to the file, and print it: once, for the file holds only its hash.

    The key goes to standard output and nothing else does.
    """
    key = KEY_MARK + secrets.token_urlsafe(KEY_BYTES)
    fields = {
        "id": key_id,
        "sha256": digest_of(key),
        "tenant": tenant,
        "scopes": scope or [SESSION],
        "models": model or ALL,
        "max_sessions": max_sessions,
        "max_session_duration": max_session_duration,
        "expires": None if expires is None else _moment(expires),
        **{name: int(value) if value.isdecimal() else value for name, value in _limits(limit)},
    }
    entry = {name: value for name, value in fields.items() if value is not None}
    with _audited(audit_log, "key.new", key_id), _changing(file) as change:
        change(keys_editing.added(file.read_text() if file.exists() else "", entry))
    typer.echo(f"{file}: added {key_id}; its key, which is shown only now:", err=True)
    typer.echo(key)


@keys.command("list")
def list_keys(file: File) -> None:
    """List the keys of a file: never the keys themselves, which it does not hold."""
    table = Table("id", "tenant", "scopes", "models", "sessions", "duration", "expires")
    now = dt.datetime.now(dt.UTC).timestamp()
    for each in read(file).records:
        table.add_row(
            each.key_id,
            each.tenant,
            ", ".join(sorted(each.scopes)),
            ALL if each.models is None else ", ".join(sorted(each.models)),
            "any" if each.limits.max_sessions is None else str(each.limits.max_sessions),
            "any" if (most := each.limits.max_session_duration) is None else f"{most:g} s",
            _end_of(each, now),
        )
    show(table)


@keys.command("revoke")
def revoke_key(
    file: File,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Which; see `list`.")],
    audit_log: Audit = "",
) -> None:
    """Take a key out of the file: it makes no more tokens, and those it made are refused.

    A running service notices within seconds. Sessions that were created with it go on, for other
    keys of its tenant.
    """
    with _audited(audit_log, "key.revoke", key_id), _changing(file) as change:
        read(file)
        change(keys_editing.removed(file.read_text(), key_id))
    typer.echo(f"{file}: {key_id} is revoked", err=True)


@contextmanager
def _audited(file: str, action: str, key_id: str) -> Iterator[None]:
    """Remembers in the audit log which user of this machine changed the file of keys.

    Raises:
        ConfigurationError: The log cannot be written: nothing is changed.
    """
    log = AuditLog(file, role="keys")
    outcome = FAILED
    try:
        yield
        outcome = DONE
    finally:
        log.record(None, action, key_id, outcome, user=_user())
        log.close()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _limits(given: list[str] | None) -> list[tuple[str, str]]:
    """Returns the quotas of `--limit`; the file's reader judges their values.

    Raises:
        ConfigurationError: One is not a quota, or told by an option of its own.
    """
    told = pairs(given, "--limit")
    if unknown := sorted(told.keys() - QUOTAS):
        raise ConfigurationError(
            f"--limit knows {', '.join(sorted(QUOTAS))}, and not {', '.join(unknown)}"
        )
    return [*told.items()]


def _moment(text: str) -> dt.datetime:
    """Returns when `--expires` is: after a time from now, or at a date."""
    try:
        at = moment(text)
    except (ValueError, OverflowError):
        try:
            at = dt.datetime.now(dt.UTC).timestamp() + option_values.seconds(text, "--expires")
        except ConfigurationError:
            raise ConfigurationError(
                "--expires is a time from now, as 30d, or a date, as 2027-01-31"
            ) from None
    try:
        return dt.datetime.fromtimestamp(round(at), dt.UTC)
    except (ValueError, OverflowError, OSError):
        raise ConfigurationError("--expires is too far away") from None


def _end_of(record: KeyRecord, now: float) -> str:
    if record.expires_at is None:
        return "never"
    day = dt.datetime.fromtimestamp(record.expires_at, dt.UTC).strftime("%Y-%m-%d %H:%M")
    return f"{day} (over)" if record.is_over(now) else day


class _Change:
    """Puts a new content in the place of a file, whole."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self, text: str) -> None:
        before = self._file.stat() if self._file.exists() else None
        with tempfile.NamedTemporaryFile("w", dir=self._file.parent, delete=False) as fresh:
            try:
                fresh.write(text)
                fresh.flush()
                if before is not None:
                    _give(fresh.fileno(), before)
                os.fchmod(fresh.fileno(), before.st_mode & 0o777 if before else _FILE_MODE)
                Path(fresh.name).replace(self._file)
            except BaseException:
                with suppress(OSError):
                    Path(fresh.name).unlink()
                raise


def _give(fresh: int, before: os.stat_result) -> None:
    """Makes a file belong to whom the one before belongs: a service that may not read the new
    one would go on with the old keys.

    Raises:
        ConfigurationError: The caller may not do that.
    """
    owners = (before.st_uid, before.st_gid)
    now = os.fstat(fresh)
    if owners == (now.st_uid, now.st_gid):
        return
    try:
        os.fchown(fresh, *owners)
    except OSError as error:
        raise ConfigurationError(
            "the file of keys is not changed: it belongs to another user or group, and the new "
            f"one would not ({error.strerror}); run this as its owner or as root"
        ) from None


@contextmanager
def _changing(file: Path) -> Iterator[_Change]:
    """Keeps others of these commands from changing the file meanwhile.

    Raises:
        ConfigurationError: The file cannot be read or written.
    """
    # What a link leads to is changed, not the link.
    file = file.resolve()
    try:
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield _Change(file)
        finally:
            os.close(folder)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(f"the file of keys cannot be changed ({file}: {why})") from None
