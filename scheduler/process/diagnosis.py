"""Checks of a machine before it serves, for `sana-gateway doctor`.

A check is a plugin of the group `sana_gateway.checks`: a list of functions, each of which
looks at one thing and says what it found. Each package brings those of its own parts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

GROUP: Final = "sana_gateway.checks"
LONGEST_S: Final = 30.0
"""A check that takes longer is given up."""


class Verdict(StrEnum):
    """What a finding means."""

    FINE = "fine"
    NOTE = "note"
    """It serves, and something could be better, or could not be looked at."""
    FAULT = "fault"
    """It will not serve, or not safely."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing."""

    about: str
    """The thing, in a word or two."""
    verdict: Verdict
    found: str
    """What was found; never a secret."""
    advice: str = ""
    """What to do about it."""


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at: this machine, as a role with these settings would use it."""

    roles: frozenset[str]
    """Of `gateway`, `head` and `actor`, those that are to run here."""
    gateway: Any
    """`gateway.settings.GatewaySettings`."""
    told: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Options of `head` and `actor`, by role and name; what was not said is absent."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def option(self, role: str, name: str, default: Any = "") -> Any:  # noqa: ANN401 - of any option
        """Returns an option of a role."""
        value = self.told.get(role, {}).get(name)
        return default if value is None else value

    @property
    def tls_folders(self) -> list[Path]:
        """Folders with the certificates of the internal links."""
        said = [self.gateway.tls, *(self.option(role, "tls") for role in ("head", "actor"))]
        return sorted({Path(str(each)) for each in said if each})


Check = Callable[[Patient], Awaitable[Iterable[Finding]]]
"""Looks at one thing; nothing where it does not concern the roles. Never raises but by mistake."""


@dataclass(frozen=True, slots=True)
class Named:
    """A check and what it looks at."""

    about: str
    roles: frozenset[str]
    """It concerns a machine where one of these runs."""
    look: Check


async def examine(checks: Iterable[Named], patient: Patient) -> list[Finding]:
    """Looks at everything at once.

    Args:
        checks: What to look at.
        patient: Where.

    Returns:
        The findings in the order of the checks. A check that fails is a finding of its own.
    """
    chosen = [check for check in checks if check.roles & patient.roles]
    found = await asyncio.gather(*(_looked(check, patient) for check in chosen))
    return [finding for each in found for finding in each]


async def _looked(check: Named, patient: Patient) -> list[Finding]:
    try:
        async with asyncio.timeout(LONGEST_S):
            return list(await check.look(patient))
    except TimeoutError:
        said = f"no result within {LONGEST_S:.0f} s"
    except Exception as error:
        said = f"could not be looked at ({type(error).__name__})"
    return [Finding(check.about, Verdict.NOTE, said)]


def fine(about: str, found: str) -> list[Finding]:
    """Returns a finding that is as it should be."""
    return [Finding(about, Verdict.FINE, found)]


def note(about: str, found: str, advice: str) -> list[Finding]:
    """Returns a finding that could be better."""
    return [Finding(about, Verdict.NOTE, found, advice)]


def fault(about: str, found: str, advice: str) -> list[Finding]:
    """Returns a finding that keeps it from serving."""
    return [Finding(about, Verdict.FAULT, found, advice)]
