"""The audit log: which operator did what, to what, with which result.

One JSON object a line, appended to a file of its own (`--audit-log FILE`). A line names the
caller by tenant and key id, never by a key or token, and holds nothing that a user brought. It
is written before the caller has its answer, with one call of the kernel, so that lines of the
processes of a host, which share the file, never mix. Who rotates it moves it away: the next
line makes a new one.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from opentelemetry import trace
from prometheus_client import Counter

from scheduler.core.errors import ConfigurationError, RequestError
from scheduler.core.ids import Principal

STANDARD_OUTPUT: Final = "-"
"""Name of the file that stands for standard output, where containers are listened to."""
MODE: Final = 0o600
"""Rights of a file that is made: its owner alone."""
LONGEST: Final = 200
"""Characters that are kept of a target, an outcome or a fact."""

DONE: Final = "done"
"""Outcome: what was asked for has been done, or has begun where it goes on by itself."""
FAILED: Final = "failed"
"""Outcome: a fault of ours. A refusal is `refused:` and the reason's code."""

LEFT: Final = "left"
"""Outcome: the caller went away before it was known."""

KEY_HOLDER: Final = "key:"
"""Begins the name of the holder that an API key is (`gateway.auth.api_key`)."""

_log = structlog.get_logger(__name__)
_LOST = Counter("sana_gateway_audit_lost", "Lines of the audit log that could not be written.", ())


class AuditLog:
    """Remembers what operators did."""

    def __init__(
        self,
        file: str | None = None,
        *,
        role: str = "gateway",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Opens the log.

        Args:
            file: Where to write, `-` for standard output; None or empty: nowhere.
            role: Which process writes; stands on every line.
            clock: Seconds since 1970.

        Raises:
            ConfigurationError: The file cannot be appended to.
        """
        self._path = Path(file) if file and file != STANDARD_OUTPUT else None
        self._role = role
        self._clock = clock
        self._descriptor: int | None = None
        if self._path is not None:
            try:
                self._descriptor = _opened(self._path)
            except OSError as error:
                raise ConfigurationError(
                    f"the audit log cannot be appended to: {error.strerror}"
                ) from error
        elif file:
            self._descriptor = os.dup(1)

    @property
    def is_on(self) -> bool:
        """Whether anything is written."""
        return self._descriptor is not None

    def record(
        self,
        principal: Principal | None,
        action: str,
        target: str = "",
        outcome: str = DONE,
        **facts: str | float | bool,
    ) -> None:
        """Writes a line. One that cannot be written is an error in the log and counted, and
        stops nobody: an operator has most to do when disks are full.

        Args:
            principal: Who did it; None: the service itself, or whoever may write its files.
            action: What, `actor.drain`.
            target: To what: an id of ours, never a name or text that a user chose.
            outcome: `done`, `left`, `failed`, or `refused:` and the reason's code.
            facts: More of the same kind, by name: ids, counts, times.
        """
        if self._descriptor is None:
            return
        line = {
            "time": datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds"),
            "role": self._role,
            "pid": os.getpid(),
            **_who(principal),
            "action": action,
            "target": target[:LONGEST],
            "outcome": outcome[:LONGEST],
            **{name: _short(fact) for name, fact in facts.items()},
            **_trace(),
        }
        try:
            self._append(json.dumps(line).encode() + b"\n")
        except OSError as error:
            _LOST.inc()
            _log.error("audit.lost", action=action, error=type(error).__name__)

    @contextmanager
    def around(
        self,
        principal: Principal | None,
        action: str,
        target: str = "",
        **facts: str | float | bool,
    ) -> Iterator[None]:
        """Records what becomes of the block: done, refused, left or failed; see `record`."""
        outcome = FAILED
        try:
            yield
            outcome = DONE
        except RequestError as error:
            outcome = f"refused:{error.reason}"
            raise
        except asyncio.CancelledError:
            outcome = LEFT
            raise
        finally:
            self.record(principal, action, target, outcome, **facts)

    def close(self) -> None:
        """Writes no more. Repeating it is no error."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _append(self, line: bytes) -> None:
        descriptor = self._current()
        while line:
            line = line[os.write(descriptor, line) :]

    def _current(self) -> int:
        """Returns the descriptor of what stands under the file's name now."""
        assert self._descriptor is not None  # noqa: S101 - asked by `record`
        if self._path is not None and not _is(self._path, self._descriptor):
            fresh = _opened(self._path)
            os.close(self._descriptor)
            self._descriptor = fresh
        return self._descriptor


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)


def _is(path: Path, descriptor: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    return False


def _who(principal: Principal | None) -> dict[str, object]:
    if principal is None:
        return {"tenant": None, "key": None, "scopes": []}
    keys = (each.name for each in principal.holders if each.name.startswith(KEY_HOLDER))
    key = next(keys, None)
    return {
        "tenant": principal.tenant,
        "key": None if key is None else key.removeprefix(KEY_HOLDER),
        "scopes": sorted(principal.scopes),
    }


def _short(fact: str | float | bool) -> str | int | float | bool:
    return fact[:LONGEST] if isinstance(fact, str) else fact


def _trace() -> dict[str, str]:
    context = trace.get_current_span().get_span_context()
    return {"trace_id": trace.format_trace_id(context.trace_id)} if context.is_valid else {}
