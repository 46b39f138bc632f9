"""What is installed only where it is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Says what to install where a package is missing.

    Args:
        extra: Name of the extra that brings the packages imported within.

    Raises:
        ModuleNotFoundError: One is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        hint = f"{error}: pip install 'sana-gateway-client[{extra}]'"
        raise ModuleNotFoundError(hint, name=error.name, path=error.path) from error
