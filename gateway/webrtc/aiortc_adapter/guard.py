"""Which aiortc this package knows, and how its parts are looked up and replaced.

Every module of the package says at its top, with `uses`, what it touches that aiortc
does not promise to keep. `require_supported` checks the whole list before the first peer
is made; a test breaks each entry in turn and sees the check fail.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import aiortc

from scheduler.core.errors import ConfigurationError

SUPPORTED: Final = "1.16."
"""Releases of aiortc whose private parts are known here."""


@dataclass(frozen=True, slots=True)
class Part:
    """One private part that is used."""

    owner: Any
    """The class or module it belongs to."""
    name: str
    """Its name, mangled where it is a class's very own."""
    parameters: tuple[str, ...] | None = None
    """Names of the parameters of a function whose calls or replacements depend on them."""

    def __str__(self) -> str:
        owner = getattr(self.owner, "__name__", self.owner)
        return f"{owner}.{self.name}"


_parts: dict[tuple[int, str], Part] = {}
_MISSING: Final = object()


def uses(owner: object, *names: str, **functions: str) -> None:
    """Notes private parts of a class or module.

    Args:
        owner: The class or module.
        names: Its attributes; those of instances count when `__init__` sets them.
        functions: Its functions by name, each with the names of its parameters, `self`
            included, separated by blanks.
    """
    listed = [Part(owner, name) for name in names]
    listed += [Part(owner, name, tuple(taken.split())) for name, taken in functions.items()]
    _parts.update({(id(owner), part.name): part for part in listed})


def used() -> Iterator[Part]:
    """Returns every private part that this package uses."""
    return iter(tuple(_parts.values()))


def require_supported() -> None:
    """Passes an aiortc that this package knows.

    Raises:
        ConfigurationError: Another release is installed, or a part is missing or changed.
    """
    if not aiortc.__version__.startswith(SUPPORTED):
        raise ConfigurationError(
            f"WebRTC needs aiortc {SUPPORTED}x, installed is {aiortc.__version__}"
        )
    changed = [str(part) for part in used() if not _is_there(part)]
    if changed:
        raise ConfigurationError(
            f"aiortc {aiortc.__version__} is not as this gateway knows it: {', '.join(changed)}"
        )


def private(owner: object, name: str) -> Any:  # noqa: ANN401 - foreign parts have no types
    """Returns a private part of aiortc.

    Raises:
        ConfigurationError: It is not there.
    """
    try:
        return getattr(owner, name)
    except AttributeError:
        raise ConfigurationError(
            f"this aiortc ({aiortc.__version__}) has no {type(owner).__name__}.{name}"
        ) from None


def replace(owner: object, name: str, value: object) -> None:
    """Puts something in the place of a private part of aiortc.

    Raises:
        ConfigurationError: There is none of that name.
    """
    private(owner, name)
    setattr(owner, name, value)


def _is_there(part: Part) -> bool:
    found = getattr(part.owner, part.name, _MISSING)
    if found is _MISSING:
        # What an instance has is known by the code that gives it.
        initialise = getattr(part.owner, "__init__", None)
        code = getattr(initialise, "__code__", None)
        return part.parameters is None and code is not None and part.name in code.co_names
    if part.parameters is None:
        return True
    return callable(found) and tuple(inspect.signature(found).parameters) == part.parameters
